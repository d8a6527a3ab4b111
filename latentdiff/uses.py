"""What one can do with a trained model beside sampling: noise, reconstruct, interpolate, inpaint, judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from latentdiff.diffusion.levels import Levels, Transitions, add_noise
from latentdiff.diffusion.likelihood import ode_bits_per_dim, variational_bound
from latentdiff.diffusion.noise import ImageNoise
from latentdiff.pipeline import DiffusionModel, Request
from latentdiff.precision import full_precision
from latentdiff.settings import check_choice

Labels = int | Sequence[int] | Tensor | None
Method = Literal["bound", "ode"]
Variance = Literal["small", "large", "learned"] | None
# The least noise that an image is inverted from: an image itself is off the path of the flow.
LEAST_RATIO = 0.02
# The flow is followed over levels of its own, so the request's number of steps is of no account.
FLOW = {"sampler": "heun", "steps": 1, "thresholding": "none"}


def forward_process(model: DiffusionModel, images: Tensor, shares: Sequence[float], seed: int = 0) -> Tensor:
    """Images with more and more noise, decoded: what the training of ``model`` starts from.

    Args:
        model: Whose process and codec.
        images: uint8 [n, c, h, w].
        shares: Positions on the schedule, 0 (clean) to 1 (its last level).
        seed: Image i's noise depends on (seed, i), and is the same at every share.

    Returns: uint8 [len(shares), n, c, h, w].
    """
    check_shares(shares)
    latents = _latents(model, images)
    noise = _noise(model, seed, len(images))()
    return torch.stack([model.codec.decode(_noised(model, latents, noise, share)).cpu() for share in shares])


def reverse_process(
    model: DiffusionModel, num_images: int, frames: int, labels: Labels = None, **settings: Any
) -> Tensor:
    """Noise that becomes images, decoded: the states that sampling goes through.

    Args:
        model: A diffusion model.
        num_images: How many images.
        frames: How many states, evenly spread over the steps: the first is pure noise, the last what
            :meth:`~latentdiff.pipeline.DiffusionModel.sample` gives.
        labels: As ``sample`` takes them: one class for all, one for each, or None: classes in turn.
        settings: Those of :class:`~latentdiff.config.SamplingConfig`.

    Returns: uint8 [frames, num_images, c, h, w].
    """
    request = _request(model, num_images, labels, settings)
    if not 2 <= frames <= request.steps + 1:
        what = f"from 2, noise and image, to {request.steps + 1} for {request.steps} steps"
        raise ValueError(f"frames must be {what}, not {frames}")
    kept = set(torch.linspace(0, request.steps, frames, dtype=torch.float64).round().int().tolist())
    batches = []
    for indices, states in model.batches(request):
        shown = [model.start(request, indices)[0], *(state.x for state in states if state.step in kept)]
        batches.append(torch.stack([model.codec.decode(x).cpu() for x in shown]))
    return torch.cat(batches, dim=1)


def check_shares(shares: Sequence[float]) -> None:
    """Raise ValueError for shares of noise that there cannot be."""
    for share in shares:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share of noise must be from 0 to 1, not {share}")


def reconstruct(
    model: DiffusionModel, images: Tensor, shares: Sequence[float], labels: Labels = None, **settings: Any
) -> Tensor:
    """Noise images up to each share of the schedule and denoise them back: what the model keeps of an image, and what
    it makes up (SDEdit: Meng et al. 2022).

    Args:
        model, images, shares: As in :func:`forward_process`.
        labels: One class for all, one for each, or None: without a class where the model was trained so.
        settings: Those of :class:`~latentdiff.config.SamplingConfig`; ``steps`` are those from pure noise, of which a
            smaller share takes fewer.

    Returns: uint8 [len(shares), n, c, h, w].
    """
    check_shares(shares)
    request = _request(model, len(images), labels, settings)
    latents, classes = _latents(model, images), _classes(model, labels, len(images))
    results = []
    for share in shares:
        noise = _noise(model, request.seed, len(images))
        x = _noised(model, latents, noise(), share)
        if share > 0.0:
            *_, last = model.states(request, classes, noise, _levels_from(model, request, share), x)
            x = last.x
        results.append(model.codec.decode(x).cpu())
    return torch.stack(results)


def invert(model: DiffusionModel, images: Tensor, labels: Labels = None, steps: int = 100) -> Tensor:
    """The noise that the probability-flow ODE carries images to (DDIM, section 4.3), by Heun's method.

    Returns: fp32 [n, *latent_shape], about N(0, 1). :func:`generate` leads back.
    """
    request = _request(model, len(images), labels, FLOW)
    levels = _flow_levels(model, steps)
    start = float(levels.alpha[-1]) * _latents(model, images)
    upwards = levels[torch.arange(len(levels) - 1, -1, -1)]
    *_, last = _walk(model, request, labels, upwards, start)
    return last.x / float((levels.alpha[0].square() + levels.sigma[0].square()).sqrt())


def generate(model: DiffusionModel, noise: Tensor, labels: Labels = None, steps: int = 100) -> Tensor:
    """uint8 images from given noise [n, *latent_shape]: the inverse of :func:`invert`."""
    request = _request(model, len(noise), labels, FLOW)
    levels = _flow_levels(model, steps)
    start = noise.to(model.device) * float((levels.alpha[0].square() + levels.sigma[0].square()).sqrt())
    *_, last = _walk(model, request, labels, levels, start)
    return model.codec.decode(last.x / float(levels.alpha[-1])).cpu()


def interpolate(
    model: DiffusionModel, first: Tensor, second: Tensor, count: int, labels: Labels = None, steps: int = 100
) -> Tensor:
    """From one image to another over the noise behind both, on the great circle between (DDIM, appendix D.5).

    Args:
        model: A diffusion model.
        first, second: uint8 [n, c, h, w].
        count: Images in a row, with both ends.
        labels: As in :func:`reconstruct`, for both ends alike.
        steps: Heun steps each way.

    Returns: uint8 [count, n, c, h, w]. The ends are the images as far as the flow leads back to them.
    """
    if count < 2:
        raise ValueError(f"an interpolation needs at least its 2 ends, not {count} images")
    a, b = (invert(model, images, labels, steps) for images in (first, second))
    return torch.stack([generate(model, _slerp(a, b, i / (count - 1)), labels, steps) for i in range(count)])


def inpaint(
    model: DiffusionModel,
    images: Tensor,
    mask: Tensor,
    labels: Labels = None,
    resamples: int = 5,
    steps: int = 50,
    seed: int = 0,
) -> Tensor:
    """Fill a part of images (RePaint: Lugmayr et al. 2022): ancestral steps that put the known part back in each time.

    Args:
        model: A diffusion model. In a latent space every latent that a masked pixel belongs to, and its neighbours, are
            made anew; the encoder is shown the mean of the known pixels in place of the masked ones.
        images: uint8 [n, c, h, w].
        mask: bool [h, w] or [n, 1, h, w]: True where the images are to be filled. The other pixels stay as they are.
        labels: As in :func:`reconstruct`.
        resamples: Times that each step is gone back and done again, so that both parts agree.
        steps: Steps from noise to image, each of ``resamples`` passes.
        seed: Image i depends on (seed, i) alone.

    Returns: uint8 [n, c, h, w].
    """
    n, (height, width) = len(images), model.codec.image_shape[1:]
    mask = torch.as_tensor(mask).bool().to(model.device)
    if mask.shape not in ((height, width), (n, 1, height, width)):
        raise ValueError(f"the mask must be [{height}, {width}] or [{n}, 1, {height}, {width}], not {list(mask.shape)}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    mask = mask.expand(n, 1, height, width)
    unknown, shown = mask, images.to(model.device)
    if model.codec.latent_shape[1:] != model.codec.image_shape[1:]:
        unknown = F.adaptive_max_pool2d(mask.float(), model.codec.latent_shape[1:])
        unknown = F.max_pool2d(unknown, 3, stride=1, padding=1) > 0
    known_pixels = shown.float().masked_fill(mask, 0.0).sum(dim=(2, 3)) / (~mask).sum(dim=(2, 3)).clamp_min(1)
    shown = torch.where(mask, known_pixels.round()[:, :, None, None].to(torch.uint8), shown)
    request = _request(model, n, labels, {"sampler": "ddpm", "steps": steps, "seed": seed})
    levels, known = model.schedule.sampling_levels(steps), _latents(model, shown)
    noise, classes = _noise(model, seed, n), _classes(model, labels, n)
    x = noise() * float(levels.sigma[0])
    for step in tqdm(range(steps), desc="inpainting", disable=None, leave=False):
        pair = levels[step : step + 2]
        last_time = 1 if step == steps - 1 else resamples
        for turn in range(last_time):
            *_, state = model.states(request, classes, noise, pair, x)
            kept = float(pair.alpha[1]) * known + float(pair.sigma[1]) * noise()
            x = torch.where(unknown, state.x, kept)
            if turn + 1 < last_time:
                ratio = float(pair.alpha[0] / pair.alpha[1])
                again = math.sqrt(float(Transitions.between(pair).large))
                x = ratio * x + again * noise()
    return torch.where(mask.cpu(), model.codec.decode(x).cpu(), images.cpu())


def bits_per_dim(
    model: DiffusionModel,
    images: Tensor,
    labels: Labels = None,
    method: Method = "bound",
    variance: Variance = None,
    steps: int | None = None,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """How well a model predicts images, in bits per dimension, fp32 [n]; lower is better.

    For a pixel model these are bits per pixel value, of the uint8 images: what a compressor built on the model would
    need. For a latent model they are of the latents' *density*, may be negative, and compare models of one autoencoder
    alone.

    Args:
        model, images, labels: As in :func:`reconstruct`.
        method: ``bound``, the variational bound of the discrete process; ``ode``, the likelihood of the flow.
        variance: The bound's reverse variance; default: learned where the model has it, else large.
        steps: Levels; default: all of the training's (1,000 in continuous time), 200 for the ODE, whose error with too
            few makes a model look better than it is.
        seed: Of the noise that each term is estimated with.
        first: Index of the first image, for many images in several calls: image i's noise depends on (seed, i).
    """
    check_choice("method", method, Method)
    check_choice("variance", variance, Variance)
    variance = variance or ("learned" if model.diffusion.learn_variance else "large")
    settings = {"steps": 1, "thresholding": "static" if method == "bound" else "none"}
    request = _request(model, len(images), labels, settings)
    denoiser = model.denoiser(request, _classes(model, labels, len(images)))
    x0, pixels = _latents(model, images), model.codec.value_range is not None
    noise = _noise(model, seed, len(images), first)
    if method == "bound":
        if variance == "learned" and not model.diffusion.learn_variance:
            raise ValueError("this model has no learned variance; variance must be small or large")
        levels = model.schedule.sampling_levels(steps or model.schedule.num_train_steps or 1000)
        with torch.inference_mode(), full_precision():
            return variational_bound(denoiser, x0, levels, noise, variance, discretised=pixels).total.cpu()
    if pixels:
        # Uniform noise over each value's bin makes the density's integral its probability (Theis et al. 2016).
        width = 2.0 / 255.0
        x0 = x0 + width * (torch.special.ndtr(noise()) - 0.5)
    with full_precision():
        bits = ode_bits_per_dim(denoiser, x0, _flow_levels(model, steps or 200, least=0.002), noise)
    return (bits - math.log2(width)).cpu() if pixels else bits.cpu()


# --- what they share ---


def _request(model: DiffusionModel, n: int, labels: Labels, settings: dict[str, Any]) -> Request:
    request = Request(num_images=n, labels=labels, **settings)
    model.check(request)
    return request


def _latents(model: DiffusionModel, images: Tensor) -> Tensor:
    """The latents of images, at the middle of their posterior."""
    moments = model.codec.encode(images.to(model.device))
    zeros = torch.zeros(len(images), *model.codec.latent_shape, device=model.device)
    return model.codec.sample(moments, noise=zeros)


def _noise(model: DiffusionModel, seed: int, n: int, first: int = 0) -> ImageNoise:
    return ImageNoise(seed, range(first, first + n), model.codec.latent_shape, model.device)


def _classes(model: DiffusionModel, labels: Labels, n: int) -> Tensor | None:
    """int64 [n] on the model's device: those given, else "none"; None for an unconditional model."""
    if not model.conditional:
        return None
    if labels is not None:
        return model.resolve_labels(Request(num_images=n, labels=labels)).to(model.device)
    if not model.diffusion.class_dropout:
        raise ValueError("this model was trained without class dropout: give it labels")
    return torch.full((n,), model.network.null_label, device=model.device)


