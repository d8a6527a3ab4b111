"""Models on the shelf: rounded, with a card, a shared or a swapped decoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from latentdiff import checkpoint, load
from latentdiff.errors import CheckpointError, FolderError, LatentdiffError
from latentdiff.files import file_sha256
from latentdiff.runs.model_card import card
from latentdiff.runs.release import with_short_history
from latentdiff.stages import autoencoder, diffusion, evaluate, release

pytestmark = pytest.mark.usefixtures("inside")


def test_a_decoder_trained_on_alone_leaves_the_latents_and_serves_the_model_trained_before(workbench, tiny):
    codec = "stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"
    model = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    # A decoder may gain what it had not got, such as a refinement.
    grown = ["--network.refine_channels=4", "--loss.frozen_encoder=true"]
    frozen = [*tiny.trainer, *tiny.codec, *grown, "--name=decoder"]
    with pytest.raises(ValueError, match="name that one with --init"):
        autoencoder.main(frozen)
    autoencoder.main([*frozen, "--init", codec])
    after = "stages/autoencoder/fashion-mnist-decoder/model.safetensors"
    # The same from the run, whose running encoder is not the averaged one that its model holds.
    autoencoder.main([*frozen[:-1], "--name=decoder_of_run", "--init", str(Path(codec).parent)])
    for path in (after, "stages/autoencoder/fashion-mnist-decoder_of_run/model.safetensors"):
        (_, before), (_, trained) = checkpoint.read(codec), checkpoint.read(path)
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], trained[name])}
        gained = {".".join(name.split(".")[:2]) for name in trained.keys() - before.keys()}
        assert (changed, gained) == ({"decoder"}, {"decoder.refine"})

    # A model written before a setting existed has not got it in its header.
    header, tensors = checkpoint.read(model)
    header["codec"]["autoencoder"].pop("patch")
    content = {key: value for key, value in header.items() if key not in ("format", "kind")}
    checkpoint.save(Path("older.safetensors"), "diffusion", tensors, content)
    release.main(["--model", "older.safetensors", "--autoencoder", after, "--to", "shelf/swapped.safetensors"])
    noise = load("shelf/swapped.safetensors").codec
    assert noise.same_space(load(model).codec)
    z = torch.randn(4, *noise.latent_shape)
    assert (noise.decode(z).int() - load(after).decode(z).int()).abs().max() <= 4  # bf16
    assert checkpoint.read_header("shelf/swapped.safetensors")["provenance"]["decoder"]["images_seen"] == 128
    card = Path("shelf/swapped.md").read_text()
    assert "trained on, behind the same encoder, to 128 images" in card
    assert "--loss.frozen_encoder=true" in card

    autoencoder.main([*tiny.trainer, *tiny.codec, "--name=other", "--trainer.seed=1"])
    other = "stages/autoencoder/fashion-mnist-other/model.safetensors"
    with pytest.raises(CheckpointError, match="is not the one that the model was trained with"):
        release.main(["--model", model, "--autoencoder", other, "--to", "shelf/wrong.safetensors"])
    pixel = "stages/diffusion/fashion-mnist-pixel/model.safetensors"
    with pytest.raises(CheckpointError, match="is not the one that the model was trained with"):
        release.main(["--model", pixel, "--autoencoder", other, "--to", "shelf/wrong.safetensors"])
    assert not Path("shelf/wrong.safetensors").exists()


def test_a_released_model_may_share_the_autoencoder_beside_it(workbench, capsys):
    codec = "stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"
    model = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    release.main(["--model", model, "--to", "whole/latent.safetensors"])
    arguments = ["--model", model, "--to", "pair/latent.safetensors", "--codec_beside=true"]
    with pytest.raises(CheckpointError, match=r"no pair/autoencoder.* release the model's"):
        release.main(arguments)
    release.main(["--model", codec, "--to", "pair/autoencoder.safetensors"])
    release.main(arguments)
    whole, pair = Path("whole/latent.safetensors"), Path("pair/latent.safetensors")
    assert pair.stat().st_size < whole.stat().st_size - 0.8 * Path("pair/autoencoder.safetensors").stat().st_size
    assert torch.equal(load(pair).sample(3, steps=2), load(whole).sample(3, steps=2))
    assert "autoencoder.safetensors beside it" in pair.with_suffix(".md").read_text()
    pixel = "stages/diffusion/fashion-mnist-pixel/model.safetensors"
    with pytest.raises(CheckpointError, match=r"no autoencoder: leave out --codec_beside"):
        release.main(["--model", pixel, "--to", "pair/pixel.safetensors", "--codec_beside=true"])
    # A released file can be released anew, whole or as it was, without the run that it came from.
    again = ["--model", "pair/latent.safetensors", "--to"]
    release.main([*again, "pair/whole.safetensors"])
    assert "codec_file" not in checkpoint.read_header("pair/whole.safetensors")
    assert torch.equal(load("pair/whole.safetensors").sample(3, steps=2), load(whole).sample(3, steps=2))
    release.main([*again, "pair/again.safetensors", "--codec_beside=true"])
    assert Path("pair/again.safetensors").read_bytes() == pair.read_bytes()
    Path("pair/again.safetensors").unlink()
    release.main(["--model", codec, "--to", "small/autoencoder.safetensors", "--precision=int8"])
    release.main(["--model", model, "--to", "small/latent.safetensors", "--codec_beside=true"])
    assert load("small/latent.safetensors").sample(3, steps=2).shape == (3, 1, 28, 28)
    Path("thesis.tex").write_text("precious")
    with pytest.raises(FolderError, match=r"thesis\.tex is not a model of latentdiff, and would be overwritten"):
        release.main([*again, "thesis.tex", "--overwrite"])
    assert Path("thesis.tex").read_text() == "precious"
    Path("notes.md").write_text("precious")
    for to, message in (
        ("notes.safetensors", r"notes\.md, the file for the card, is not a model card, and would be overwritten"),
        (model, "is the run's own model"),
        ("card", r"--to card: a released file's name ends in \.safetensors"),
    ):
        with pytest.raises(LatentdiffError, match=message):
            release.main([*again, to, "--overwrite"])
    assert Path("notes.md").read_text() == "precious"
    capsys.readouterr()
    release.main(["--model", codec, "--to", "pair/autoencoder.safetensors", "--overwrite"])
    assert "was replaced" not in capsys.readouterr().out  # by the same
    header, tensors = checkpoint.read(codec)
    checkpoint.save(
        Path("other.safetensors"), "autoencoder", {**tensors, "latent_std": tensors["latent_std"] + 1}, header
    )
    release.main(["--model", "other.safetensors", "--to", "pair/autoencoder.safetensors", "--overwrite"])
    assert "pair/latent.safetensors decodes with the file that was replaced" in capsys.readouterr().out
    content = Path("pair/autoencoder.safetensors").read_bytes()
    Path("pair/autoencoder.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"pair/autoencoder\.safetensors is damaged"):
        checkpoint.read("pair/autoencoder.safetensors")
    checkpoint.save(Path("pair/autoencoder.safetensors"), "autoencoder", tensors, header)
    with pytest.raises(CheckpointError, match="is not the autoencoder that pair/latent"):
        load(pair)
    Path("pair/autoencoder.safetensors").unlink()
    with pytest.raises(CheckpointError, match="which is missing in its folder: copy both files"):
        load(pair)


def test_a_model_that_knows_nothing_of_its_training_is_released(workbench):
    for source, name in (("diffusion/fashion-mnist-pixel", "bare"), ("autoencoder/fashion-mnist-autoencoder", "codec")):
        header, tensors = checkpoint.read(f"stages/{source}/model.safetensors")
        checkpoint.save(Path(f"{name}.safetensors"), header["kind"], tensors, header | {"provenance": None})
        release.main(["--model", f"{name}.safetensors", "--to", f"bare/{name}.safetensors"])
        assert f"# {name}\n" in Path(f"bare/{name}.md").read_text()
    latent = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    release.main(["--model", latent, "--autoencoder=codec.safetensors", "--to=bare/swapped.safetensors"])
    assert "| Decoder | trained on, behind the same encoder |" in Path("bare/swapped.md").read_text()


def test_a_released_history_is_short_and_still_a_curve():
    row = {"images_seen": 123456, "loss": 0.123456789, "seconds": 1234567.8, "latent_std_0": 1.0}
    short = with_short_history({"seconds": 1.23456789, "history": [row]})
    assert short == {"seconds": 1.23456789, "history": [{"images_seen": 123456, "loss": 0.12346, "seconds": 1234600.0}]}
    assert with_short_history({"seconds": 1.0}) == {"seconds": 1.0}


def test_release_halves_the_file_and_writes_a_card(workbench, tiny):
    source = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    arguments = ["--model", source, "--to", "shelf/latent.safetensors"]
    release.main(arguments)
    assert Path("shelf/latent.safetensors").stat().st_size < 0.7 * Path(source).stat().st_size
    card = Path("shelf/latent.md").read_text()
    assert "--trainer.max_images=64" in card
    assert "embedded set" in card
    assert load("shelf/latent.safetensors").sample(2, steps=2).shape == (2, 1, 28, 28)
    with pytest.raises(FolderError, match="is there already"):
        release.main(arguments)
    measuring = ["--data.source=embedded", "--num_images=40", "--inception=off", "--lpips=off"]
    measuring += ["--model=shelf/latent.safetensors"]
    evaluate.main([*measuring, "--steps=2", "--run.folder=measured"])
    evaluate.main([*measuring, "--steps=3", "--guidance_scale=1.5", "--run.folder=guided"])
    with pytest.raises(ValueError, match="needs --evaluation"):
        release.main([*arguments, "--overwrite", "--more_evaluations=[guided]"])
    release.main([*arguments, "--overwrite", "--evaluation=measured", "--more_evaluations=[guided]"])
    card = Path("shelf/latent.md").read_text()
    first, second = card.split("Measured on this file, 40 images:")[1:]
    assert "2 steps, guidance off" in first
    assert "3 steps, guidance 1.5" in second
    assert "classifier distance to test" in card
    assert "![Samples](latent.jpg)" in card
    assert "MIT licence" in card
    assert Image.open("shelf/latent.jpg").height == 4 * 58 + 2
    Path("shelf/photo.jpg").write_text("precious")
    with pytest.raises(FolderError, match=r"photo\.jpg, the file for the samples, does not belong to a released model"):
        release.main([*arguments[:3], "shelf/photo.safetensors", "--overwrite", "--evaluation=measured"])
    shutil.copy("shelf/latent.safetensors", "shelf/guide.safetensors")
    guided = ["--steps=2", "--guide=shelf/guide.safetensors", "--guidance_scale=2", "--run.folder=by_a_guide"]
    evaluate.main([*measuring, *guided])
    release.main([*arguments, "--overwrite", "--evaluation=by_a_guide"])
    digest = file_sha256("shelf/guide.safetensors")
    assert f"guide shelf/guide.safetensors (SHA-256 {digest[:12]})" in Path("shelf/latent.md").read_text()
    load("shelf/guide.safetensors").save(Path("shelf/guide.safetensors"), {})
    with pytest.raises(ValueError, match="made with another guide than the present shelf/guide"):
        release.main([*arguments, "--overwrite", "--evaluation=by_a_guide"])
    release.main(["--model", source, "--to", "shelf/latent.safetensors", "--overwrite"])
    diffusion.main([*tiny.trainer, *tiny.unet, "--name=other", "--trainer.seed=1"])
    other = "stages/diffusion/fashion-mnist-other/model.safetensors"
    with pytest.raises(ValueError, match="measured another file"):
        release.main(["--model", other, "--to", "shelf/other.safetensors", "--evaluation=measured"])
    anew = ["--model", other, "--to", "shelf/latent.safetensors", "--overwrite"]
    release.main(anew)
    evaluate.main([*measuring, "--steps=2", "--run.folder=measured", "--run.overwrite=true"])
    with pytest.raises(ValueError, match="guided measured another file"):
        release.main([*anew, "--evaluation=measured", "--more_evaluations=[guided]"])


def test_a_card_says_that_colours_are_smoothed():
    made = {"data": {"name": "celeba", "images": 10, "source": "full"}, "images_seen": 20, "seconds": 60.0}
    made |= {"images_per_second": 1.0, "device": "a CPU", "peak_memory_bytes": 1, "environment": {}, "command": "c"}

    def text(smooth: bool) -> str:
        codec = {"image_shape": [3, 8, 8], "autoencoder": {"smooth_colours": smooth}}
        header = {"kind": "autoencoder", "codec": codec, "provenance": made}
        return card(Path("shelf/autoencoder.safetensors"), header, 5)

    assert "smooth" not in text(False)
    assert "smoothed as they are decoded (`network.smooth_colours`) |" in text(True)
