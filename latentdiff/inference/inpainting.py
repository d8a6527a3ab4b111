"""Fill a part of images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdiff.codec import AutoencoderCodec
from latentdiff.config.checks import checked
from latentdiff.config.sampling import SamplingConfig
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.diffusion.noise_levels import Transitions
from latentdiff.errors import ConfigError
from latentdiff.inference.given_images import checked_request, classes_for, latents_of, noise_for, with_prompt
from latentdiff.inference.labels import Labels
from latentdiff.inference.model import DiffusionModel, check_finite_samples
from latentdiff.inference.prompts import Prompt
from latentdiff.inference.request import SamplingRequest
from latentdiff.progress import progress_bar


def inpaint(
    model: DiffusionModel,
    images: Tensor,
    mask: Tensor,
    labels: Labels = None,
    resamples: int = 5,
    steps: int = 50,
    seed: int = 0,
    prompt: Prompt = None,
    batch_size: int = SamplingConfig.batch_size,
) -> Tensor:
    """Fill a part of images (RePaint: Lugmayr et al. 2022): ancestral steps that put the known part back in each time.

    Args:
        model: A diffusion model. In a latent space, the latents of masked pixels and their neighbours are sampled anew.
            For encoding, the masked pixels are replaced by the mean of the known pixels.
        images: uint8 [n, c, h, w].
        mask: bool [h, w] or [n, 1, h, w]: True where the images are to be filled. The other pixels stay as they are.
        labels: As in :func:`reconstruct`.
        resamples: How often each step is repeated (after noise is added again), so that both parts fit together.
        steps: Steps from noise to image, each of ``resamples`` passes.
        seed: Image i depends on (seed, i) alone.
        prompt: As in :func:`reconstruct`.
        batch_size: Number of images filled at a time.

    Returns: uint8 [n, c, h, w].
    """
    n, (height, width) = len(images), model.codec.image_shape[1:]
    labels = with_prompt(model, n, labels, prompt)
    mask = torch.as_tensor(mask).bool().to(model.device)
    if mask.shape not in ((height, width), (n, 1, height, width)):
        raise ConfigError(
            f"the mask must be [{height}, {width}] or [{n}, 1, {height}, {width}], not {list(mask.shape)}"
        )
    if checked(resamples, int, "resamples") < 1:
        raise ConfigError(f"resamples must be at least 1, not {resamples}")
    mask = mask.expand(n, 1, height, width)
    unknown, shown = mask, images.to(model.device)
    if isinstance(model.codec, AutoencoderCodec):
        unknown = F.adaptive_max_pool2d(mask.float(), model.codec.latent_shape[1:])
        unknown = F.max_pool2d(unknown, 3, stride=1, padding=1) > 0
    known_pixels = shown.float().masked_fill(mask, 0.0).sum(dim=(2, 3)) / (~mask).sum(dim=(2, 3)).clamp_min(1)
    shown = torch.where(mask, known_pixels.round()[:, :, None, None].to(torch.uint8), shown)
    request = checked_request(
        model, n, labels, {"sampler": "ddpm", "steps": steps, "seed": seed, "batch_size": batch_size}
    )
    known, classes = latents_of(model, shown), classes_for(model, labels, n)
    filled, finite = [], []
    for start in range(0, n, batch_size):
        part = slice(start, start + batch_size)
        noise = noise_for(model, seed, len(known[part]), first=start)
        own = None if classes is None else classes[part]
        x = _fill(model, request, own, noise, (known[part], unknown[part]), resamples, finite)
        filled.append(model.codec.decode(x).cpu())
    painted = torch.where(mask.cpu(), torch.cat(filled), images.cpu())
    check_finite_samples(finite, request)
    return painted


def _fill(
    model: DiffusionModel,
    request: SamplingRequest,
    classes: Tensor | None,
    noise: PerImageNoise,
    given: tuple[Tensor, Tensor],
    resamples: int,
    finite: list[Tensor],
) -> Tensor:
    """The latents of one batch, [b, c, h, w], for known latents and where they are unknown, which ``given`` holds."""
    (known, unknown), levels = given, model.schedule.sampling_levels(request.steps)
    x = noise() * float(levels.sigma[0])
    for step in progress_bar(range(request.steps), desc="inpainting", leave=False):
        pair = levels[step : step + 2]
        last_time = 1 if step == request.steps - 1 else resamples
        for turn in range(last_time):
            *_, state = model.states(request, classes, noise, pair, x, finite)
            kept = float(pair.alpha[1]) * known + float(pair.sigma[1]) * noise()
            x = torch.where(unknown, state.x, kept)
            if turn + 1 < last_time:
                ratio = float(pair.alpha[0] / pair.alpha[1])
                again = math.sqrt(float(Transitions.from_levels(pair).beta))
                x = ratio * x + again * noise()
    return x
