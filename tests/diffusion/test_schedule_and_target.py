from __future__ import annotations

import pytest
import torch

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.denoiser import build_denoiser
from latentdiff.diffusion.schedule import ALPHA_BARS, add_noise, build_schedule
from latentdiff.diffusion.target import TARGETS, min_snr_weight


@pytest.mark.parametrize("name", list(ALPHA_BARS))
@pytest.mark.parametrize("steps", [200, 500, 1000])
def test_schedules_fall_from_clean_to_noise(name, steps):
    alpha_bar = ALPHA_BARS[name](steps)
    assert (alpha_bar.diff() < 0).all()
    assert alpha_bar[0] > 0.99
    assert alpha_bar[-1] < 1e-4
    levels = build_schedule(DiffusionConfig(schedule=name, num_train_steps=steps)).levels(torch.arange(steps))
    torch.testing.assert_close(levels.alpha**2 + levels.sigma**2, torch.ones(steps, dtype=torch.float64))


def test_linear_schedule_is_ddpms():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(ALPHA_BARS["linear"](1000), (1 - betas).cumprod(0))


@pytest.mark.parametrize("name", list(TARGETS))
def test_every_target_gives_the_clean_image_back(name):
    schedule = build_schedule(DiffusionConfig())
    x0, noise = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    levels = schedule.levels(torch.tensor([0, 500, 990]))
    target = TARGETS[name]
    x = add_noise(x0, noise, levels)
    torch.testing.assert_close(target.to_x0(target.of(x0, noise, levels), x, levels), x0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_min_snr_weighs_the_error_of_x0_alike_for_every_target(gamma):
    """The same wrong x0, put as each target's output: min-SNR must give one loss (Hang et al. 2023, section 3.4)."""
    schedule = build_schedule(DiffusionConfig())
    levels = schedule.levels(torch.tensor([10, 400, 900]))
    x0, noise = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.randn(3, 1, 2, 2, dtype=torch.float64)
    x, wrong = add_noise(x0, noise, levels), x0 + 0.1
    losses = {}
    for name, target in TARGETS.items():
        at = levels.like(x0)
        output = target.of(wrong, (x - at.alpha * wrong) / at.sigma, levels)
        error = (output - target.of(x0, noise, levels)).square().flatten(1).mean(1)
        losses[name] = min_snr_weight(target, levels.snr, gamma) * error
    if gamma is None:
        assert not torch.allclose(losses["eps"], losses["x0"])
    else:
        torch.testing.assert_close(losses["eps"], losses["x0"])
        torch.testing.assert_close(losses["v"], losses["x0"])
        torch.testing.assert_close(losses["x0"], 0.01 * levels.snr.clamp(max=gamma))


class Counting:
    """A network whose output is its class, which counts its passes."""

    def __init__(self):
        self.passes, self.images = 0, 0

    def __call__(self, x, time, labels):
        self.passes += 1
        self.images += len(x)
        return labels.to(x.dtype)[:, None].expand_as(x).contiguous()


def test_guidance_of_one_costs_one_pass_and_others_one_doubled_pass():
    x, labels = torch.zeros(2, 3), torch.tensor([1, 2])
    level = build_schedule(DiffusionConfig()).levels(torch.tensor(500))
    for scale, images, expected in ((1.0, 2, labels), (0.0, 2, [9, 9]), (3.0, 4, [9 + 3 * (1 - 9), 9 + 3 * (2 - 9)])):
        network = Counting()
        x0 = build_denoiser(network, TARGETS["x0"], labels, null_label=9, guidance_scale=scale)(x, level)
        assert (network.passes, network.images) == (1, images)
        torch.testing.assert_close(x0[:, 0], torch.as_tensor(expected, dtype=x0.dtype))


def test_guidance_without_classes_is_refused_and_bounds_are_kept():
    with pytest.raises(ValueError, match="class-conditional"):
        build_denoiser(Counting(), TARGETS["x0"], guidance_scale=2.0)
    level = build_schedule(DiffusionConfig()).levels(torch.tensor(500))
    bounded = build_denoiser(Counting(), TARGETS["x0"], torch.tensor([7]), 9, value_range=(-1.0, 1.0))
    assert bounded(torch.zeros(1, 2), level).max() == 1.0
