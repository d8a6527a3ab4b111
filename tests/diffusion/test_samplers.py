"""Properties of single samplers; what holds for all of them is proven in tests/verify."""

from __future__ import annotations

import math

import pytest
import torch

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.diffusion.samplers import SAMPLER_OPTIONS, SAMPLERS
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.errors import ConfigError

MEAN, STD = 0.7, 0.4
SCHEDULE = build_schedule(DiffusionConfig(schedule="linear"))


def gaussian_denoiser(x, level):
    """E[x0 | x] for data N(MEAN, STD^2), by Bayes."""
    gain = float(level.alpha) * STD**2 / (float(level.alpha) ** 2 * STD**2 + float(level.sigma) ** 2)
    return MEAN + gain * (x - float(level.alpha) * MEAN)


def end(sampler, steps, noise=None, x=None, schedule=SCHEDULE, **options):
    levels = schedule.sampling_levels(steps)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None] if x is None else x
    *_, last = SAMPLERS[sampler](gaussian_denoiser, x, levels, noise, **options)
    return last.x


def draws(seed=0, n=9):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(n, 1, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpmpp_2m", "unipc"])
def test_deterministic_samplers_draw_no_noise_and_end_at_the_flows_closed_form(sampler):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    levels = SCHEDULE.sampling_levels(500)
    alpha, sigma = float(levels.alpha[0]), float(levels.sigma[0])
    # For Gaussian data the probability-flow ODE keeps a point's quantile.
    exact = MEAN + STD * (x - alpha * MEAN) / math.sqrt(alpha**2 * STD**2 + sigma**2)
    torch.testing.assert_close(end(sampler, 500), exact, rtol=0, atol=0.02)


def test_ddim_with_eta_one_is_ddpm():
    torch.testing.assert_close(end("ddim", 7, draws(), eta=1.0), end("ddpm", 7, draws()), rtol=1e-12, atol=1e-12)


def test_large_variance_of_ddpm_spreads_more():
    spread = {
        variance: float(end("ddpm", 20, draws(n=4000), x=draws(5, 4000)(), variance=variance).std())
        for variance in ("small", "large")
    }
    assert spread["small"] < spread["large"]


def test_learned_variance_interpolates_between_small_and_large():
    class Learned:
        def __init__(self, fraction):
            self.fraction = fraction

        def with_variance(self, x, level):
            return gaussian_denoiser(x, level), torch.full_like(x, self.fraction)

    levels, x = SCHEDULE.sampling_levels(8), draws(3)()
    for fraction, variance in ((-1.0, "small"), (1.0, "large")):
        *_, learned = SAMPLERS["ddpm"](Learned(fraction), x, levels, draws(), variance="learned")
        torch.testing.assert_close(learned.x, end("ddpm", 8, draws(), x=x, variance=variance))


def test_sde_without_noise_is_the_ode():
    torch.testing.assert_close(end("dpmpp_2m_sde", 9, eta=0.0), end("dpmpp_2m", 9), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        end("predictor_corrector", 9, draws(), corrector_steps=0), end("euler_maruyama", 9, draws()), rtol=0, atol=0
    )


def test_churn_adds_noise_within_its_bounds_only():
    plain = end("heun", 20)
    churned = end("heun", 20, draws(), churn=10.0, level_at=SCHEDULE.levels_at_sigma)
    outside = end("heun", 20, draws(), churn=10.0, churn_min=1e6, level_at=SCHEDULE.levels_at_sigma)
    assert not torch.allclose(plain, churned, atol=1e-3)
    assert torch.equal(plain, outside)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_sampling_from_pure_noise_stays_finite(sampler):
    schedule = build_schedule(DiffusionConfig(zero_terminal_snr=True))
    assert torch.isfinite(end(sampler, 10, draws(), schedule=schedule)).all()


# The two others take a step of the SDE, which one step does not solve.
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if "corrector" not in name and "maruyama" not in name])
def test_one_step_is_the_denoisers_guess(sampler):
    schedule = build_schedule(DiffusionConfig(zero_terminal_snr=True))
    torch.testing.assert_close(end(sampler, 1, schedule=schedule), torch.full((9, 1), MEAN, dtype=torch.float64))


def test_states_are_numbered_and_carry_their_level():
    levels = SCHEDULE.sampling_levels(4)
    states = list(SAMPLERS["dpmpp_2m"](gaussian_denoiser, torch.zeros(1, 1), levels, None))
    assert [state.step for state in states] == [1, 2, 3, 4]
    assert [float(state.level.sigma) for state in states] == levels.sigma[1:].tolist()


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_any_callable_is_a_denoiser_and_noise_has_a_default(sampler):
    levels, x = SCHEDULE.sampling_levels(5), torch.randn(4, 3)
    *_, last = SAMPLERS[sampler](lambda noisy, at: torch.full_like(noisy, MEAN), x, levels)
    assert last.x.shape == x.shape
    assert torch.isfinite(last.x).all()


def test_what_a_sampler_lacks_is_named():
    levels, x = SCHEDULE.sampling_levels(5), torch.randn(4, 3)
    with pytest.raises(ConfigError, match="with_variance"):
        next(SAMPLERS["ddpm"](gaussian_denoiser, x, levels, variance="learned"))
    with pytest.raises(ConfigError, match="level_at"):
        next(SAMPLERS["heun"](gaussian_denoiser, x, levels, churn=1.0))


def test_options_are_those_of_the_signatures():
    assert SAMPLER_OPTIONS["ddim"] == {"eta": 0.0}
    assert SAMPLER_OPTIONS["dpmpp_2m"] == {}
    assert set(SAMPLER_OPTIONS["predictor_corrector"]) == {"corrector_steps", "corrector_snr"}


def test_image_noise_differs_between_images_and_seeds():
    flat = torch.cat([PerImageNoise(seed, range(3), (8,))() for seed in range(3)])
    assert len({tuple(row.tolist()) for row in flat}) == 9
