"""Check that the settings of a request fit each other and the process of the model."""

from __future__ import annotations

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.samplers import SAMPLER_OPTIONS
from latentdiff.errors import ConfigError
from latentdiff.inference.request import SamplingRequest


def check_settings(request: SamplingRequest, process: DiffusionConfig, bounded: bool) -> None:
    """Raise ConfigError for settings that are not possible, or that have no effect.

    Args:
        request: What is asked for.
        process: How the model was trained.
        bounded: Whether clean latents have bounds, as pixels have.
    """
    for option in request.sampler_options():
        if option not in SAMPLER_OPTIONS[request.sampler]:
            takers = ", ".join(name for name, own in SAMPLER_OPTIONS.items() if option in own)
            raise ConfigError(f"{option} belongs to the sampler {takers}, not to {request.sampler}")
    if request.variance == "learned" and not process.learn_variance:
        raise ConfigError("this model has no learned variance; variance must be small or large")
    _check_guidance(request, process)
    if request.thresholding == "dynamic" and not bounded:
        raise ConfigError("thresholding dynamic is for pixels: latents have no bounds")
    if request.eta is not None and not 0.0 <= request.eta <= 1.0:
        raise ConfigError(f"eta must be from 0 to 1, not {request.eta}")
    for name in ("churn_min", "churn_max", "churn_noise"):
        if getattr(request, name) is not None and not request.churn:
            raise ConfigError(f"{name} does nothing without churn: set churn above 0")
    for name in ("churn", "churn_min", "churn_noise", "corrector_steps", "corrector_snr"):
        if (getattr(request, name) or 0) < 0:
            raise ConfigError(f"{name} must not be negative")
    if request.batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {request.batch_size}")


def _check_guidance(request: SamplingRequest, process: DiffusionConfig) -> None:
    unguided = request.guidance_scale == 1.0 or request.guide is not None
    if not unguided and not process.class_dropout:
        raise ConfigError("this model was trained without class dropout: guidance_scale must be 1")
    if request.guidance_interval is not None:
        if not 0 <= request.guidance_interval[0] < request.guidance_interval[1]:
            raise ConfigError(
                f"guidance_interval must be two rising numbers, from 0 on, not {request.guidance_interval}"
            )
        if request.guidance_scale == 1.0:
            raise ConfigError("guidance_interval does nothing at guidance_scale 1, the default: use another scale")
    if request.guide is not None and request.guidance_scale == 1.0:
        raise ConfigError("guide does nothing at guidance_scale 1, the default: use more than 1")
