"""Settings of sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.ranges import BatchSize, GuidanceScale, PathSetting, Range, Seed, Steps

SamplerName = Literal[
    "ddpm",
    "ddim",
    "euler",
    "euler_ancestral",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "unipc",
    "euler_maruyama",
    "predictor_corrector",
]
Spacing = Literal["trailing", "leading", "linspace", "quadratic", "karras"]

EngineName = Literal["torch", "onnxruntime", "openvino", "auto"]

# A noise level as sigma / alpha, which is infinite where a schedule ends in pure noise.
Level = Annotated[float, Range(0, math.inf)]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Settings):
    """How images are sampled from noise.

    Args:
        steps: Number of sampling steps. A step is one network pass. With heun it is two, and with predictor_corrector
            1 + ``corrector_steps``; the last step is one pass.
        sampler: The sampler, that is the solver of the reverse process.
        spacing: How the noise levels of the steps are spaced. Default: trailing, and karras for the schedules edm and
            ve.
        rho: Exponent of the karras spacing (Karras et al. 2022, equation 5). Default: 7. A larger exponent puts more
            steps near the image.
        guidance_scale: Scale of classifier-free guidance. 1 turns it off, 0 ignores the class, and more than 1
            exaggerates the class. With ``guide`` it is the scale of autoguidance.
        guidance_interval: Range of sigma / alpha (noise over signal) in which guidance acts. Default: everywhere.
        guide: File of a weaker model for autoguidance, which steers the images away from that model. Both models must
            have the same target, classes and latents.
        thresholding: How predicted pixels are kept in [-1, 1]. ``static`` clamps them. ``dynamic`` scales them first
            (Imagen). Latents are never clamped.
        variance: Variance of the noise that ddpm adds: small (beta-tilde), large (beta) or learned. Default: learned
            where the model learned it, else small. The task likelihood takes large in place of small.
        eta: Amount of noise that ddim, euler_ancestral and dpmpp_2m_sde add. Default: 0 for ddim, where 1 adds as much
            as ddpm, and 1 for the others.
        churn: Amount of noise that heun adds and removes again on the way (S_churn of Karras et al. 2022).
        churn_min: Smallest sigma / alpha at which churn acts.
        churn_max: Largest sigma / alpha at which churn acts.
        churn_noise: Standard deviation of the noise that churn adds.
        corrector_steps: Langevin steps of predictor_corrector after each sampling step.
        corrector_snr: Signal-to-noise ratio of a Langevin step (r in Song et al. 2021). Default: 0.16.
        precision: Precision of the denoising network; the decoder always uses fp32. ``bf16`` is autocast. It is faster
            for more than a few images on hardware that is fast in bf16, and changes the images a little. ``int8`` takes
            about two thirds of fp32's time, changes the images more, and needs the engine onnxruntime or openvino.
        seed: Seed of the noise. The noise of image i depends on (seed, i) alone.
        batch_size: Number of images sampled at a time. A larger batch needs more memory.
    """

    steps: Steps = 20
    sampler: SamplerName = "dpmpp_2m"
    spacing: Spacing | None = None
    rho: Annotated[float, Range(0.1, 1000)] | None = None
    guidance_scale: GuidanceScale = 1.0
    guidance_interval: tuple[Level, Level] | None = None
    guide: PathSetting | None = None
    thresholding: Literal["none", "static", "dynamic"] = "static"
    variance: Literal["small", "large", "learned"] | None = None
    eta: Annotated[float, Range(0, 100)] | None = None
    churn: Annotated[float, Range(0, 10**6)] | None = None
    churn_min: Level | None = None
    churn_max: Level | None = None
    churn_noise: Annotated[float, Range(0, 100)] | None = None
    corrector_steps: Annotated[int, Range(0, 1000)] | None = None
    corrector_snr: Annotated[float, Range(0, 100, above=True)] | None = None
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    seed: Seed = 0
    batch_size: BatchSize = 64
