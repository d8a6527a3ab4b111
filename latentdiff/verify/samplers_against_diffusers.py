"""The samplers' states and spacings against those of diffusers' schedulers, with the same network and the same noise.

Two things are compared: the steps of each spacing and, for the same steps, the states. diffusers keeps its alphas in
fp32. Here they are replaced by fp64 alphas, so that only the arithmetic of the samplers differs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.denoiser import NetworkDenoiser
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import DiscreteSchedule, build_schedule
from latentdiff.diffusion.target import TARGETS
from latentdiff.verify.check import Check, max_or_nan

SCHEDULERS = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}
CORRECTED = "heun, every step corrected"
# Sampler and options of each variant that is compared: every sampler with its default options, and Heun told to correct
# every step. By default our Heun leaves out the correction after a steep fall from nearly pure noise.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in SCHEDULERS},
    CORRECTED: ("heun", {"max_sigma_ratio": math.inf}),
}
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid", "cosine zero-terminal")
SPACINGS = ("trailing", "leading", "linspace", "quadratic", "karras")
STEPS = (10, 20, 50)
LIMITS = {torch.float32: 1e-4, torch.float64: 1e-8}
# diffusers casts these samplers' states to fp32 in every step, so the states cannot agree more closely.
ROUNDS_TO_FP32 = ("euler", "dpmpp_2m")
FP32_LIMIT = 1e-6
# Samplers that work on x / alpha.
SCALED_BY_ALPHA = ("euler", "heun")
# These start from nearly pure noise, sigma / alpha of 20,291 (cosine) or 1,825 (sigmoid), and fall steeply from it, to
# at most 33 in 50 steps. Leading spacing starts where there is less noise, and karras spacing takes small steps there.
STEEP_SCHEDULES = ("cosine", "sigmoid")
STEEP_SPACINGS = ("trailing", "linspace", "quadratic")

DIFFERENT_SPACINGS = {
    ("dpmpp_2m", "leading"): "strides by T // (n + 1), so it starts later",
    ("dpmpp_2m", "linspace"): "takes n + 1 even points and leaves out the last, so it never visits step 0",
    ("unipc", "leading"): "strides by T // (n + 1), so it starts later",
    ("unipc", "linspace"): "takes n + 1 even points and leaves out the last, so it never visits step 0",
    ("euler", "linspace"): "does not round to whole steps, and interpolates sigma rather than its logarithm",
    ("heun", "linspace"): "does not round to whole steps, and interpolates sigma rather than its logarithm",
}


def reason_to_skip(variant: str, schedule: str, target: str, spacing: str, dtype: torch.dtype) -> str | None:
    """Return why a case cannot be compared, or None."""
    sampler, _ = VARIANTS[variant]
    steep = schedule in STEEP_SCHEDULES and spacing in STEEP_SPACINGS
    if variant == "heun" and target != "x0" and steep:
        return f"ours is Euler's after a steep fall from nearly pure noise, diffusers corrects it: see {CORRECTED!r}"
    if sampler in SCALED_BY_ALPHA and steep and dtype == torch.float32:
        return "diffusers holds x / alpha, up to 20,000 here, in fp32 and loses digits: compared in fp64 alone"
    if "zero-terminal" in schedule:
        if target == "eps":
            return "refused here: at pure noise the noise says nothing of the image"
        if spacing == "karras":
            return "refused here: karras spacing needs finite noise"
        if sampler not in ("ddpm", "ddim"):
            return "x / alpha, or log(alpha / sigma), is infinite there: diffusers gives NaN or puts alpha at 2^-12"
    if sampler == "ddim" and spacing not in ("trailing", "leading"):
        return "diffusers' DDIM steps down by T // n whatever the spacing, so it does not stop where it evaluates"
    if sampler in ("ddim", "ddpm") and spacing == "karras":
        return "diffusers' DDPM knows whole steps only"
    if sampler == "heun" and target == "x0":
        return "diffusers' Heun has no sample prediction"
    return None


def network(x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
    """A smooth function in place of a network, the same for both packages."""
    return torch.tanh(0.7 * x + torch.sin(time.float() / 150)[:, None, None, None])


@cache
def named_schedule(name: str) -> DiscreteSchedule:
    """Build the schedule of 1,000 steps of a name in ``SCHEDULES``."""
    base, _, rest = name.partition(" ")
    return build_schedule(DiffusionConfig(schedule=base, zero_terminal_snr=bool(rest)))


def build_scheduler(sampler: str, schedule: DiscreteSchedule, target: str, **options: Any) -> Any:
    """Build diffusers' scheduler with our alphas. It does not clip, and ends at the clean image."""
    import diffusers

    alpha_bar = schedule.alpha_bar
    betas = 1.0 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    if sampler in ("ddim", "ddpm"):
        options["clip_sample"] = False
    if sampler in ("dpmpp_2m", "unipc"):
        options["final_sigmas_type"] = "zero"
    kind = getattr(diffusers, SCHEDULERS[sampler])
    prediction = PREDICTIONS[target]
    scheduler = kind(trained_betas=betas.tolist(), prediction_type=prediction, **options)
    scheduler.alphas_cumprod = alpha_bar
    scheduler.alphas = 1.0 - betas
    scheduler.betas = betas
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def diffusers_states(
    sampler: str, schedule: DiscreteSchedule, target: str, levels: NoiseLevels, x: Tensor
) -> list[Tensor]:
    """Return diffusers' states after each step over ``levels``, as x_t = alpha x0 + sigma eps."""
    scheduler = build_scheduler(sampler, schedule, target)
    count = len(levels) - 1
    scheduler.set_timesteps(count)
    times, sigmas = levels.time[:-1], levels.karras_sigma
    if sampler == "heun":
        times = torch.cat([times[:1], times[1:].repeat_interleave(2)])
        sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    if sampler in ("ddpm", "ddim"):
        times = times.long()
        scheduler.custom_timesteps = True
    else:
        scheduler.sigmas = sigmas
    scheduler.timesteps = times
    generator = torch.Generator().manual_seed(5)
    if sampler in SCALED_BY_ALPHA:
        x = x / float(levels.alpha[0])
    states = []
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, time) if sampler in SCALED_BY_ALPHA else x
        output = network(scaled, time.float().expand(len(x)), None)
        options = {"generator": generator} if sampler == "ddpm" else {}
        x = scheduler.step(output, time, x, **options).prev_sample
        states.append(x)
    if sampler == "heun":
        states = states[1::2] + states[-1:]
    if sampler in SCALED_BY_ALPHA:
        states = [float(alpha) * state for alpha, state in zip(levels.alpha[1:], states, strict=True)]
    return states


