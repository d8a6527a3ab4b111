"""How well a model predicts images."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from latentdiff.codec import AutoencoderCodec
from latentdiff.config import check_choice
from latentdiff.config.checks import checked
from latentdiff.config.ranges import Steps
from latentdiff.diffusion.likelihood import ode_bits_per_dim, variational_bound
from latentdiff.errors import ConfigError
from latentdiff.inference.given_images import checked_request, classes_for, latents_of, noise_for, with_prompt
from latentdiff.inference.inversion import flow_levels
from latentdiff.inference.labels import Labels
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.prompts import Prompt
from latentdiff.precision import disable_tf32

Method = Literal["bound", "ode"]
Variance = Literal["small", "large", "learned"] | None


def bits_per_dim(
    model: DiffusionModel,
    images: Tensor,
    labels: Labels = None,
    method: Method = "bound",
    variance: Variance = None,
    steps: int | None = None,
    seed: int = 0,
    first: int = 0,
    prompt: Prompt = None,
) -> Tensor:
    """How well a model predicts images, in bits per dimension, fp32 [n]; lower is better.

    For a pixel model these are bits per pixel value, of the uint8 images: what a compressor built on the model would
    need. For a latent model they are of the latents' *density*, may be negative, and compare models of one autoencoder
    alone.

    Args:
        model, images, labels: As in :func:`reconstruct`.
        method: ``bound``, the variational bound of the discrete process; ``ode``, the likelihood of the flow.
        variance: The bound's reverse variance; default: learned where the model has it, else large.
        steps: Noise levels. Default: all of the training's (1,000 in continuous time), 200 for the ODE. With too few,
            the ODE makes a model look better than it is.
        seed: Seed of the noise that each term is estimated with.
        first: Index of the first image, for many images in several calls: image i's noise depends on (seed, i).
        prompt: As in :func:`reconstruct`.
    """
    labels = with_prompt(model, len(images), labels, prompt)
    check_choice("method", method, Method)
    check_choice("variance", variance, Variance)
    steps = checked(steps, Steps | None, "steps")
    variance = variance or ("learned" if model.diffusion.learn_variance else "large")
    settings = {"steps": 1, "thresholding": "static" if method == "bound" else "none"}
    request = checked_request(model, len(images), labels, settings)
    denoiser = model.denoiser(request, classes_for(model, labels, len(images)), differentiable=method == "ode")
    x0, pixels = latents_of(model, images), not isinstance(model.codec, AutoencoderCodec)
    noise = noise_for(model, seed, len(images), first)
    if method == "bound":
        if variance == "learned" and not model.diffusion.learn_variance:
            raise ConfigError("this model has no learned variance; variance must be small or large")
        levels = model.schedule.sampling_levels(steps or model.schedule.num_train_steps or 1000)
        with torch.inference_mode(), disable_tf32():
            return variational_bound(denoiser, x0, levels, noise, variance, discretised=pixels).total.cpu()
    if pixels:
        # Uniform noise over each value's bin makes the density's integral its probability (Theis et al. 2016).
        width = 2.0 / 255.0
        x0 = x0 + width * (torch.special.ndtr(noise()) - 0.5)
    with disable_tf32():
        bits = ode_bits_per_dim(denoiser, x0, flow_levels(model, steps or 200, least=0.002), noise)
    return (bits - math.log2(width)).cpu() if pixels else bits.cpu()
