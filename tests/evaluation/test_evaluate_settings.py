"""What the evaluate stage refuses before any work, and what it says is of no effect."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from latentdiff import resources as shelf
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.evaluation.evaluate import check_extras
from latentdiff.evaluation.image_sources import ImageSource
from latentdiff.files import file_sha256
from latentdiff.stages import evaluate

USUAL = ["--data.source=embedded", "--lpips=off", "--inception=off", "--run.folder=made"]
FEW = "--real_images=20"  # else each evaluation takes the features of all
NOISE = ["--model=noise", "--num_images=20"]


@pytest.fixture(autouse=True)
def theirs():
    np.savez("theirs.npz", images=np.zeros((20, 28, 28), np.uint8))
    return "theirs.npz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=theirs.npz", "--batch_size=0"], "batch_size must be a whole number from 1 to 1,000,000, not 0"),
        ([*NOISE, "--batch_size=-1"], "batch_size must be a whole number from 1 to 1,000,000, not -1"),
        ([*NOISE, "--num_images=1"], "num_images must be a whole number from 2"),
        ([*NOISE, "--real_images=1"], "real_images must be a whole number from 2"),
        ([*NOISE, "--name=two\nlines"], "one line of text"),
        ([*NOISE, "--name= "], "one line of text"),
        ([*NOISE, "--name=in/side", "--run.folder=null"], "must be a name without /"),
        ([*NOISE, "--mode=prior"], "for autoencoders, which noise is not"),
        (["--model=theirs.npz", "--mode=prior"], "for autoencoders, which theirs.npz is not"),
        ([*NOISE, "--reconstruct=train"], "for an autoencoder's reconstructions, not for noise"),
        (["--model=theirs.npz", "--reconstruct=train"], "reconstructions, not for theirs.npz"),
        ([*NOISE, "--inception_weights=absent.pth"], "what inception off leaves out"),
        ([*NOISE, "--inception_taps=[64]"], "the FID Inception is off or not here, which inception_taps"),
        ([*NOISE, "--kid_subsets=0"], "kid_subsets must be a whole number from 1 to 1,000,000, not 0"),
        ([*NOISE, "--kid_subset_size=1"], "kid_subset_size must be a whole number from 2"),
        ([*NOISE, "--kid_subset_size=10"], "the FID Inception is off or not here, which kid_subset_size"),
        ([*NOISE, "--kid_subsets=10"], "the FID Inception is off or not here, which kid_subsets"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_folder_is_touched(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate.main([*USUAL, *arguments])
    assert not Path("made").exists()


def test_a_subset_may_be_all_images_but_no_more():
    source = ImageSource("noise", iter(()))
    for size in (50, 51):
        settings = EvaluateStage(model="noise", kid_subset_size=size)
        with pytest.raises(ConfigError, match="51 cannot be drawn from 60") if size > 50 else nullcontext():
            check_extras(settings, {"inception": None}, 60, 50, source)


@pytest.mark.parametrize("content", [None, b"damaged", save({"features.0.weight": torch.zeros(64, 3, 3, 3)})])
def test_an_lpips_trunk_that_was_named_and_cannot_serve_is_refused_before_a_folder_is_touched(monkeypatch, content):
    file = Path("trunks/alexnet_features.safetensors")
    named = "there is no LPIPS trunk trunks/alexnet"
    if content is not None:
        file.parent.mkdir()
        file.write_bytes(content)
        named = rf"{file} \(SHA-256 {file_sha256(file)[:12]}\)"
    monkeypatch.setenv("LATENTDIFF_LPIPS", str(file.parent))
    with pytest.raises(CheckpointError, match=named):
        evaluate.main([*USUAL, *NOISE, "--lpips=auto"])
    assert not Path("made").exists()


def test_a_prior_is_not_asked_of_a_diffusion_model():
    latent = shelf.find_checkpoint("fashion-mnist/latent.safetensors")
    if latent is None:
        pytest.skip("the released model is not installed")
    with pytest.raises(ValueError, match="for autoencoders"):
        evaluate.main([*USUAL, f"--model={latent}", "--mode=prior", "--num_images=20"])
    with pytest.raises(CheckpointError, match="absent"):
        evaluate.main([*USUAL, "--model=absent.safetensors", "--mode=prior"])


def test_settings_of_the_sampler_that_do_not_count_are_named(capsys):
    evaluate.main([*USUAL, *NOISE, FEW, "--steps=5", "--guidance_scale=2", "--seed=3", "--batch_size=7"])
    said = capsys.readouterr().out
    assert "of no effect on these images: guidance_scale, steps\n" in said
    # Without Inception's line before it, this one must say of itself what it is about.
    assert "images than 99 % of the test images are" not in said  # noise repeats nothing
    evaluate.main([*USUAL, FEW, "--model=theirs.npz", "--run.overwrite"])
    said = capsys.readouterr().out
    assert "are closer to one of all 10,000 training images than 99 % of the test images are" in said
    assert "of no effect" not in said


def test_the_images_that_are_measured_are_never_overwritten(theirs):
    folder = Path("made")
    evaluate.main([*USUAL, *NOISE, FEW])
    (folder / theirs).write_bytes(Path(theirs).read_bytes())
    with pytest.raises(FolderError, match="is read from it"):
        evaluate.main([*USUAL, f"--model={folder / theirs}", "--run.overwrite"])
    assert (folder / theirs).is_file()
    assert (folder / "evaluation.json").is_file()
