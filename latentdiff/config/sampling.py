"""How to go from noise to images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentdiff.config.base import Settings

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


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Settings):
    """How to go from noise to images.

    Args:
        steps: Sampling steps, each one network pass; heun and predictor_corrector take two.
        sampler: The solver that walks from noise to image.
        spacing: Where the steps are; default: trailing, for exploding processes karras.
        rho: Exponent of the karras spacing (Karras et al. 2022, equation 5), default 7: larger puts more steps near the
            image.
        guidance_scale: Classifier-free guidance: 1 is off, 0 ignores the class, larger exaggerates it; with a guide,
            autoguidance.
        guidance_interval: Guide only where noise over signal, sigma / alpha, lies between these two.
        guide: Model file of a weaker model of the same kind, to be guided away from (autoguidance).
        thresholding: How x0 is kept within the bounds of pixels: static clamps, dynamic scales it first (Imagen). In a
            latent space nothing is ever clamped.
        variance: What ddpm adds: small (beta-tilde), large (beta) or learned; default: learned where the model has it,
            else small.
        eta: Noise of ddim (default 0; 1 is as much as ddpm), euler_ancestral and dpmpp_2m_sde (default 1).
        churn: Karras's S_churn for heun: noise added and taken away again on the way.
        churn_min: Least sigma / alpha that churn acts at.
        churn_max: Most sigma / alpha that churn acts at.
        churn_noise: Standard deviation of churn's noise.
        corrector_steps: Langevin steps of predictor_corrector after each step.
        corrector_snr: Size of those Langevin steps (the paper's r, 0.16).
        precision: Of the denoising network; the decoder's is always fp32. ``bf16`` is autocast, faster for more than
            a few images where the GPU or CPU multiplies in it, and moves the images a little.
        seed: Image i depends on (seed, i) alone.
        batch_size: Images at a time; changes memory, not images.
    """

    steps: int = 20
    sampler: SamplerName = "dpmpp_2m"
    spacing: Spacing | None = None
    rho: float | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guide: str | None = None
    thresholding: Literal["none", "static", "dynamic"] = "static"
    variance: Literal["small", "large", "learned"] | None = None
    eta: float | None = None
    churn: float | None = None
    churn_min: float | None = None
    churn_max: float | None = None
    churn_noise: float | None = None
    corrector_steps: int | None = None
    corrector_snr: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    batch_size: int = 64
