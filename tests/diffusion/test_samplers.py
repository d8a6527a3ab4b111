"""Samplers against diffusers (the same states from the same network and noise) and against a closed form."""

from __future__ import annotations

import math

import pytest
import torch

from latentdiff.diffusion.denoiser import build_denoiser
from latentdiff.diffusion.noise import ImageNoise
from latentdiff.diffusion.samplers import SAMPLERS, ddim
from latentdiff.diffusion.schedule import ALPHA_BARS, DiscreteSchedule
from latentdiff.diffusion.target import TARGETS

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
TARGET_NAMES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def network(x, time, labels):
    """Any smooth function will do: both sides get the same one."""
    return torch.tanh(0.7 * x + torch.sin(time / 150)[:, None, None, None])


def diffusers_states(sampler, schedule, target, steps, x):
    diffusers = pytest.importorskip("diffusers")
    common = {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": SCHEDULES[schedule],
        "prediction_type": TARGET_NAMES[target],
        "timestep_spacing": "trailing",
    }
    if sampler == "dpmpp_2m":
        scheduler = diffusers.DPMSolverMultistepScheduler(**common, final_sigmas_type="zero")
    else:
        kind = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.DDPMScheduler
        scheduler = kind(**common, clip_sample=False)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(5)
    states = []
    for time in scheduler.timesteps:
        output = network(x, time.float().expand(len(x)), None)
        options = {} if sampler == "ddim" else {"generator": generator}
        x = scheduler.step(output, time, x, **options).prev_sample
        states.append(x)
    return states


@pytest.mark.parametrize("steps", [10, 20, 50])
@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("schedule", list(ALPHA_BARS))
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_same_states_as_diffusers(sampler, schedule, target, steps):
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    reference = diffusers_states(sampler, schedule, target, steps, x)
    generator = torch.Generator().manual_seed(5)
    levels = DiscreteSchedule(ALPHA_BARS[schedule](1000)).sampling_levels(steps)
    denoiser = build_denoiser(network, TARGETS[target])
    ours = SAMPLERS[sampler](denoiser, x, levels, lambda: torch.randn(x.shape, generator=generator))
    for state, theirs in zip(ours, reference, strict=True):
        # diffusers keeps its cumulated alphas in fp32, which the eps target divides by: hence not tighter.
        assert (state.x - theirs).norm() <= 1e-4 * theirs.norm()


MEAN, STD = 0.7, 0.4


def gaussian_denoiser(x, level):
    """E[x0 | x] for data N(MEAN, STD^2), by Bayes."""
    gain = float(level.alpha) * STD**2 / (float(level.alpha) ** 2 * STD**2 + float(level.sigma) ** 2)
    return MEAN + gain * (x - float(level.alpha) * MEAN)


def exact_end(x, levels):
    """Where the probability-flow ODE carries ``x`` for Gaussian data: its quantile is kept."""
    alpha, sigma = float(levels.alpha[0]), float(levels.sigma[0])
    return MEAN + STD * (x - alpha * MEAN) / math.sqrt(alpha**2 * STD**2 + sigma**2)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 0.9), ("dpmpp_2m", 1.8)])
def test_deterministic_samplers_converge_to_the_exact_flow(sampler, order):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    schedule = DiscreteSchedule(ALPHA_BARS["cosine"](1000))
    errors = []
    counts = [10, 40, 160]
    for count in counts:
        levels = schedule.sampling_levels(count)
        *_, last = SAMPLERS[sampler](gaussian_denoiser, x, levels, None)
        errors.append((last.x - exact_end(x, levels)).abs().max().item())
    slope = -math.log(errors[-1] / errors[0]) / math.log(counts[-1] / counts[0])
    assert errors[-1] < 0.01
    assert slope >= order


def test_ancestral_sampling_has_the_data_distribution():
    levels = DiscreteSchedule(ALPHA_BARS["linear"](1000)).sampling_levels(250)
    generator = torch.Generator().manual_seed(1)
    n = 20_000

    def noise():
        return torch.randn(n, 1, generator=generator, dtype=torch.float64)

    *_, last = SAMPLERS["ddpm"](gaussian_denoiser, noise(), levels, noise)
    assert abs(last.x.mean().item() - MEAN) < 4 * STD / math.sqrt(n) + 2e-3
    assert abs(last.x.std().item() - STD) < 0.012


def test_ddpm_with_every_step_is_the_textbook_posterior():
    """One step of Ho et al. 2020, equations 6 and 7, written in betas."""
    alpha_bar = ALPHA_BARS["linear"](1000)
    levels = DiscreteSchedule(alpha_bar).sampling_levels(1000)
    x, z = torch.randn(4, 1, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)
    state = next(SAMPLERS["ddpm"](gaussian_denoiser, x, levels, lambda: z))
    now, before = alpha_bar[999], alpha_bar[998]
    beta = 1 - now / before
    x0 = gaussian_denoiser(x, levels[0])
    mean = before.sqrt() * beta / (1 - now) * x0 + (now / before).sqrt() * (1 - before) / (1 - now) * x
    torch.testing.assert_close(state.x, mean + (beta * (1 - before) / (1 - now)).sqrt() * z, rtol=1e-10, atol=1e-10)


def test_ddim_eta_zero_needs_no_noise_and_eta_one_is_ddpm():
    levels = DiscreteSchedule(ALPHA_BARS["linear"](1000)).sampling_levels(7)
    x = torch.randn(3, 1)

    def refuse():
        raise AssertionError("a deterministic sampler drew noise")

    *_, a = ddim(gaussian_denoiser, x, levels, refuse)
    assert torch.isfinite(a.x).all()
    runs = []
    for run in (
        lambda noise: ddim(gaussian_denoiser, x, levels, noise, eta=1.0),
        lambda noise: SAMPLERS["ddpm"](gaussian_denoiser, x, levels, noise),
    ):
        generator = torch.Generator().manual_seed(0)
        *_, last = run(lambda generator=generator: torch.randn(x.shape, generator=generator))
        runs.append(last.x)
    assert torch.equal(*runs)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_image_noise_makes_samples_independent_of_the_batch(sampler):
    levels = DiscreteSchedule(ALPHA_BARS["cosine"](1000)).sampling_levels(5)

    def images(batch_size):
        parts = []
        for start in range(0, 6, batch_size):
            noise = ImageNoise(7, range(start, min(start + batch_size, 6)), (1, 4, 4))
            *_, last = SAMPLERS[sampler](gaussian_denoiser, noise(), levels, noise)
            parts.append(last.x)
        return torch.cat(parts)

    assert torch.equal(images(1), images(6))
    assert torch.equal(images(4), images(6))


def test_image_noise_differs_between_images_and_seeds():
    draws = [ImageNoise(seed, range(3), (8,))() for seed in range(3)]
    flat = torch.cat(draws)
    assert len({tuple(row.tolist()) for row in flat}) == 9


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match="from 1 to 1000"):
        DiscreteSchedule(ALPHA_BARS["cosine"](1000)).sampling_levels(steps)
