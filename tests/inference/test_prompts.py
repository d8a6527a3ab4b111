"""Models that read: prompts of a batch, negative prompts, what is refused, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff import checkpoint, load
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.inference.inpainting import inpaint
from latentdiff.inference.inversion import generate, interpolate, invert
from latentdiff.inference.likelihood import bits_per_dim
from latentdiff.inference.noising import reconstruct, reverse_process
from latentdiff.inference.prompts import parse_prompt
from latentdiff.stages import sample

SHORT = {"steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def file(reading_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("reading") / "words.safetensors"
    reading_model.save(path)
    return path


def test_prompts_of_a_batch_may_differ(reading_model):
    both = reading_model.sample(2, prompt=["a red dress", "a blue bag"], **SHORT)
    for index, prompt in enumerate(["a red dress", "a blue bag"]):
        alone = reading_model.sample(2, prompt=prompt, **SHORT)
        assert (both[index].int() - alone[index].int()).abs().max() <= 1
    assert not torch.equal(both, reading_model.sample(2, prompt="a green dress", **SHORT))


def test_without_a_prompt_captions_take_turns(reading_model):
    wanted = ["a red dress", "a blue bag", "a green ankle boot", "a red dress"]
    assert torch.equal(reading_model.sample(4, **SHORT), reading_model.sample(4, prompt=wanted, **SHORT))


def test_guidance_goes_away_from_the_negative_prompt(reading_model):
    """x0 = negative + scale (prompt - negative), of which each part is a sampling in one step."""

    def x0(prompt, scale=1.0, **more):
        request = {"prompt": prompt, "guidance_scale": scale, "sampler": "ddim", "steps": 1, "thresholding": "none"}
        return reading_model.sample(1, **request, **more).float()

    positive, negative = x0("a red dress"), x0("a blue bag")
    guided = x0("a red dress", 1.5, negative_prompt="a blue bag")
    inside = (guided > 0) & (guided < 255)
    apart = (guided - (negative + 1.5 * (positive - negative))).abs()[inside]
    assert inside.float().mean() > 0.3
    assert apart.max() <= 2
    nothing = x0("a red dress", 1.5)
    assert torch.equal(nothing, x0("a red dress", 1.5, negative_prompt=""))
    assert not torch.equal(nothing, guided)


@pytest.mark.parametrize("sampler", ["ddpm", "heun", "dpmpp_2m_sde", "unipc"])
def test_every_kind_of_sampler_takes_prompts(reading_model, sampler):
    drawn = reading_model.sample(
        2, prompt="a bag", negative_prompt="a boot", guidance_scale=2, sampler=sampler, steps=2
    )
    assert drawn.shape == (2, 3, 8, 8)


def test_new_words_and_long_prompts_are_told_once(reading_model, capsys):
    for _ in range(2):
        reading_model.sample(1, prompt="a purple kimono", steps=1)
    said = capsys.readouterr().out
    assert said.count("the model has never read purple, kimono: it spells them and guesses") == 1
    assert "tokens, but the model reads only 8: the rest is cut" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": 1}, "takes prompts, not labels"),
        ({"labels": "Dress"}, "takes prompts, not labels"),
        ({"prompt": ["a", "b", "c"]}, "3 texts were given as prompt for 2 images"),
        ({"prompt": 7}, "must be a text, or a list of texts"),
        ({"negative_prompt": "a"}, "does nothing at guidance_scale 1"),
        ({"negative_prompt": ["a"], "guidance_scale": 2}, "1 texts were given as negative_prompt"),
    ],
)
def test_what_is_no_prompt_is_refused(reading_model, settings, words):
    with pytest.raises(ConfigError, match=words):
        reading_model.sample(2, **settings)


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_model_of_classes_reads_no_words(tiny_model_file, name):
    with pytest.raises(ConfigError, match=f"takes no prompts: leave {name} out"):
        load(tiny_model_file).sample(1, **{name: "a dress"})


@pytest.mark.slow
def test_every_use_of_an_image_takes_a_prompt(reading_model):
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, 4:] = True
    guided = {"guidance_scale": 2.0, "steps": 2}
    red, blue = (
        [
            reconstruct(reading_model, images, [0.6], prompt=prompt, steps=2)[0],
            reconstruct(reading_model, images, [0.6], prompt="", negative_prompt=prompt, **guided)[0],
            inpaint(reading_model, images, mask, prompt=prompt, steps=2, resamples=1),
            generate(reading_model, invert(reading_model, images, prompt=prompt, steps=2), prompt=prompt, steps=2),
            interpolate(reading_model, images, images.flip(0), 3, prompt=prompt, steps=2)[1],
            bits_per_dim(reading_model, images, prompt=prompt, steps=2),
            reverse_process(reading_model, 2, 2, prompt=prompt, steps=2)[1],
        ]
        for prompt in ("a red dress", "a blue bag")
    )
    for one, other in zip(red, blue, strict=True):
        assert not torch.equal(one, other)
    with pytest.raises(ConfigError, match="takes one of them"):
        inpaint(reading_model, images, mask, 1, prompt="a")
    with pytest.raises(ConfigError, match="guidance_scale 1"):
        reconstruct(reading_model, images, [0.5], negative_prompt="a", steps=2)


def test_a_file_rebuilds_vocabulary_and_captions(reading_model, file):
    again = load(file)
    assert again.captions == reading_model.captions
    assert "reads 8 words" in repr(again)
    asked = {"prompt": ["a red boot", ""], **SHORT}
    assert torch.equal(again.sample(2, **asked), reading_model.sample(2, **asked))


def rewritten(file, path, **changed):
    stored = checkpoint.read_tensors(file)
    checkpoint.write_tensors(path, stored.tensors, {**stored.header, **changed})
    return path


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text": None}, "text must be what network.text own reads with"),
        ({"text": {"kind": "own", "context": 8, "words": ["a", "a"]}}, "words that differ"),
        ({"text": {"kind": "own", "context": 8, "words": [7]}}, "a list of names"),
        ({"text": {"kind": "own", "context": 0, "words": []}}, "text.context"),
        ({"text": {"kind": "own", "context": 8, "words": ["a"]}}, "do not fit the network"),
        ({"text": {"kind": "own", "context": 9, "words": [str(i) for i in range(8)]}}, "do not fit the network"),
        ({"text": {"kind": "transformers", "context": 8, "name": "x", "sha256": "0" * 64}}, "text.kind"),
        ({"captions": [1]}, "captions"),
    ],
)
def test_a_header_that_no_model_can_have_is_refused(file, tmp_path, changed, words):
    with pytest.raises(CheckpointError, match=words):
        load(rewritten(file, tmp_path / "bad.safetensors", **changed))


def test_a_guide_must_have_the_same_vocabulary(reading_model, file, tmp_path):
    model = load(file)
    assert model.sample(1, guide=str(file), guidance_scale=2, **SHORT).shape == (1, 3, 8, 8)
    words = [f"word{index}" for index in range(8)]
    other = rewritten(file, tmp_path / "other.safetensors", text={"kind": "own", "context": 8, "words": words})
    with pytest.raises(ConfigError, match="its vocabulary differs"):
        model.sample(1, guide=str(other), guidance_scale=2, **SHORT)
    with pytest.raises(ConfigError, match="leave one out"):
        model.sample(1, guide=str(file), guidance_scale=2, negative_prompt="a", **SHORT)


def test_the_stage_samples_in_words(file, tmp_path):
    flags = ["--model", str(file), "--num_images=2", "--steps=2", "--npz", "--device=cpu", "--guidance_scale=2"]
    prompts = ["a red dress", "a blue bag, please"]
    sample.main(
        [*flags, f"--prompt={json.dumps(prompts)}", "--negative_prompt=a boot", f"--run.folder={tmp_path / 'a'}"]
    )
    arrays = np.load(tmp_path / "a" / "samples.npz")
    assert arrays["prompts"].tolist() == prompts
    wanted = load(file).sample(2, prompt=prompts, negative_prompt="a boot", guidance_scale=2, steps=2)
    assert np.array_equal(arrays["images"].transpose(0, 3, 1, 2), wanted.numpy())
    sample.main([*flags, "--prompt=a red dress, a blue bag", f"--run.folder={tmp_path / 'b'}"])
    assert np.load(tmp_path / "b" / "samples.npz")["prompts"].tolist() == ["a red dress, a blue bag"] * 2


def test_the_stage_edits_in_words(file, tmp_path):
    for index in range(3):
        path = tmp_path / "images" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    table = tmp_path / "table.csv"
    table.write_text("file,caption\n0.png,a red dress\n1.png,a blue bag\n2.png,\n")
    data = ["--data.name=folder", f"--data.path={tmp_path / 'images'}", "--data.size=8"]
    data += ["--data.fractions=[0.1,0.0,0.9]", "--num_images=1", "--device=cpu"]
    flags = ["--model", str(file), *data, "--task=reconstruct", "--steps=2", "--strengths=[0.5]"]
    sample.main([*flags, "--prompt=a bag", f"--run.folder={tmp_path / 'a'}"])
    captioned = [f"--data.table={table}", "--data.captions=caption"]
    sample.main([*flags, *captioned, f"--run.folder={tmp_path / 'b'}"])
    assert (tmp_path / "a" / "grid.png").read_bytes() != (tmp_path / "b" / "grid.png").read_bytes()
    with pytest.raises(ConfigError, match="have no captions here"):
        sample.main([*flags, f"--run.folder={tmp_path / 'c'}"])


@pytest.mark.parametrize(
    ("given", "wanted"), [("a, b", "a, b"), ('["a, b", "c"]', ["a, b", "c"]), (("a", "b"), ("a", "b")), (None, None)]
)
def test_prompts_of_a_command_line(given, wanted):
    assert parse_prompt(given) == wanted


def test_a_broken_list_is_named():
    with pytest.raises(ConfigError, match="starts like a JSON list"):
        parse_prompt('["a"')


def test_damage_is_noticed(file, tmp_path):
    content = bytearray(file.read_bytes())
    content[content.index(b"ankle")] ^= 1
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)
