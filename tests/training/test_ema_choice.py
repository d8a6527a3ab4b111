from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from latentdiff import checkpoint, load
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.resources import find_checkpoint
from latentdiff.stages import autoencoder, diffusion, evaluate, release
from latentdiff.training import ema_choice
from latentdiff.training.ema_choice import CANDIDATES, write_ema_model
from latentdiff.training.latent_statistics import latent_statistics
from latentdiff.training.post_hoc_ema import rebuild_average

SNAPSHOTS = ["--trainer.ema_snapshots=4", "--trainer.images_per_epoch=16"]
MEASURE = ["--num_images=20", "--real_images=20", "--inception=off", "--lpips=off", "--steps=2"]


RUN = Path("stages/diffusion/fashion-mnist-p")


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A folder with a small pixel model's run with snapshots."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        diffusion.main([*tiny.trainer, *tiny.unet, *SNAPSHOTS, "--autoencoder=none", "--quality_images=0", "--name=p"])
    return folder


@pytest.fixture
def pixel(trained):
    """The run's folder, a copy for each test."""
    shutil.copytree(trained / RUN, RUN)
    return RUN


@pytest.fixture
def distances(monkeypatch):
    """The distances that the probe finds, one for each average from the run's own on; it ends the test for more."""
    left = []

    class Probe(SimpleNamespace):
        metric = "distance"

        def sample(self, model):
            return torch.zeros(4, 1, 28, 28, dtype=torch.uint8)

        def distance_of(self, images):
            return left.pop(0)

    monkeypatch.setattr(ema_choice.QualityProbe, "build", lambda *_: Probe())
    return left


def test_a_named_length_is_rebuilt_measured_and_released(pixel):
    path = write_ema_model(pixel, 0.1)
    assert path == pixel / "ema-0.1.safetensors"
    made, wanted = load(path), load(pixel)
    rebuild_average(pixel, 0.1, wanted.network)
    assert all(
        torch.equal(tensor, made.network.state_dict()[name]) for name, tensor in wanted.network.state_dict().items()
    )
    assert not torch.equal(next(made.network.parameters()), next(load(pixel).network.parameters()))
    assert made.provenance["ema"] == {"length": 0.1}
    evaluate.main(["--model", str(pixel), "--ema=0.1", *MEASURE, "--data.source=embedded"])
    values = json.loads(Path("stages/evaluate/fashion-mnist-p-ema-0.1/evaluation.json").read_text())
    assert values["model"]["sha256"] == ema_choice.file_sha256(path)
    release.main(["--model", str(pixel), "--ema=0.1", "--to=p.safetensors"])
    assert "an average over 0.1 of the run" in Path("p.md").read_text()


def test_auto_takes_what_validation_images_like_best_and_remembers(pixel, distances, monkeypatch):
    monkeypatch.setattr(ema_choice, "validation_images", lambda data: ema_choice.load_dataset(data).test)
    distances += [9.0, 8.0, 7.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    path = write_ema_model(pixel, "auto")
    assert path == pixel / f"ema-{CANDIDATES[2]:g}.safetensors"
    assert load(path).provenance["ema"]["values"]["0.05"] == 3.0
    assert not distances
    assert write_ema_model(pixel, "auto") == path  # without another look
    assert load(write_ema_model(pixel, 0.1)).provenance["ema"] == {"length": 0.1}  # named, so not the best
    record = json.loads((pixel / "ema.json").read_text())
    (pixel / "ema.json").write_text(json.dumps(record | {"model_sha256": "another model"}))
    distances += [1.0, *[2.0] * len(CANDIDATES)]
    assert write_ema_model(pixel, "auto") == pixel / "model.safetensors"


def test_what_has_no_averages_is_refused(pixel, tiny):
    with pytest.raises(CheckpointError, match="needs the model of a finished run"):
        write_ema_model(find_checkpoint("fashion-mnist/latent.safetensors"), 0.1)
    with pytest.raises(ConfigError, match=r"an average's length is from 0\.01 to 0\.28"):
        write_ema_model(pixel, 0.5)
    last = sorted((pixel / "ema").iterdir())[-1]
    last.rename(last.with_name(f"{10**6:012d}.safetensors"))
    with pytest.raises(CheckpointError, match="after 1,000,000 images, and the model after 64"):
        write_ema_model(pixel, 0.1)
    for path in (pixel / "ema").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match=r"--trainer\.ema_snapshots 20"):
        write_ema_model(pixel, "auto")
    with pytest.raises(ConfigError, match="ema must be a number"):
        evaluate.main(["--model", str(pixel), "--ema=best"])


def test_data_without_validation_images_choose_nothing(monkeypatch):
    splits = SimpleNamespace(held_out=SimpleNamespace(split="test"))
    monkeypatch.setattr(ema_choice, "load_dataset", lambda _: splits)
    with pytest.raises(ConfigError, match="folder has none"):
        ema_choice.validation_images(ema_choice.DataConfig(name="folder", path="photos"))


@pytest.mark.parametrize("frozen", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_frozen_encoder_keeps_its_latents_and_a_moving_one_gets_new_statistics(tiny, frozen, tmp_path):
    phases = tmp_path / "phases.yaml"
    phases.write_text("phases: [{start: 0.5, frozen_encoder: true}]" if frozen else "{}")
    autoencoder.main(["--config", str(phases), *tiny.trainer, *tiny.codec, *SNAPSHOTS, "--name=a"])
    folder = Path("stages/autoencoder/fashion-mnist-a")
    before, after = load(folder), load(write_ema_model(folder, 0.05))
    encoders = [torch.cat([each.flatten() for each in codec.model.encoder.parameters()]) for codec in (before, after)]
    decoders = [torch.cat([each.flatten() for each in codec.model.decoder.parameters()]) for codec in (before, after)]
    assert not torch.equal(*decoders)
    assert torch.equal(*encoders) == frozen
    assert torch.equal(before.mean, after.mean) == frozen
    if not frozen:
        images = ema_choice.load_dataset(
            ema_choice.from_dict(ema_choice.DataConfig, before.settings["data"])
        ).train.images
        assert torch.allclose(after.std, latent_statistics(after.model, images)[1])
    assert checkpoint.read_header(folder / "ema-0.05.safetensors")["kind"] == "autoencoder"
