from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.training.callbacks import EpochEnd, save_snapshot
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.post_hoc_ema import (
    KEPT_LENGTHS,
    PowerAverages,
    _inner_product,
    power_of_length,
    rebuild_average,
    snapshot_weights,
    snapshots_in,
)
from latentdiff.training.trainer import fit

STEP, STEPS = 64, 480
SETTINGS = TrainerConfig(
    max_images=128, images_per_epoch=16, batch_size=8, lr_warmup_images=16, accelerator="cpu", ema_snapshots=4
)


def profile(t, end, power):
    return np.where(t <= end, (power + 1) * t**power / end ** (power + 1), 0.0)


@pytest.mark.parametrize("length", [0.02, 0.05, 0.10, 0.25])
def test_power_gives_the_profile_its_length(length):
    power = power_of_length(length)
    t = np.linspace(0, 1, 400_001)
    density = profile(t, 1.0, power)
    mean = np.trapezoid(t * density, t)
    assert np.sqrt(np.trapezoid((t - mean) ** 2 * density, t)) == pytest.approx(length, rel=1e-4)


@pytest.mark.parametrize(("a", "b"), [((1.0, 16.97), (1.0, 6.94)), ((0.5, 6.94), (1.0, 16.97)), ((0.8, 7), (0.3, 17))])
def test_inner_product_is_the_integral(a, b):
    t = np.linspace(0, 1, 1_000_001)
    integral = np.trapezoid(profile(t, *a) * profile(t, *b), t)
    found = _inner_product(*(np.float64(value) for value in (*a, *b)))
    assert found == pytest.approx(integral, rel=1e-4)


@pytest.mark.parametrize("length", [0.0, 0.3, float("nan")])
def test_length_that_no_average_has_is_refused(length):
    with pytest.raises(ConfigError, match=r"an average's length is from 0\.01 to 0\.28"):
        power_of_length(length)


def walk(folder, snapshots=16):
    """A network that walks at random while its averages follow, with snapshots; and direct averages of all lengths."""
    torch.manual_seed(0)
    network = nn.Linear(8, 8).double()
    averages, lengths = PowerAverages(network), (0.03, 0.05, 0.07, 0.10, 0.15, 0.2)
    direct = {length: torch.zeros(8, 8, dtype=torch.float64) for length in lengths}
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            network.weight += 0.02 * torch.randn_like(network.weight)
        averages.update(network, step * STEP, STEP)
        for length, average in direct.items():
            average.lerp_(network.weight.detach(), 1 - (1 - 1 / step) ** (power_of_length(length) + 1))
        if step % (STEPS // snapshots) == 0:
            averages.save(folder, step * STEP)
    return network, direct


def test_any_length_is_rebuilt_from_snapshots(tmp_path):
    network, direct = walk(tmp_path)
    apart = float((direct[0.03] - direct[0.2]).norm())
    for length, wanted in direct.items():
        rebuilt = nn.Linear(8, 8).double()
        rebuild_average(tmp_path, length, rebuilt)
        error = float((rebuilt.weight.detach() - wanted).norm())
        # The two lengths that are kept come back exactly, but for half precision; the others nearly.
        assert error < (2e-3 if length in KEPT_LENGTHS else 0.05 * apart), (length, error, apart)
    assert float((direct[0.07] - network.weight.detach()).norm()) > 0.1 * apart


@pytest.mark.parametrize("snapshots", [1, 4, 20])
@pytest.mark.parametrize("length", [0.01, 0.035, 0.14, 0.28])
def test_weights_sum_to_one(snapshots, length):
    times = [float(end) for end in range(1, snapshots + 1) for _ in KEPT_LENGTHS]
    powers = [power_of_length(kept) for kept in KEPT_LENGTHS] * snapshots
    assert sum(snapshot_weights(times, powers, times[-1], power_of_length(length))) == pytest.approx(1.0)


def test_kept_length_is_its_own_last_snapshot():
    times, powers = [100.0, 100.0, 200.0, 200.0], [power_of_length(length) for length in KEPT_LENGTHS] * 2
    assert snapshot_weights(times, powers, 200.0, powers[1]) == pytest.approx([0, 0, 0, 1], abs=1e-9)


def test_snapshots_that_cannot_serve_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="has no snapshots of its averages"):
        rebuild_average(tmp_path, 0.05, nn.Linear(8, 8))
    PowerAverages(nn.Linear(8, 8)).save(tmp_path, 64)
    with pytest.raises(CheckpointError, match=r"a snapshot of another network: it lacks weight \(4, 8\)"):
        rebuild_average(tmp_path, 0.05, nn.Linear(8, 4))


def module(settings=SETTINGS):
    torch.manual_seed(0)
    network = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    return DiffusionModule(IdentityCodec((1, 6, 6)), 3, network, DiffusionConfig(), settings)


def train(folder, resume=False, callbacks=(), settings=SETTINGS):
    images = torch.randint(0, 256, (20, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    return fit(module(settings), (images, torch.arange(20) % 3), folder, [EpochEnd(folder), *callbacks], resume)


class Kill(lightning.Callback):
    def on_train_batch_end(self, trainer, module, *_):
        if module.images_seen >= 72:
            raise KeyboardInterrupt


def test_run_keeps_snapshots_and_a_resumed_one_the_same(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", callbacks=[Kill()])
    train(tmp_path / "killed", resume=True)
    one, other = (snapshots_in(tmp_path / run) for run in ("whole", "killed"))
    # Four are asked for; the epochs of 16 images end nearest after a quarter, a half, ... of 128.
    assert [int(path.stem) for path in one] == [32, 64, 96, 128]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    network = module().network
    rebuild_average(tmp_path / "whole", 0.10, network)
    kept = dict(whole.averages.copies[1].named_parameters())
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter, kept[name], atol=1e-3), name


def test_a_run_that_gets_a_larger_budget_goes_on_with_snapshots(tmp_path):
    train(tmp_path)
    train(tmp_path, resume=True, settings=replace(SETTINGS, max_images=256))
    # From there on they lie as far apart as four of 256 images do.
    assert [int(path.stem) for path in snapshots_in(tmp_path)] == [32, 64, 96, 128, 192, 256]


def test_a_budget_of_seconds_gets_as_many_snapshots_as_asked_for(tmp_path):
    trained = module(replace(SETTINGS, max_images=None, max_seconds=100.0))
    trained.__dict__["averages"] = SimpleNamespace(
        save=lambda folder, seen: (folder / "ema" / f"{seen}.safetensors").touch()
    )
    (tmp_path / "ema").mkdir()
    for epoch in range(1, 20):  # the first one takes twice as long as the others
        trained.images_seen, seconds = 100 * epoch, 5.0 * (epoch + 1)
        trained.history.append({"images_seen": trained.images_seen, "seconds": seconds})
        trained.elapsed = lambda seconds=seconds: seconds
        save_snapshot(trained, tmp_path)
    assert sorted(int(path.stem) for path in snapshots_in(tmp_path)) == [400, 900, 1400, 1900]
