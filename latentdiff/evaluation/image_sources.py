"""Where the images come from that are measured: a model's samples, reconstructions, decoded noise, or noise alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentdiff import checkpoint, distributed
from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec, Codec, IdentityCodec, encode_batch_size
from latentdiff.data import ImageDataset
from latentdiff.data.shape_check import check_image_shape
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.evaluation.asked_captions import with_test_captions
from latentdiff.evaluation.flops import count_flops, sampling_flops, training_flops
from latentdiff.evaluation.reference_subset import REFERENCE_SEED, choose_subset, representative
from latentdiff.files import file_sha256
from latentdiff.inference.labels import match_classes
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.model_file import find_model
from latentdiff.inference.noising import reverse_process
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import MIN_BATCH_SIZE

# Enough for a covariance, and 490 MB of 64x64 RGB.
GAUSSIAN_IMAGES = 10_000
# Images whose denoising is shown, and moments of it at most.
SHOWN, FRAMES = 8, 24


@dataclass(frozen=True)
class ImageSource:
    """Images to measure, made batch by batch as they are asked for.

    Attributes:
        kind: ``noise``, ``gaussian``, ``images``, ``prior``, ``reconstruction`` or ``diffusion``.
        batches: uint8 images [b, c, h, w].
        labels: int64 [n], the class asked for in each image among those of the data set, or None.
        model: Parameters, latent shape, compression and, of a diffusion model, ``training_flops`` of an image, for a
            report.
        sampling: Sampler, steps, guidance, seed and ``flops`` of an image, for a report.
        provenance: How the model was trained.
        shared: Several processes make ``batches`` of a share each, in the order of the processes; else all make all.
        originals: Of reconstructions, the real images, uint8 [n, c, h, w].
        originals_split: Which split they are of.
        denoising: Gives the decoded states of the first images from noise on, uint8 [b, c, h, w] each.
        reconstruct: What the codec that the images came out of makes of others, uint8 [n, c, h, w]; None for pixels.
        notes: What a reader must know of them before comparing.
    """

    kind: str
    batches: Iterator[Tensor]
    labels: Tensor | None = None
    model: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    denoising: Callable[[], list[Tensor]] | None = None
    shared: bool = False
    originals: Tensor | None = None
    originals_split: Literal["test", "train"] = "test"
    reconstruct: Callable[[Tensor], Tensor] | None = None
    notes: list[str] = field(default_factory=list)


def noise_images(test: ImageDataset, num_images: int, seed: int, batch_size: int) -> ImageSource:
    """Uniform random pixels: the far end of every scale."""
    generator = torch.Generator().manual_seed(seed)
    batches = (
        torch.randint(0, 256, (len(indices), *test.image_shape), generator=generator, dtype=torch.uint8)
        for indices in _batch_ranges(num_images, batch_size)
    )
    return ImageSource("noise", batches, torch.arange(num_images) % test.num_classes if test.num_classes else None)


def gaussian_images(train: ImageDataset, num_images: int, seed: int, batch_size: int) -> ImageSource:
    """Noise with the mean and the covariance of (at most ``GAUSSIAN_IMAGES``) training images: what a linear model of
    the pixels would draw."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.randperm(len(train), generator=generator)[:GAUSSIAN_IMAGES].sort().values
    pixels = train.images[few].flatten(1).float()
    mean = pixels.mean(dim=0)
    # A draw of N(mean, X^T X / (n - 1)) is X^T g / sqrt(n - 1), so the covariance itself is never formed.
    centred = (pixels - mean) / (len(pixels) - 1) ** 0.5

    def batches() -> Iterator[Tensor]:
        for indices in _batch_ranges(num_images, batch_size):
            draws = torch.randn(len(indices), len(centred), generator=generator) @ centred + mean
            yield draws.clamp(0, 255).round().to(torch.uint8).reshape(-1, *train.image_shape)

    return ImageSource("gaussian", batches())