def _noised(model: DiffusionModel, latents: Tensor, noise: Tensor, share: float) -> Tensor:
    if share == 0.0:
        return latents
    return add_noise(latents, noise, _level(model, share))


def _level(model: DiffusionModel, share: float) -> Levels:
    """The level at a share of the schedule, [1]."""
    return model.schedule.levels(torch.tensor([share * model.schedule.last], dtype=torch.float64).round(decimals=6))


def _levels_from(model: DiffusionModel, request: Request, share: float) -> Levels:
    """The request's levels below a share of the schedule, and that share itself first."""
    start, levels = _level(model, share), model.levels(request)
    below = levels[levels.ratio < float(start.ratio[0])]
    return start.followed_by(below)


def _flow_levels(model: DiffusionModel, steps: int, least: float = LEAST_RATIO) -> Levels:
    """Finite levels from the noisiest to ``least``, even in the 7th root of the noise (Karras et al. 2022)."""
    schedule = model.schedule
    high = float(schedule.levels(torch.tensor([schedule.last], dtype=torch.float64)).ratio[0])
    # Beyond a few hundred to one an image is gone for fp32 as well.
    roots = torch.linspace(min(high, 200.0) ** (1 / 7), least ** (1 / 7), steps + 1, dtype=torch.float64)
    return schedule.at(roots**7)


def _walk(model: DiffusionModel, request: Request, labels: Labels, levels: Levels, x: Tensor):
    return model.states(request, _classes(model, labels, len(x)), _noise(model, request.seed, len(x)), levels, x)


def _slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation, image by image (Shoemake 1985)."""
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = F.cosine_similarity(flat_a, flat_b, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.acos(cosine)[:, None]
    mixed = (torch.sin((1 - share) * angle) * flat_a + torch.sin(share * angle) * flat_b) / torch.sin(angle)
    return mixed.reshape(a.shape)
