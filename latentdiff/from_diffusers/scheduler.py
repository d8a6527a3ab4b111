"""The configuration of diffusers' DDPM and DDIM schedulers, as our process and as defaults of sampling, and back."""

from __future__ import annotations

from typing import Any

import torch

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.denoiser import DYNAMIC_QUANTILE
from latentdiff.diffusion.schedule import BETAS, MAX_BETA, build_schedule
from latentdiff.diffusion.target import build_target
from latentdiff.errors import CheckpointError, ConfigError

SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")
TARGETS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
# diffusers' names of the variance that DDPM adds. The first two are one: the logarithm's detour.
VARIANCES = {
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "learned_range": "learned",
}
# From such a bound on, dynamic thresholding has none in effect: x0 is divided by a few hundred at most.
NO_BOUND = 1000.0


def process_of(
    kind: str, values: dict[str, Any], learns_variance: bool, on_latents: bool, named: str
) -> tuple[DiffusionConfig, dict[str, Any]]:
    """Return the process that a scheduler describes, and how it samples where nothing else is asked for.

    Args:
        kind: The scheduler's class.
        values: Its settings, all of them.
        learns_variance: Whether the network gives twice as many channels as it takes.
        on_latents: Whether the network works on latents, which have no bounds to be clipped to.
        named: What messages call the model.

    Returns: the process, and the defaults of sampling: ``spacing``, ``variance``, ``clip``, whether x0 is kept
        within [-1, 1], and ``unit_noise``, whether noise of unit variance is the start.

    Raises :class:`~latentdiff.errors.CheckpointError` that names the settings that there is nothing like here.
    """
    if kind not in SCHEDULERS:
        raise CheckpointError(
            f"{named} has the scheduler {kind}: latentdiff reads {' and '.join(SCHEDULERS)}. In diffusers "
            f"one of them takes its place:  {SCHEDULERS[1]}.from_config(pipeline.scheduler.config)"
        )
    refused = _refused(values, learns_variance, on_latents)
    if refused:
        raise CheckpointError(f"the scheduler of {named} has {', '.join(refused)}: latentdiff has nothing like it")
    betas, schedule = values["trained_betas"], SCHEDULES.get(values["beta_schedule"], "linear")
    by_range = betas is None and schedule in BETAS
    try:
        process = DiffusionConfig(
            schedule=schedule,  # pyright: ignore[reportArgumentType]
            num_train_steps=values["num_train_timesteps"] if betas is None else len(betas),
            beta_range=(values["beta_start"], values["beta_end"]) if by_range else None,
            trained_betas=None if betas is None else tuple(float(beta) for beta in betas),
            zero_terminal_snr=values["rescale_betas_zero_snr"],
            target=TARGETS[values["prediction_type"]],  # pyright: ignore[reportArgumentType]
            learn_variance=learns_variance,
            loss_weight="simple",
            # Its classes were never hidden: it has no row for "no class".
            class_dropout=0.0,
        )
        build_schedule(process)
        build_target(process)
    except ConfigError as error:
        raise CheckpointError(f"the scheduler of {named} cannot be used: {error}") from error
    sampling = {
        "spacing": values["timestep_spacing"],
        "variance": VARIANCES.get(values.get("variance_type", "fixed_small"), "small"),
        "clip": not on_latents and bool(values["clip_sample"] or values["thresholding"]),
        "unit_noise": True,
    }
    if _is_dynamic(values):
        print(f'the scheduler of {named} has dynamic thresholding: thresholding="dynamic" asks for it here')
    return process, sampling


def _refused(values: dict[str, Any], learns_variance: bool, on_latents: bool) -> list[str]:
    """The settings that there is nothing like here, as a message shows them."""
    variance, clips = values.get("variance_type", "fixed_small"), values["clip_sample"]
    learned = variance == "learned_range"
    wrong = {
        "beta_schedule": values["trained_betas"] is None and values["beta_schedule"] not in SCHEDULES,
        "prediction_type": values["prediction_type"] not in TARGETS,
        "variance_type": variance not in VARIANCES or learned != learns_variance,
        "clip_sample_range": clips and not values["thresholding"] and values["clip_sample_range"] != 1.0,
        "clip_sample": clips and on_latents,
        "thresholding": values["thresholding"] and on_latents,
        "dynamic_thresholding_ratio": _is_dynamic(values) and values["dynamic_thresholding_ratio"] != DYNAMIC_QUANTILE,
        "sample_max_value": values["thresholding"] and 1.0 != values["sample_max_value"] < NO_BOUND,
        "steps_offset": values["timestep_spacing"] == "leading" and values["steps_offset"] != 0,
        "set_alpha_to_one": values.get("set_alpha_to_one", True) is not True,
    }
    return [f"{name} {values.get(name)}" for name, is_wrong in wrong.items() if is_wrong]


def _is_dynamic(values: dict[str, Any]) -> bool:
    """Whether x0 is scaled into its bounds. With a largest value of 1 nothing is scaled, and it is clipped."""
    return bool(values["thresholding"]) and values["sample_max_value"] != 1.0


def settings_of(process: DiffusionConfig, sampling: dict[str, Any], on_latents: bool) -> dict[str, Any]:
    """Return the settings of diffusers' scheduler for a process.

    Args:
        process: A discrete, variance-preserving process.
        sampling: Defaults as of :func:`process_of`; may be empty.
        on_latents: Whether the model works on latents.

    Raises :class:`~latentdiff.errors.ConfigError` for a process or a target that diffusers' schedulers have not.
    """
    schedule = build_schedule(process)
    if schedule.num_train_steps is None:
        raise ConfigError(
            f"diffusers' schedulers know discrete steps alone, and this model's process ({process.schedule}) is in "
            "continuous time"
        )
    targets = {ours: theirs for theirs, ours in TARGETS.items()}
    if process.target not in targets or process.sigma_data != 1.0:
        raise ConfigError(
            f"diffusers' schedulers have no target {process.target} with sigma_data {process.sigma_data:g}: theirs are "
            f"{', '.join(targets)} with sigma_data 1"
        )
    names = {ours: theirs for theirs, ours in SCHEDULES.items()}
    values: dict[str, Any] = {
        "num_train_timesteps": schedule.num_train_steps,
        "prediction_type": targets[process.target],
        "clip_sample": not on_latents and sampling.get("clip", True),
        "timestep_spacing": sampling.get("spacing") or schedule.default_spacing,
        "rescale_betas_zero_snr": process.zero_terminal_snr,
        "steps_offset": 0,
    }
    if process.trained_betas is not None:
        values["trained_betas"] = list(process.trained_betas)
    elif process.schedule not in names:
        plain = DiffusionConfig(schedule=process.schedule, num_train_steps=process.num_train_steps)
        values["trained_betas"] = betas_of(plain)
    else:
        values["beta_schedule"] = names[process.schedule]
        if process.schedule in BETAS:
            usual = [1000 / schedule.num_train_steps * beta for beta in BETAS[process.schedule][:2]]
            start, end = process.beta_range or usual
            if max(start, end) >= MAX_BETA:  # few steps: ours are cut off there, those of diffusers are not
                values["trained_betas"] = betas_of(process)
            else:
                values["beta_start"], values["beta_end"] = start, end
    return values


def betas_of(process: DiffusionConfig) -> list[float]:
    """Return the betas of a discrete process, one for each step."""
    alpha_bar = build_schedule(process).alpha_bar
    return (1.0 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])).tolist()
