from __future__ import annotations

import pytest
import torch

from latentdiff import distributed
from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.data import Batches
from latentdiff.diffusion.target import loss_weight
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.training.diffusion_module import DiffusionModule

CODEC = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
NETWORK = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)


def codec():
    return AutoencoderCodec(Autoencoder((1, 8, 8), CODEC), CODEC, torch.zeros(2), torch.ones(2))


class Recorder:
    """Stands for the network, and keeps what it was given."""

    null_label = 3

    def parameters(self):
        return []

    def __call__(self, x, time, labels):
        self.given = (x, time, labels)
        return torch.zeros_like(x, requires_grad=True)


CPU = torch.device("cpu")


def given(monkeypatch, rank, world_size, device=CPU):
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world_size", lambda: world_size)
    torch.manual_seed(0)
    settings = TrainerConfig(batch_size=16, accelerator="cpu")
    module = DiffusionModule(codec(), 3, NETWORK, DiffusionConfig(class_dropout=0.5), settings)
    moments, labels = torch.randn(40, 4, 4, 4), torch.arange(40) % 3
    batches = Batches(moments.to(device), labels.to(device), batch_size=16, seed=0, rank=rank, world_size=world_size)
    recorder = Recorder()
    # A plain stand-in: the step's arithmetic is what is under test, not the optimiser.
    stub = type("Stub", (), dict(vars(module)))()
    for name in ("codec", "diffusion", "schedule", "target", "settings"):
        setattr(stub, name, getattr(module, name))
    part = 16 // world_size
    stub.network, stub.images_seen, stub.device = recorder, 32, device
    stub.codec.to(device)
    stub.local_slice = slice(rank * part, (rank + 1) * part)
    stub.images_seen_after_step, stub.variance_loss = 48, None
    stub.optimizers = lambda: None
    stub.optimise = lambda optimizer, parameters, losses, count: (losses[0](slice(0, count)).logs, None)
    for name in ("_micro_batch", "batch_random", "stratified_times"):
        setattr(stub, name, getattr(DiffusionModule, name).__get__(stub))
    stub.update_averages = lambda: None
    losses = DiffusionModule.train_batch(stub, batches.at(32))
    return recorder.given, losses["loss"]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_the_one_global_batch(world_size, device, monkeypatch):
    whole, loss = given(monkeypatch, 0, 1, device)
    parts = [given(monkeypatch, rank, world_size, device) for rank in range(world_size)]
    for index, tensor in enumerate(whole):
        assert torch.equal(tensor, torch.cat([inputs[index] for inputs, _ in parts]))
    torch.testing.assert_close(loss, torch.stack([share for _, share in parts]).mean())


def test_noise_levels_are_spread_evenly_and_classes_are_hidden(monkeypatch):
    (_, time, labels), _ = given(monkeypatch, 0, 1)
    assert torch.equal((time / 1000 * 16).long().sort().values, torch.arange(16))
    assert 2 <= (labels == 3).sum() <= 14


def test_eps_on_unbounded_latents_needs_a_schedule_that_leaves_some_signal():
    with pytest.raises(ValueError, match=r"--diffusion\.target v"):
        DiffusionModule(codec(), 3, NETWORK, DiffusionConfig(target="eps"), TrainerConfig())
    DiffusionModule(codec(), 3, NETWORK, DiffusionConfig(target="eps", schedule="linear"), TrainerConfig())
    DiffusionModule(IdentityCodec((1, 8, 8)), 3, NETWORK, DiffusionConfig(target="eps"), TrainerConfig())


def test_validation_loss_is_the_training_loss_of_the_averaged_network_without_dropout_of_classes(monkeypatch):
    torch.manual_seed(0)
    settings = TrainerConfig(accelerator="cpu", batch_size=64)
    module = DiffusionModule(codec(), 3, NETWORK, DiffusionConfig(class_dropout=0.0, target="x0"), settings)
    moments, labels = torch.randn(64, 4, 4, 4), torch.arange(64) % 3
    first = module.validation_loss(moments, labels)
    assert abs(first - module.validation_loss(moments, labels, batch_size=7)) < 1e-5 * first
    for parameter in module.network.parameters():  # the running network has no part in it
        parameter.data.zero_()
    assert module.validation_loss(moments, labels) == first
    for parameter in module.ema.network.parameters():
        parameter.data.zero_()
    with monkeypatch.context() as patch:
        drawn = module.schedule.training_levels
        shares = []
        patch.setattr(module.schedule, "training_levels", lambda share: shares.extend(share.tolist()) or drawn(share))
        module.validation_loss(moments[:2], labels[:2])
    assert shares == [0.25, 0.75]  # the middle of each half of the process
    # A network that says zero has the weighted mean of x0^2 as its loss: over many draws that is what is expected.
    many = torch.randn(4000, 4, 4, 4)
    many[:, 2:] = -20.0
    levels = module.schedule.training_levels((torch.arange(4000) + 0.5) / 4000)
    weight = loss_weight(module.diffusion, module.target, levels.snr).mean()
    zero = module.validation_loss(many, torch.zeros(4000, dtype=torch.int64))
    assert zero == pytest.approx(float(weight), rel=0.05)
