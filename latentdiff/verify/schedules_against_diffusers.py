"""The schedules against diffusers': alpha_bar, and the levels of karras spacing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latentdiff.diffusion.schedule import BETAS, rescale_zero_terminal_snr
from latentdiff.verify.check import Check, max_or_nan
from latentdiff.verify.samplers_against_diffusers import STEPS, build_scheduler, named_schedule

SECTION = "schedules as in diffusers"
# diffusers' names of our schedules.
NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
# diffusers computes its schedules, and hands out its levels, in fp32.
FP32_LIMIT = 1e-6
TIME_LIMIT = 1e-3  # steps of 1,000, whose spacing in fp32 is 6e-5
SIGMOID_NOTE = "not the same schedule: diffusers' betas are a sigmoid (GeoDiff), ours is alpha_bar (Jabri et al. 2023)"
KARRAS = ("euler", "heun", "dpmpp_2m", "unipc")
ROUNDING_SAMPLERS = ("dpmpp_2m", "unipc")
KARRAS_SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid")
ROUNDED_NOTE = "ours is between two steps; diffusers tells the network a whole one, rounded or, for its cosine, cut off"


def check_schedules(steps: Sequence[int] = STEPS) -> list[Check]:
    """Measure alpha_bar of every schedule that diffusers has too, and the levels of karras spacing."""
    return [*_alpha_bars(), *_karras(steps)]


def _alpha_bars() -> list[Check]:
    import diffusers

    checks = []
    for name, theirs in NAMES.items():
        options: dict[str, Any] = {"beta_schedule": theirs}
        if name in BETAS:
            options["beta_start"], options["beta_end"], _ = BETAS[name]
        for terminal in (False, True):
            scheduler = diffusers.DDPMScheduler(rescale_betas_zero_snr=terminal, **options)
            ours = named_schedule(name).alpha_bar
            ours = rescale_zero_terminal_snr(ours) if terminal else ours
            value = float((scheduler.alphas_cumprod.double() - ours).abs().max())
            label = f"alpha_bar, {name}{', zero terminal SNR' if terminal else ''}"
            checks.append(
                Check(section=SECTION, name=label, value=value, limit=FP32_LIMIT, note=f"largest difference; {theirs}")
            )
    return [*checks, Check(section=SECTION, name="alpha_bar, sigmoid", value=None, limit=0.0, note=SIGMOID_NOTE)]


def _karras(steps: Sequence[int]) -> list[Check]:
    """Compare sigmas and times for the same alpha_bar: the least sigma depends on the last digits of alpha_bar."""
    checks = []
    for sampler in KARRAS:
        sigmas, times = [], []
        for name in KARRAS_SCHEDULES:
            schedule = named_schedule(name)
            for count in steps:
                # In diffusers the spacing gives both ends: with linspace they are the schedule's ends.
                options = {"timestep_spacing": "linspace", "use_karras_sigmas": True}
                scheduler = build_scheduler(sampler, schedule, "eps", **options)
                scheduler.set_timesteps(count)
                # Heun's list has every step but the first twice, for its two passes.
                stride = slice(None) if sampler != "heun" else [0, *range(1, 2 * count - 1, 2)]
                ours = schedule.sampling_levels(count, "karras")[:-1]
                sigmas.append(float((scheduler.sigmas[:-1][stride].double() / ours.karras_sigma - 1.0).abs().max()))
                times.append(float((scheduler.timesteps[stride].double() - ours.time).abs().max()))
        note = f"largest relative difference, {', '.join(KARRAS_SCHEDULES)}, {', '.join(map(str, steps))} steps"
        label = f"karras sigmas, {sampler}"
        checks.append(Check(section=SECTION, name=label, value=max_or_nan(sigmas), limit=FP32_LIMIT, note=note))
        rounds = sampler in ROUNDING_SAMPLERS
        checks.append(
            Check(
                section=SECTION,
                name=f"karras times, {sampler}",
                value=None if rounds else max_or_nan(times),
                limit=0.0 if rounds else TIME_LIMIT,
                note=ROUNDED_NOTE if rounds else "largest difference in steps of 1,000",
            )
        )
    return checks