def given_images(
    images: Tensor, labels: Tensor | None, named: str, test: ImageDataset, num_images: int | None, batch_size: int
) -> tuple[ImageSource, int]:
    """``num_images`` of somebody's images, as many of every class, or all of them; and how many they are.

    ``model`` of the source holds the SHA-256 of all images that are there, decoded.

    Args:
        images: uint8 [n, c, h, w].
        labels: int64 [n], or None.
        named: What messages call the images, such as the path of their file.
        test: The real images, whose shape and classes they must have.
        num_images: How many; None takes all.
        batch_size: Images in each batch.

    Raises :class:`~latentdiff.errors.ConfigError` for fewer images than were asked for, of another shape, or with
    labels that do not fit.
    """
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != tuple(test.image_shape):
        kind, shape = str(images.dtype).removeprefix("torch."), ", ".join(map(str, test.image_shape))
        raise ConfigError(f"{named} holds images {kind} {list(images.shape)}; uint8 [n, {shape}] are needed")
    images = images.cpu()
    about = {"pixels_sha256": hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()}
    count = num_images or len(images)
    if count > len(images):
        raise ConfigError(f"{named} holds {len(images):,} images, not {count:,}")
    if count < 2:
        raise ConfigError(f"{named} holds {count} image; a distance needs at least 2")
    if labels is not None:
        _check_classes(named, labels, test)
        if count < test.num_classes:
            raise ConfigError(
                f"{count} images cannot be of all {test.num_classes} classes of {named}: ask for more of them, or "
                "leave the labels out"
            )
    if count < len(images):
        # Files lie class by class, or in the order of their making: the first of them would be like one another.
        chosen = choose_subset(labels, len(images), count, REFERENCE_SEED)
        images, labels = images[chosen], None if labels is None else labels[chosen]
    return ImageSource("images", iter(images.split(batch_size)), labels, about), count


