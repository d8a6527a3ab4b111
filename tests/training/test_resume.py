"""A run that is killed and resumed must end with the very weights of one that was left alone."""

from __future__ import annotations

import csv
import dataclasses
import os

import lightning
import pytest
import torch

from latentdiff.codec import IdentityCodec
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.errors import CheckpointError, DivergenceError
from latentdiff.run_checkpoint import read as read_checkpoint
from latentdiff.training import chosen_precision
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.callbacks import EpochEnd
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.trainer import fit

SETTINGS = TrainerConfig(max_images=100, images_per_epoch=32, batch_size=8, lr_warmup_images=16, accelerator="cpu")


def diffusion_module():
    torch.manual_seed(0)
    network = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8, dropout=0.2)
    return DiffusionModule(IdentityCodec((1, 6, 6)), 3, network, DiffusionConfig(), SETTINGS)


def autoencoder_module():
    torch.manual_seed(0)
    config = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
    loss = AutoencoderLossConfig(perceptual_weight=0, adversarial_start=24, discriminator_channels=8)
    return AutoencoderModule((1, 6, 6), config, loss, SETTINGS, None)


def read_rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


class Killed(Exception):
    pass


class Kill(lightning.Callback):
    """Ends the process's work in the middle of an epoch."""

    def __init__(self, after_images):
        self.after_images = after_images

    def on_train_batch_end(self, trainer, module, *_):
        if module.images_seen >= self.after_images:
            raise Killed


def train(module, folder, resume=False, kill=None, more=()):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (20, 1, 6, 6), dtype=torch.uint8, generator=generator)
    tensors = (images, torch.arange(20) % 3) if isinstance(module, DiffusionModule) else (images,)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    callbacks = [EpochEnd(folder)]
    return fit(module, tensors, folder, callbacks + ([Kill(kill)] if kill else []) + [*more], resume)


@pytest.mark.parametrize("make", [diffusion_module, autoencoder_module])
@pytest.mark.parametrize("kill", [40, 96])
def test_killed_and_resumed_is_bit_for_bit_the_same(make, kill, tmp_path):
    alone = train(make(), tmp_path / "alone")
    with pytest.raises(Killed):
        train(make(), tmp_path / "killed", kill=kill)
    resumed = train(make(), tmp_path / "killed", resume=True)
    assert alone.images_seen == resumed.images_seen == 104
    assert alone.step_flops.total == resumed.step_flops.total > 0
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    rows = [read_rows(tmp_path / run / "metrics.csv") for run in ("alone", "killed")]
    assert [row["images_seen"] for row in rows[0]] == ["32", "64", "96", "104"]
    timeless = [[{k: v for k, v in row.items() if "second" not in k} for row in run] for run in rows]
    assert timeless[0] == timeless[1]


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    done = train(diffusion_module(), tmp_path)
    again = train(diffusion_module(), tmp_path, resume=True)
    assert again.images_seen == done.images_seen
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in done.state_dict().items())


def test_checkpoint_holds_plain_types_and_no_feature_net(tmp_path):
    train(autoencoder_module(), tmp_path)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["latentdiff"]["images_seen"] == 104
    assert not any("perceptual" in name for name in checkpoint["state_dict"])


def test_training_lowers_the_loss(tmp_path):
    torch.manual_seed(0)
    network = NetworkConfig(channels=(16,), num_res_blocks=1, attention_levels=(), head_channels=8)
    settings = TrainerConfig(max_images=4_000, images_per_epoch=400, batch_size=20, lr_warmup_images=100)
    module = train(DiffusionModule(IdentityCodec((1, 6, 6)), 3, network, DiffusionConfig(), settings), tmp_path)
    losses = [row["loss"] for row in module.history]
    assert losses[-1] < 0.8 * losses[0]


def test_a_run_without_an_end_or_with_a_loss_that_is_not_finite_says_so(tmp_path):
    module = diffusion_module()
    module.settings = TrainerConfig(max_images=None, max_seconds=None, accelerator="cpu")
    with pytest.raises(ValueError, match="needs an end"):
        train(module, tmp_path)
    module = diffusion_module()
    with torch.no_grad():
        module.network.stem.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"--trainer\.lr"):
        train(module, tmp_path)


