"""The same states as diffusers' schedulers, from the same network and the same noise.

Two things are compared: where each spacing stops, and, given the same stops, the states themselves. diffusers keeps its
alphas in fp32; they are replaced by the fp64 ones here, so that what is left is the arithmetic of the samplers.
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
from latentdiff.verify import Check, largest

SCHEDULERS = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}
CORRECTED = "heun, every step corrected"
# What is compared: each sampler as it comes and, since diffusers' Heun makes a correction that ours leaves out after a
# steep fall from nearly pure noise, ours told to make it as well. Sampler and options, by the entry's name.
ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in SCHEDULERS},
    CORRECTED: ("heun", {"max_sigma_ratio": math.inf}),
}
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid", "cosine zero-terminal")
SPACINGS = ("trailing", "leading", "linspace", "quadratic", "karras")
STEPS = (10, 20, 50)
LIMITS = {torch.float32: 1e-4, torch.float64: 1e-8}
# diffusers casts these samplers' states to fp32 in every step, so no closer agreement can be had.
ROUNDS_TO_FP32 = ("euler", "dpmpp_2m")
FP32_LIMIT = 1e-6
# Those that work on x / alpha.
SCALED = ("euler", "heun")
# What starts from nearly pure noise, sigma / alpha of 20,291 (cosine) or 1,825 (sigmoid), and falls steeply from it, to
# at most 33 in 50 steps. Leading starts where there is less noise, and karras takes small steps there.
STEEP_SCHEDULES = ("cosine", "sigmoid")
STEEP_SPACINGS = ("trailing", "linspace", "quadratic")

OTHER_SPACINGS = {
    ("dpmpp_2m", "leading"): "strides by T // (n + 1), so it starts later",
    ("dpmpp_2m", "linspace"): "takes n + 1 even points and leaves out the last, so it never visits step 0",
    ("unipc", "leading"): "strides by T // (n + 1), so it starts later",
    ("unipc", "linspace"): "takes n + 1 even points and leaves out the last, so it never visits step 0",
    ("euler", "linspace"): "does not round to whole steps, and interpolates sigma rather than its logarithm",
    ("heun", "linspace"): "does not round to whole steps, and interpolates sigma rather than its logarithm",
}


def cannot_agree(entry: str, schedule: str, target: str, spacing: str, dtype: torch.dtype) -> str | None:
    """Why a case cannot be compared, or None."""
    sampler, _ = ENTRIES[entry]
    steep = schedule in STEEP_SCHEDULES and spacing in STEEP_SPACINGS
    if entry == "heun" and target != "x0" and steep:
        return f"ours is Euler's after a steep fall from nearly pure noise, diffusers corrects it: see {CORRECTED!r}"
    if sampler in SCALED and steep and dtype == torch.float32:
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
    """Any smooth function will do: both sides get the same one."""
    return torch.tanh(0.7 * x + torch.sin(time.float() / 150)[:, None, None, None])


@cache
def schedule_of(name: str) -> DiscreteSchedule:
    """A schedule of 1,000 steps by its name in ``SCHEDULES``."""
    base, _, rest = name.partition(" ")
    return build_schedule(DiffusionConfig(schedule=base, zero_terminal_snr=bool(rest)))


def build_scheduler(sampler: str, schedule: DiscreteSchedule, target: str, **options: Any) -> Any:
    """diffusers' scheduler with our alphas, told not to clip and to end at the clean image."""
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


def their_states(sampler: str, schedule: DiscreteSchedule, target: str, levels: NoiseLevels, x: Tensor) -> list[Tensor]:
    """diffusers' states after each step over ``levels``, as x_t = alpha x0 + sigma eps."""
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
    if sampler in SCALED:
        x = x / float(levels.alpha[0])
    states = []
    for time in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, time) if sampler in SCALED else x
        output = network(shown, time.float().expand(len(x)), None)
        options = {"generator": generator} if sampler == "ddpm" else {}
        x = scheduler.step(output, time, x, **options).prev_sample
        states.append(x)
    if sampler == "heun":
        states = states[1::2] + states[-1:]
    if sampler in SCALED:
        states = [float(alpha) * state for alpha, state in zip(levels.alpha[1:], states, strict=True)]
    return states


