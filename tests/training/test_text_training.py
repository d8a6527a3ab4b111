"""Trainings on captions: what is trained on, resumed, refused, and started from."""

from __future__ import annotations

import pytest
import torch

from latentdiff import load, load_dataset, train_diffusion
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.training.conditions import conditions_of, example_captions

NETWORK = {"channels": (8, 8), "num_res_blocks": 1, "attention_levels": (1,), "head_channels": 8}
IMAGES = torch.randint(0, 256, (48, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
WORDS = ["a red dress", "a blue bag", "ein grünes Kleid", ""] * 12


def data(captions=WORDS):
    return load_dataset({"train": IMAGES, "val": IMAGES[:8]}, captions={"train": captions, "val": captions[:8]})


def train(dataset, images=32, **more):
    settings = {"validation_images": 8, "quality_images": 0, "network": NetworkConfig(**NETWORK, text="own")}
    trainer = TrainerConfig(max_images=images, batch_size=16, images_per_epoch=16, accelerator="cpu", num_threads=1)
    return train_diffusion(dataset, **{**settings, "trainer": trainer, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "words"
    return folder, train(data(), folder=folder)


def test_a_training_leaves_a_model_that_reads(run, capsys):
    folder, model = run
    assert model.captions == ("a blue bag", "a red dress", "ein grünes Kleid")
    assert {"red", "grünes"} <= set(model.network.tokenizer.words)
    assert torch.isfinite(torch.tensor([row["val_loss"] for row in model.metrics])).all()
    again = load(folder / "model.safetensors")
    asked = {"prompt": "a red bag", "guidance_scale": 2.0, "steps": 2}
    assert torch.equal(again.sample(2, **asked), model.sample(2, **asked))
    assert (folder / "samples").is_dir()


def test_captions_become_what_the_network_is_told(run):
    _, model = run
    told = conditions_of(model.network, data().train)
    assert torch.equal(told, model.network.tokenizer.encode(WORDS))
    assert not told[3].any()


@pytest.mark.slow
def test_class_dropout_hides_captions():
    """With all captions hidden, those of a batch are of no account."""
    network = NetworkConfig(**NETWORK, text="own")
    losses = []
    for captions in (WORDS, WORDS[::-1]):
        torch.manual_seed(0)
        trained = train(data(captions), network=network, diffusion=DiffusionConfig(class_dropout=1.0), images=16)
        losses.append(trained.network.state_dict()["stem.weight"])
    assert torch.equal(*losses)


def test_mirrored_images_have_the_caption_of_their_image(monkeypatch):
    given = {}

    def fit(module, tensors, *_):
        given["tensors"] = tensors
        raise KeyboardInterrupt

    monkeypatch.setattr("latentdiff.training.train_diffusion.fit", fit)
    dataset = load_dataset({"train": IMAGES}, captions={"train": WORDS}, hflip=True)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, validation_images=0)
    images, told = given["tensors"]
    assert len(images) == len(told) == 96
    assert torch.equal(told[:48], told[48:])


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_captions_alone(run, tmp_path, capsys):
    first = train(data(), 16, folder=tmp_path / "own")
    again = train(data(), 32, folder=tmp_path / "own", resume=True)
    whole = train(data(), 32, folder=tmp_path / "whole")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
    assert first.captions == again.captions
    with pytest.raises(CheckpointError, match="captions differ: the first is 'a red hat', and was 'a red dress'"):
        train(data(["a red hat", *WORDS[1:]]), 48, folder=tmp_path / "own", resume=True)


def test_images_without_captions_are_refused():
    with pytest.raises(ConfigError, match=r"have none: set --data\.captions"):
        train(load_dataset({"train": IMAGES, "val": IMAGES[:8]}))


def test_what_is_said_of_the_captions(capsys):
    network = NetworkConfig(**NETWORK, text="own", text_context=2)
    train(data(), network=network, images=16)
    said = capsys.readouterr().out
    assert "captions: 4 distinct ones, " in said
    assert "captions: 3 are longer than 2 tokens and are cut; the first is 'a red dress'" in said
    assert "captions: 12 of 48 images have none" in said


@pytest.mark.slow
def test_a_dry_run_counts_a_network_that_reads(capsys):
    train(data(), dry_run=True)
    assert "memory in all" in capsys.readouterr().out


def test_weights_of_other_words_are_matched_by_the_word(run, capsys):
    folder, model = run
    captions = ["a blue dress", "a red bag", "ein grünes Kleid", "a hat"] * 12
    tuned = train(
        data(captions),
        16,
        init=folder,
        trainer=None
        or TrainerConfig(max_images=16, batch_size=16, images_per_epoch=16, accelerator="cpu", num_threads=1, lr=0.0),
    )
    assert "words: 8 kept, 1 new, 0 dropped" in capsys.readouterr().out
    old, new = (m.network.tokenizer.encode(["red"])[0, 0] for m in (model, tuned))
    table = "text.tokens.weight"
    assert torch.isfinite(tuned.network.state_dict()[table][new]).all()
    assert old is not None


def test_examples_are_spread_over_all_captions():
    assert example_captions(("b", "a", " ", "a")) == ("a", "b")
    many = example_captions(tuple(f"{index:03d}" for index in range(640)))
    assert len(many) == 64
    assert many[:2] == ("000", "010")