def test_seconds_end_a_run_too(tmp_path, monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_JOB_ID"):  # of a job of four tasks, in which srun began nothing
        monkeypatch.setenv(name, "4")
    module = diffusion_module()
    module.settings = TrainerConfig(max_images=None, max_seconds=0.2, batch_size=8, accelerator="cpu")
    train(module, tmp_path)
    assert module.finished()
    assert module.seconds >= 0.2
    assert module.images_seen > 0


def test_a_damaged_checkpoint_is_not_resumed_from_and_the_one_before_it_is_offered(tmp_path):
    alone = train(diffusion_module(), tmp_path / "alone")
    with pytest.raises(Killed):
        train(diffusion_module(), tmp_path / "killed", kill=96)
    path = tmp_path / "killed" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"of 32 images\. To go on from there:\nmv ") as caught:
        train(diffusion_module(), tmp_path / "killed", resume=True)
    assert os.system(str(caught.value).splitlines()[-1]) == 0
    resumed = train(diffusion_module(), tmp_path / "killed", resume=True)
    assert resumed.images_seen == 104
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in alone.state_dict().items())


class Spoil(lightning.Callback):
    """Makes a weight, of the network or of the average, not finite after so many images."""

    def __init__(self, after_images, part, value):
        self.after_images, self.part, self.value = after_images, part, value

    def on_train_batch_end(self, trainer, module, *_):
        if module.images_seen >= self.after_images:
            network = module.network if self.part == "network" else module.ema.network
            with torch.no_grad():
                next(network.parameters()).view(-1)[0] = self.value


@pytest.mark.parametrize("make", [diffusion_module, autoencoder_module])
@pytest.mark.parametrize(("part", "value"), [("network", float("nan")), ("average", float("inf"))])
def test_weights_that_are_not_finite_after_the_last_step_are_kept_nowhere(make, part, value, tmp_path):
    module = make()
    with pytest.raises(DivergenceError, match=r"weights are NaN or infinite after 104 images\. Lower --trainer\.lr"):
        train(module, tmp_path, more=[Spoil(104, part, value)])
    assert read_checkpoint(tmp_path / "last.ckpt")["latentdiff"]["images_seen"] == 96
    assert [row["images_seen"] for row in read_rows(tmp_path / "metrics.csv")] == ["32", "64", "96"]
    resumed = train(make(), tmp_path, resume=True)  # the last good one goes on
    assert resumed.images_seen == 104
    assert all(tensor.isfinite().all() for tensor in resumed.state_dict().values())


def test_a_mean_loss_that_is_not_finite_ends_a_run(tmp_path):
    module = diffusion_module()
    step = module.train_batch
    module.train_batch = lambda batch: step(batch) | {"loss": torch.tensor(float("nan"))}
    with pytest.raises(DivergenceError, match=r"losses \(loss\) are NaN or infinite after 32 images"):
        train(module, tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_model_that_cannot_draw_yet_trains_on(tmp_path, capsys):
    class Undrawn(EpochEnd):
        def evaluate(self):
            raise DivergenceError("samples hold NaN or infinity")

    (tmp_path / "samples").mkdir()
    own = diffusion_module()
    own.settings = dataclasses.replace(own.settings, monitor="distance")
    images = torch.randint(0, 256, (20, 1, 6, 6), dtype=torch.uint8)
    fit(own, (images, torch.arange(20) % 3), tmp_path, [Undrawn(tmp_path)])
    assert own.images_seen == 104
    assert "samples hold NaN or infinity" in capsys.readouterr().out


@pytest.mark.parametrize(("supported", "kept"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_resumed_run_keeps_the_precision_that_auto_chose(supported, kept, tmp_path, monkeypatch):
    """Where the machine measures another result, or none, as on another machine without bf16."""
    monkeypatch.setattr(chosen_precision, "supports_bf16", lambda _: supported)
    monkeypatch.setattr(chosen_precision, "resolve_precision", lambda *_: torch.bfloat16)
    with pytest.raises(Killed):
        train(diffusion_module(), tmp_path, kill=40)
    monkeypatch.setattr(chosen_precision, "resolve_precision", lambda *_: torch.float32)
    assert train(diffusion_module(), tmp_path, resume=True).dtype_of_run == kept
