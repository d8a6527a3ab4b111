"""Whose images are measured: a model's samples, an autoencoder's reconstructions or prior, or noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from latentdiff import checkpoint
from latentdiff.codec import Codec, load_codec
from latentdiff.data import ImageSet
from latentdiff.diffusion.noise import ImageNoise
from latentdiff.pipeline import Request, load_diffusion


@dataclass(frozen=True)
class Subject:
    """Images to measure, made batch by batch as they are asked for.

    Attributes:
        kind: ``noise``, ``prior``, ``reconstruction`` or ``diffusion``.
        batches: uint8 images [b, c, h, w].
        labels: int64 [n], the class asked for in each image, or None.
        model: Parameters, latent shape and compression, for a report.
        sampling: Sampler, steps, guidance and seed, for a report.
        provenance: How the model was trained.
    """

    kind: str
    batches: Iterator[Tensor]
    labels: Tensor | None = None
    model: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None


def noise(test: ImageSet, num_images: int, seed: int, batch_size: int) -> Subject:
    """Uniform random pixels: the far end of every scale."""
    generator = torch.Generator().manual_seed(seed)
    batches = (
        torch.randint(0, 256, (len(indices), *test.image_shape), generator=generator, dtype=torch.uint8)
        for indices in _ranges(num_images, batch_size)
    )
    return Subject("noise", batches, torch.arange(num_images) % test.num_classes)


def autoencoder(
    path: Path,
    mode: Literal["reconstruction", "prior"],
    test: ImageSet,
    num_images: int,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> Subject:
    """An autoencoder's reconstructions of the first test images, or its decoding of N(0, I), the VAE baseline.

    Raises :class:`~latentdiff.checkpoint.CheckpointError`, and ValueError for images of another shape or too many.
    """
    codec = load_codec(path).to(device)
    _check_shape(path, codec, test)
    parameters = sum(p.numel() for p in codec.model.parameters())
    about = {"model": _about(codec, parameters), "provenance": checkpoint.read_header(path)["provenance"]}
    ranges = _ranges(num_images, batch_size)
    if mode == "prior":
        latents = (ImageNoise(seed, indices, codec.latent_shape, device)() for indices in ranges)
        sampling = {"sampler": "decoder", "steps": 1, "guidance_scale": None, "seed": seed}
        return Subject("prior", (codec.decode_prior(z) for z in latents), sampling=sampling, **about)
    if num_images > len(test):
        raise ValueError(f"{num_images:,} reconstructions were asked for; the test split has {len(test):,} images")
    batches = (codec.reconstruct(test.images[indices.start : indices.stop]) for indices in ranges)
    return Subject("reconstruction", batches, test.labels[:num_images], **about)


def diffusion(path: Path, request: Request, test: ImageSet, device: torch.device) -> Subject:
    """A diffusion model's samples.

    Raises :class:`~latentdiff.checkpoint.CheckpointError`, and ValueError for an impossible request.
    """
    model = load_diffusion(path).to(device)
    _check_shape(path, model.codec, test)
    model.check(request)

    def batches() -> Iterator[Tensor]:
        for _, states in model.batches(request):
            *_, last = states
            yield model.codec.decode(last.x)

    return Subject(
        "diffusion",
        batches(),
        model.resolve_labels(request),
        _about(model.codec, sum(p.numel() for p in model.network.parameters())),
        request.record(),
        model.header["provenance"],
    )


def _ranges(num_images: int, batch_size: int) -> list[range]:
    return [range(start, min(start + batch_size, num_images)) for start in range(0, num_images, batch_size)]


def _about(codec: Codec, parameters: int) -> dict[str, Any]:
    return {"parameters": parameters, "latent_shape": list(codec.latent_shape), "compression": codec.compression}


def _check_shape(path: Path, codec: Codec, test: ImageSet) -> None:
    if codec.image_shape != test.image_shape:
        raise ValueError(f"{path} makes images of {list(codec.image_shape)}, {test.name} has {list(test.image_shape)}")