def max_deviation(variant: str, schedule_name: str, target: str, spacing: str, steps: int, dtype: torch.dtype) -> float:
    """Return the largest relative difference of our states from diffusers', over all steps."""
    sampler, options = VARIANTS[variant]
    schedule = named_schedule(schedule_name)
    levels = schedule.sampling_levels(steps, spacing)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    generator = torch.Generator().manual_seed(5)
    theirs = diffusers_states(sampler, schedule, target, levels, x)
    denoiser = NetworkDenoiser(network=network, target=TARGETS[target]())
    draw = partial(torch.randn, x.shape, generator=generator, dtype=dtype)
    ours = SAMPLERS[sampler](denoiser, x, levels, draw, **options)
    return max_or_nan(float((a.x - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


def cases() -> Iterator[tuple[str, str, str, str]]:
    """Yield every (variant, schedule, target, spacing)."""
    return itertools.product(VARIANTS, SCHEDULES, PREDICTIONS, SPACINGS)


def check_states(steps: Sequence[int] = STEPS) -> list[Check]:
    """Measure the largest difference of each variant in each precision, and list the cases that cannot be compared."""
    largest: dict[tuple[str, torch.dtype], tuple[float, int]] = {}
    refused: dict[tuple[str, str], int] = {}
    for case in cases():
        for dtype in LIMITS:
            reason = reason_to_skip(*case, dtype)
            if reason:
                refused[case[0], reason] = refused.get((case[0], reason), 0) + len(steps)
                continue
            found = max_or_nan(max_deviation(*case, count, dtype) for count in steps)
            before, number = largest.get((case[0], dtype), (0.0, 0))
            largest[case[0], dtype] = max_or_nan([before, found]), number + len(steps)
    section, checks = "states as in diffusers", []
    for (variant, dtype), (value, number) in largest.items():
        note = f"largest relative difference in {number} cases"
        if rounds := dtype == torch.float64 and variant in ROUNDS_TO_FP32:
            note += "; diffusers rounds its states to fp32"
        limit = FP32_LIMIT if rounds else LIMITS[dtype]
        name = f"{variant}, {str(dtype).removeprefix('torch.')}"
        checks.append(Check(section=section, name=name, value=value, limit=limit, note=note))
    return checks + [
        Check(section=section, name=f"{variant}, {number} cases left out", value=None, limit=0.0, note=reason)
        for (variant, reason), number in refused.items()
    ]


def check_spacings(steps: Sequence[int] = STEPS) -> list[Check]:
    """Measure the steps of each of diffusers' spacings against ours."""
    schedule, checks = named_schedule("linear"), []
    for sampler in SCHEDULERS:
        for spacing in ("trailing", "leading", "linspace"):
            reason, value = DIFFERENT_SPACINGS.get((sampler, spacing)), None
            if reason is None:
                value = 0.0
                for count in steps:
                    scheduler = build_scheduler(sampler, schedule, "eps", timestep_spacing=spacing)
                    scheduler.set_timesteps(count)
                    theirs = scheduler.timesteps.double().unique(sorted=True).flip(0)
                    ours = schedule.sampling_levels(count, spacing).time[:-1]
                    value = max_or_nan([value, float((theirs - ours).abs().max())])
            name = f"{sampler}, {spacing}"
            checks.append(
                Check(section="spacings as in diffusers", name=name, value=value, limit=0.0, note=reason or "")
            )
    return checks


def diffusers_is_missing() -> list[Check]:
    """Say that nothing was compared, because diffusers is not installed."""
    note = 'diffusers is not installed, so nothing was compared with it (pip install "latentdiff[test]")'
    return [Check(section="as in diffusers", name="left out", value=None, limit=0.0, note=note)]