def deviation(entry: str, schedule_name: str, target: str, spacing: str, steps: int, dtype: torch.dtype) -> float:
    """The largest relative difference of a state from diffusers', over all steps."""
    sampler, options = ENTRIES[entry]
    schedule = schedule_of(schedule_name)
    levels = schedule.sampling_levels(steps, spacing)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    generator = torch.Generator().manual_seed(5)
    theirs = their_states(sampler, schedule, target, levels, x)
    denoiser = NetworkDenoiser(network=network, target=TARGETS[target]())
    draw = partial(torch.randn, x.shape, generator=generator, dtype=dtype)
    ours = SAMPLERS[sampler](denoiser, x, levels, draw, **options)
    return largest(float((a.x - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


def cases() -> Iterator[tuple[str, str, str, str]]:
    """Every (entry, schedule, target, spacing)."""
    return itertools.product(ENTRIES, SCHEDULES, PREDICTIONS, SPACINGS)


def check_states(steps: Sequence[int] = STEPS) -> list[Check]:
    """The largest deviation of each entry in each precision, and every case that cannot agree."""
    worst: dict[tuple[str, torch.dtype], tuple[float, int]] = {}
    refused: dict[tuple[str, str], int] = {}
    for case in cases():
        for dtype in LIMITS:
            reason = cannot_agree(*case, dtype)
            if reason:
                refused[case[0], reason] = refused.get((case[0], reason), 0) + len(steps)
                continue
            found = largest(deviation(*case, count, dtype) for count in steps)
            before, number = worst.get((case[0], dtype), (0.0, 0))
            worst[case[0], dtype] = largest([before, found]), number + len(steps)
    section, checks = "states as in diffusers", []
    for (entry, dtype), (value, number) in worst.items():
        note = f"largest relative difference in {number} cases"
        if rounds := dtype == torch.float64 and entry in ROUNDS_TO_FP32:
            note += "; diffusers rounds its states to fp32"
        limit = FP32_LIMIT if rounds else LIMITS[dtype]
        name = f"{entry}, {str(dtype).removeprefix('torch.')}"
        checks.append(Check(section=section, name=name, value=value, limit=limit, note=note))
    return checks + [
        Check(section=section, name=f"{entry}, {number} cases left out", value=None, limit=0.0, note=reason)
        for (entry, reason), number in refused.items()
    ]


def check_spacings(steps: Sequence[int] = STEPS) -> list[Check]:
    """Where diffusers stops for each of its spacings, against where we do."""
    schedule, checks = schedule_of("linear"), []
    for sampler in SCHEDULERS:
        for spacing in ("trailing", "leading", "linspace"):
            reason, value = OTHER_SPACINGS.get((sampler, spacing)), None
            if reason is None:
                value = 0.0
                for count in steps:
                    scheduler = build_scheduler(sampler, schedule, "eps", timestep_spacing=spacing)
                    scheduler.set_timesteps(count)
                    theirs = scheduler.timesteps.double().unique(sorted=True).flip(0)
                    ours = schedule.sampling_levels(count, spacing).time[:-1]
                    value = largest([value, float((theirs - ours).abs().max())])
            name = f"{sampler}, {spacing}"
            checks.append(
                Check(section="spacings as in diffusers", name=name, value=value, limit=0.0, note=reason or "")
            )
    return checks


def left_out() -> list[Check]:
    """What stands for the comparison where there is nothing to compare with."""
    note = 'diffusers is not installed, so nothing was compared with it (pip install "latentdiff[test]")'
    return [Check(section="as in diffusers", name="left out", value=None, limit=0.0, note=note)]