def _check_classes(named: str, labels: Tensor, test: ImageDataset) -> None:
    """Raise ConfigError for a label that is no class of ``test``, or a class without a label."""
    if not test.num_classes or labels.min() < 0 or labels.max() >= test.num_classes:
        raise ConfigError(f"{named} has labels beyond the {test.num_classes} classes of {test.name}")
    if missing := sorted(set(range(test.num_classes)) - set(labels.tolist())):
        names = ", ".join(test.class_names[k] for k in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ConfigError(
            f"{named} has no image of {len(missing)} of the {test.num_classes} classes ({names}): figures by class "
            "would silently be of fewer. Add some, or leave the labels out"
        )


def autoencoder_images(
    codec: AutoencoderCodec,
    mode: Literal["reconstruction", "prior"],
    real: ImageDataset,
    split: Literal["test", "train"],
    num_images: int,
    seed: int,
    batch_size: int,
) -> ImageSource:
    """An autoencoder's reconstructions of ``real``, the images of ``split``, or its decoding of N(0, I), the VAE
    baseline.

    Of fewer than all images, it takes those that
    :class:`~latentdiff.evaluation.feature_metrics.ReferenceFeatures` takes.

    Raises :class:`~latentdiff.errors.CheckpointError`, and ConfigError for images of another shape or too many.
    """
    device, named = codec.mean.device, name_of(codec)
    check_image_shape(named, codec.image_shape, real, codec.settings)
    _check_finite(named, codec.model)
    parameters = sum(p.numel() for p in codec.model.parameters())
    about = {"model": _model_record(codec, parameters), "provenance": codec.provenance}
    ranges = _batch_ranges(num_images, batch_size)
    if mode == "prior":
        latents = (PerImageNoise(seed, indices, codec.latent_shape, device)() for indices in ranges)
        few = torch.zeros(MIN_BATCH_SIZE, *codec.latent_shape, device=device)
        flops = count_flops(lambda: codec.model.decode(few)) / MIN_BATCH_SIZE
        sampling = {"sampler": "decoder", "steps": 1, "guidance_scale": None, "seed": seed, "flops": flops}
        batches = (codec.decode_prior(z) for z in latents)
        return ImageSource("prior", batches, sampling=sampling, reconstruct=_reconstruct_in_batches(codec), **about)
    if num_images > len(real):
        raise ConfigError(
            f"{num_images:,} reconstructions were asked for; the {split} split has {len(real):,} images"
            + (". Training images are reconstructed by reconstruct train" if split == "test" else "")
        )
    few = representative(real, num_images)
    originals = few.images
    batches = (codec.reconstruct(originals[indices.start : indices.stop]) for indices in ranges)
    # A set without classes has labels, all alike, that mean nothing.
    labels = few.labels if few.num_classes else None
    return ImageSource("reconstruction", batches, labels, originals=originals, originals_split=split, **about)


def diffusion_images(model: DiffusionModel, request: SamplingRequest, test: ImageDataset) -> ImageSource:
    """A diffusion model's samples.

    Raises :class:`~latentdiff.errors.CheckpointError` for weights that are not finite, and ConfigError for a request
    that cannot be met. ``batches`` raises :class:`~latentdiff.errors.DivergenceError` for samples that are not finite.
    """
    named = name_of(model)
    check_image_shape(named, model.codec.image_shape, test, model.settings)
    _check_finite(named, model.network)
    request, of_captions = with_test_captions(model, request, test)
    model.check(request)
    labels = model.resolve_labels(request)
    classes, notes = (of_captions, []) if model.network.tokenizer else _classes_in(test, model, named, labels)

    def batches() -> Iterator[Tensor]:
        for _, states in model.batches(request, distributed.shard_range(request.num_images)):
            *_, last = states
            yield model.codec.decode(last.x)

    def denoising() -> list[Tensor]:
        labels = model.resolve_labels(request)
        first = min(SHOWN, request.num_images)
        labels = None if labels is None else labels[:first]
        return list(
            reverse_process(model, first, min(FRAMES, request.steps + 1), labels, **request.sampling_settings())
        )

    sampling = request.record() | {"flops": sampling_flops(model, request)}
    if model.engine is not None and model.engine.name != "torch":
        sampling["engine"] = model.engine.name
    if request.guide is not None:
        guide = find_model(request.guide)
        sampling["guide_sha256"] = file_sha256(guide)
        seconds = (checkpoint.read_header(guide).get("provenance") or {}).get("seconds")
        length = f" ({seconds / 60:.0f} minutes)" if seconds else ""
        notes = [*notes, f"the training of the guide{length} is not counted in the model's."]
    return ImageSource(
        "diffusion",
        batches(),
        classes,
        _model_record(model.codec, sum(p.numel() for p in model.network.parameters()))
        | {"training_flops": training_flops(model)},
        sampling,
        model.provenance,
        denoising,
        shared=True,
        reconstruct=None if isinstance(model.codec, IdentityCodec) else _reconstruct_in_batches(model.codec),
        notes=notes,
    )


def _classes_in(
    test: ImageDataset, model: DiffusionModel, named: str, labels: Tensor | None
) -> tuple[Tensor | None, list[str]]:
    """A model's classes as those of ``test``, by name, and what to say of classes that it does not know.

    Raises :class:`~latentdiff.errors.ConfigError` for a class of the model that ``test`` does not have.
    """
    if labels is None or not test.num_classes:
        return None, []
    try:
        place = match_classes(model.class_names, test.class_names, named, test.name)
    except ConfigError as error:
        raise ConfigError(f"{error}. Evaluate on data with its classes, or without any: --data.classes none") from error
    unknown = [name for name in test.class_names if name not in model.class_names]
    if not unknown:
        return place[labels], []
    shown = ", ".join([*unknown[:5], *(["…"] if len(unknown) > 5 else [])])
    return place[labels], [f"the model does not know {len(unknown)} of the {test.num_classes} classes: {shown}."]


def _reconstruct_in_batches(codec: AutoencoderCodec) -> Callable[[Tensor], Tensor]:
    size = encode_batch_size(codec.image_shape)
    return lambda images: torch.cat([codec.reconstruct(part).cpu() for part in images.split(size)])


def _batch_ranges(num_images: int, batch_size: int) -> list[range]:
    return [range(start, min(start + batch_size, num_images)) for start in range(0, num_images, batch_size)]


def _model_record(codec: Codec, parameters: int) -> dict[str, Any]:
    return {"parameters": parameters, "latent_shape": list(codec.latent_shape), "compression": codec.compression}


def name_of(model: TrainedModel) -> str:
    """What messages call a model: its file, or the folder of its run."""
    return str(model.path or model.folder or "the model")


def _check_finite(named: str, module: nn.Module) -> None:
    """Raise :class:`~latentdiff.errors.CheckpointError` for weights that no image can come of."""
    bad = [name for name, tensor in module.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise CheckpointError(f"{named} holds NaN or infinity in {len(bad)} of its tensors, such as {bad[0]}")
