"""The noise behind an image, and the way between two images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdiff.config.checks import checked
from latentdiff.config.ranges import Steps
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.errors import ConfigError
from latentdiff.inference.given_images import checked_request, classes_for, latents_of, noise_for, with_prompt
from latentdiff.inference.labels import Labels
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.prompts import Prompt
from latentdiff.inference.request import SamplingRequest

# The least noise that an image is inverted from: an image itself is off the path of the flow.
MIN_KARRAS_SIGMA = 0.02
# The flow is followed over levels of its own, so the request's number of steps is of no account.
FLOW_SETTINGS = {"sampler": "heun", "steps": 1, "thresholding": "none"}


def invert(
    model: DiffusionModel, images: Tensor, labels: Labels = None, steps: int = 100, prompt: Prompt = None
) -> Tensor:
    """The noise that the probability-flow ODE carries images to (DDIM, section 4.3), by Heun's method.

    Returns: fp32 [n, *latent_shape], about N(0, 1). :func:`generate` leads back.
    """
    labels = with_prompt(model, len(images), labels, prompt)
    request = checked_request(model, len(images), labels, FLOW_SETTINGS)
    levels = flow_levels(model, steps)
    start = float(levels.alpha[-1]) * latents_of(model, images)
    upwards = levels[torch.arange(len(levels) - 1, -1, -1)]
    *_, last = _follow_flow(model, request, labels, upwards, start)
    return last.x / float((levels.alpha[0].square() + levels.sigma[0].square()).sqrt())


def generate(
    model: DiffusionModel, noise: Tensor, labels: Labels = None, steps: int = 100, prompt: Prompt = None
) -> Tensor:
    """uint8 images from given noise [n, *latent_shape]: the inverse of :func:`invert`."""
    labels = with_prompt(model, len(noise), labels, prompt)
    request = checked_request(model, len(noise), labels, FLOW_SETTINGS)
    levels = flow_levels(model, steps)
    start = noise.to(model.device) * float((levels.alpha[0].square() + levels.sigma[0].square()).sqrt())
    *_, last = _follow_flow(model, request, labels, levels, start)
    return model.codec.decode(last.x / float(levels.alpha[-1])).cpu()


def interpolate(
    model: DiffusionModel,
    first: Tensor,
    second: Tensor,
    count: int,
    labels: Labels = None,
    steps: int = 100,
    prompt: Prompt = None,
) -> Tensor:
    """Interpolate between two images through their noise, by spherical interpolation (DDIM, appendix D.5).

    Args:
        model: A diffusion model.
        first, second: uint8 [n, c, h, w].
        count: Images in a row, with both ends.
        labels: As in :func:`reconstruct`, for both ends alike.
        steps: Heun steps each way.
        prompt: As in :func:`reconstruct`, for both ends alike.

    Returns: uint8 [count, n, c, h, w]. Both ends are reconstructions of the given images by the flow.
    """
    if checked(count, int, "count") < 2:
        raise ConfigError(f"an interpolation needs at least 2 images, its ends, not {count}")
    labels = with_prompt(model, len(first), labels, prompt)
    a, b = (invert(model, images, labels, steps) for images in (first, second))
    return torch.stack([generate(model, _slerp(a, b, i / (count - 1)), labels, steps) for i in range(count)])


def flow_levels(model: DiffusionModel, steps: int, least: float = MIN_KARRAS_SIGMA) -> NoiseLevels:
    """Finite levels from the noisiest to ``least``, even in the 7th root of the noise (Karras et al. 2022)."""
    schedule, steps = model.schedule, checked(steps, Steps, "steps")
    high = float(schedule.levels(torch.tensor([schedule.last_position], dtype=torch.float64)).karras_sigma[0])
    # Beyond a few hundred to one an image is gone for fp32 as well.
    roots = torch.linspace(min(high, 200.0) ** (1 / 7), least ** (1 / 7), steps + 1, dtype=torch.float64)
    return schedule.levels_at_sigma(roots**7)


def _follow_flow(model: DiffusionModel, request: SamplingRequest, labels: Labels, levels: NoiseLevels, x: Tensor):
    return model.states(request, classes_for(model, labels, len(x)), noise_for(model, request.seed, len(x)), levels, x)


def _slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation, image by image (Shoemake 1985)."""
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = F.cosine_similarity(flat_a, flat_b, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.acos(cosine)[:, None]
    mixed = (torch.sin((1 - share) * angle) * flat_a + torch.sin(share * angle) * flat_b) / torch.sin(angle)
    return mixed.reshape(a.shape)
