"""The seam between the stages: images to latents and back. Pixels are the identity's latents."""

from __future__ import annotations

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from latentdiff import checkpoint
from latentdiff.checkpoint import TrainedModel
from latentdiff.config import AutoencoderConfig, from_dict, to_dict
from latentdiff.config.diffusers_models import DiffusersAutoencoderConfig, autoencoder_config_class
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.models.autoencoder import Autoencoder, sample_posterior
from latentdiff.models.diffusers_networks import build_autoencoder
from latentdiff.precision import MIN_BATCH_SIZE, call_with_min_batch, disable_tf32
from latentdiff.report.model_table import model_table, shape_words

# Images that are encoded or decoded at a time, and pixels of them: activations grow with the pixels.
ENCODE_BATCH, ENCODE_PIXELS = 256, 2**20


# Width at full resolution up to which a decoder takes ENCODE_PIXELS. That of Stable Diffusion's is 128.
DECODE_WIDTH = 32
# Images that a CPU's thread encodes or decodes at a time. Their feature maps stay in its cache: with one and
# two threads, 1.2 to 1.9 times as fast as 256 at a time. Not fewer, since kernels for fewer add in another order.
IMAGES_A_THREAD = MIN_BATCH_SIZE


def encode_batch_size(image_shape: Sequence[int]) -> int:
    """Images of a shape [..., h, w] that are encoded or decoded at a time: 256 of up to 64 pixels, else fewer."""
    return max(1, min(ENCODE_BATCH, ENCODE_PIXELS // math.prod(image_shape[-2:])))


def decode_batch_size(image_shape: Sequence[int], config: AutoencoderConfig) -> int:
    """Images of a shape [..., h, w] that are decoded at a time, at least 16: fewer where diffusers' is wide."""
    narrower = max(1, config.channels[0] // DECODE_WIDTH) if isinstance(config, DiffusersAutoencoderConfig) else 1
    return max(MIN_BATCH_SIZE, encode_batch_size(image_shape) // narrower)


class CodecEngine(Protocol):
    """Runs the networks of an autoencoder."""

    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images [b, c, h, w] in [-1, 1]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, about in [-1, 1], of raw latents [b, c, h, w]."""
        ...


def to_float(images: Tensor) -> Tensor:
    """uint8 -> float in [-1, 1]."""
    return images.float() / 127.5 - 1.0


def to_uint8(x: Tensor) -> Tensor:
    """About [-1, 1] -> uint8, clamped and rounded to the nearest level (truncation would darken by half of one)."""
    return ((x.float() + 1.0) * 127.5).clamp(0, 255).round().to(torch.uint8)


class Codec(ABC):
    """What a diffusion model needs to know of the space it lives in.

    Attributes:
        image_shape: (channels, height, width) of the images.
        latent_shape: (channels, height, width) of the latents.
        value_range: Bounds that every clean latent keeps, or None.
        has_posterior: Whether :meth:`sample` is random, and has a use for ``noise``.
    """

    image_shape: tuple[int, int, int]
    latent_shape: tuple[int, int, int]
    value_range: tuple[float, float] | None
    has_posterior = True

    @property
    @abstractmethod
    def fingerprint(self) -> str | None:
        """Changes with anything that changes the moments.

        It is None where the moments are the images themselves. Caching them would only copy the data set.
        """

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """uint8 images [b, c, h, w] -> the moments of their latents, which are what a cache holds."""

    @abstractmethod
    def sample(self, moments: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """Moments -> one draw of the latents, [b, *latent_shape] fp32; zero mean and unit std for an autoencoder.

        The draw's randomness is ``noise`` (a standard normal of that shape) where given, else from ``generator``.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [b, *latent_shape] -> uint8 images [b, c, h, w]."""

    @abstractmethod
    def same_space(self, other: Codec) -> bool:
        """Whether a latent means the same to both."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Codec:
        """The codec, moved to ``device``."""

    @property
    @abstractmethod
    def setting(self) -> str:
        """The codec as the setting ``autoencoder`` records it: ``none``, a path, or ``given from Python``."""

    @abstractmethod
    def describe(self) -> str:
        """The codec in a line, for the screen."""

    @property
    def compression(self) -> float:
        """Numbers in an image over numbers in its latent."""
        return math.prod(self.image_shape) / math.prod(self.latent_shape)

    def _check(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            raise ConfigError(
                f"this codec takes uint8 images [n, {', '.join(map(str, self.image_shape))}], not "
                f"{images.dtype} {list(images.shape)}"
            )


class IdentityCodec(Codec):
    """The pixel path: latents are the pixels in [-1, 1], moments the uint8 images."""

    has_posterior = False

    def __init__(self, image_shape: tuple[int, int, int]):
        self.image_shape = self.latent_shape = image_shape
        self.value_range = (-1.0, 1.0)

    @property
    def fingerprint(self) -> None:
        return None

    def encode(self, images: Tensor) -> Tensor:
        self._check(images)
        return images

    def sample(self, moments: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        return to_float(moments)

    def decode(self, latents: Tensor) -> Tensor:
        return to_uint8(latents)

    def same_space(self, other: Codec) -> bool:
        return isinstance(other, IdentityCodec) and self.image_shape == other.image_shape

    def to(self, device: torch.device | str) -> IdentityCodec:
        return self

    @property
    def setting(self) -> str:
        return "none"

    def describe(self) -> str:
        return "codec: none, the model works on pixels"


class AutoencoderCodec(TrainedModel, Codec):
    """A trained autoencoder with the statistics of its latents.

    Args:
        model: The network, used in evaluation mode.
        config: What built it.
        mean, std: fp32 [latent_channels], per channel over the training set's posterior draws.
    """

    def __init__(self, model: Autoencoder, config: AutoencoderConfig, mean: Tensor, std: Tensor):
        super().__init__()
        self.model, self.config = model.eval().requires_grad_(False), config
        self.mean, self.std = mean.float(), std.float()
        self.image_shape, self.latent_shape = model.image_shape, model.latent_shape
        self.value_range = None
        # What runs the networks; None is torch, the same for every size of batch.
        self.engine: CodecEngine | None = None
        # Whether the statistics are a stand-in until a training set is known: those of diffusers, one for all channels.
        self.provisional = False

    @property
    def fingerprint(self) -> str:
        # Not of the decoder: another one leaves the moments, and what was trained on them, valid.
        digest = hashlib.sha256(repr(self.image_shape).encode())
        # Those of diffusers get their statistics from the moments themselves.
        measured_later = isinstance(self.config, DiffusersAutoencoderConfig)
        for name, tensor in sorted((self.model.state_dict() if measured_later else self.state()).items()):
            if not name.startswith("decoder."):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    @disable_tf32()
    def encode(self, images: Tensor) -> Tensor:
        self._check(images)
        encode = self.engine.encode if self.engine else self.model.encode
        return self._in_parts(encode, to_float(images.to(self.mean.device)), max(1, len(images)))

    def sample(self, moments: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            # The generator's device decides where the noise is drawn, so that a CPU generator serves a GPU the same.
            device = generator.device if generator else moments.device
            noise = torch.randn((len(moments), *self.latent_shape), generator=generator, device=device)
        noise = noise.to(moments.device)
        return self.standardise(sample_posterior(moments.float(), noise))

    @torch.inference_mode()
    @disable_tf32()
    def decode(self, latents: Tensor) -> Tensor:
        return to_uint8(self._decode(self.unstandardise(latents.to(self.mean.device))))

    @torch.inference_mode()
    @disable_tf32()
    def decode_prior(self, noise: Tensor) -> Tensor:
        """The VAE baseline: raw latents from N(0, I), [b, *latent_shape], decoded to uint8 images."""
        return to_uint8(self._decode(noise.to(self.mean.device)))

    def _decode(self, latents: Tensor) -> Tensor:
        # In parts, since feature maps at full resolution take a hundred times the memory of the images.
        decode = self.engine.decode if self.engine else partial(call_with_min_batch, self.model.decode)
        return self._in_parts(decode, latents, decode_batch_size(self.image_shape, self.config))

    def _in_parts(self, function: Callable[[Tensor], Tensor], x: Tensor, most: int) -> Tensor:
        """``function`` of x [b, ...] by ``most`` rows at a time, which are 16 or more; on a CPU by fewer."""
        if self.mean.device.type == "cpu":
            most = min(most, IMAGES_A_THREAD * torch.get_num_threads())
        parts = [function(x[start : start + most]) for start in range(0, max(1, len(x) - MIN_BATCH_SIZE + 1), most)]
        if rest := len(x) - sum(map(len, parts)):
            # Kernels for a few rows add in another order: the last ones go with some of those before them.
            parts.append(function(x[-MIN_BATCH_SIZE:])[-rest:])
        return torch.cat(parts)

    def reconstruct(self, images: Tensor) -> Tensor:
        """uint8 images through the posterior's mean and back."""
        mean, _ = self.encode(images).chunk(2, dim=1)
        return self.decode(self.standardise(mean))

    def standardised_over(self, moments: Tensor) -> AutoencoderCodec:
        """The same autoencoder, with the statistics of a training set's moments [n, 2 * latent_channels, h, w].

        They are those of posterior draws: Var = Var[mean] + E[variance].
        """
        total = square = torch.zeros(self.latent_shape[0], dtype=torch.float64)
        for start in range(0, len(moments), ENCODE_BATCH):
            mean, logvar = moments[start : start + ENCODE_BATCH].double().cpu().chunk(2, dim=1)
            total = total + mean.sum(dim=(0, 2, 3))
            square = square + (mean.square() + logvar.exp()).sum(dim=(0, 2, 3))
        count = len(moments) * math.prod(self.latent_shape[1:])
        average, square = total / count, square / count
        other = copy.copy(self)
        other.provisional, other.mean = False, average.float().to(self.mean.device)
        other.std = (square - average.square()).clamp_min(1e-12).sqrt().float().to(self.std.device)
        return other

    def standardise(self, z: Tensor) -> Tensor:
        """Raw latents -> zero mean and unit std per channel."""
        return (z - self._per_channel(self.mean, z)) / self._per_channel(self.std, z)

    def unstandardise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`standardise`."""
        return z * self._per_channel(self.std, z) + self._per_channel(self.mean, z)

    @staticmethod
    def _per_channel(statistic: Tensor, z: Tensor) -> Tensor:
        return statistic.to(z.device)[:, None, None]

    def same_space(self, other: Codec) -> bool:
        # Released weights are rounded to bf16, their statistics are not.
        return (
            isinstance(other, AutoencoderCodec)
            and self.latent_shape == other.latent_shape
            and torch.equal(self.mean.cpu(), other.mean.cpu())
            and torch.equal(self.std.cpu(), other.std.cpu())
        )

    def to(self, device: torch.device | str) -> AutoencoderCodec:
        self.model.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    @property
    def setting(self) -> str:
        return str(self.path or self.folder or "given from Python")

    def __repr__(self) -> str:
        image, latent = ("x".join(map(str, shape)) for shape in (self.image_shape, self.latent_shape))
        return f"AutoencoderCodec({image} images to {latent} latents, {self.compression:.1f}x fewer numbers)"

    def _repr_html_(self) -> str:
        """In a notebook: what the autoencoder is, its training, and the figures of its card."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        facts = {
            "Images": shape_words(self.image_shape),
            "Latents": f"{shape_words(self.latent_shape)}, {self.compression:.1f} times fewer numbers",
            "Network": f"{parameters:,} parameters, channels {self.config.channels}",
            "Works on": str(self.mean.device),
        }
        return model_table("AutoencoderCodec", facts, self.provenance, self.path)

    def describe(self) -> str:
        return f"codec: {self.path or 'the given autoencoder'}, {self.compression:.1f}x fewer numbers"

    def state(self) -> dict[str, Tensor]:
        """Everything that a file must hold: the weights and the latents' statistics."""
        return {**self.model.state_dict(), "latent_mean": self.mean, "latent_std": self.std}

    def header(self) -> dict[str, Any]:
        """The plain values that :func:`build_codec` rebuilds this codec from."""
        values = {"image_shape": list(self.image_shape), "autoencoder": to_dict(self.config)}
        return values | ({"provisional": True} if self.provisional else {})

    def save(self, path: Path | str, dtype: torch.dtype | None = None) -> None:
        """Write the autoencoder with its latents' statistics as one file, for :func:`~latentdiff.load`.

        A file that an earlier ``save`` wrote is replaced, as by ``torch.save``. Nothing else is.

        Args:
            path: Where to, such as ``autoencoder.safetensors``; replaced atomically.
            dtype: Store kernels and matrices in this type. ``torch.bfloat16`` halves the file, ``torch.int8`` halves
                it again.

        Raises :class:`~latentdiff.errors.CheckpointError` for a path that holds anything else, or the model of a run,
        and for weights that are NaN or infinite. Nothing is written then.
        """
        checkpoint.check_no_run_there(Path(path))
        self.write(path, dtype)

    def write(self, path: Path | str, dtype: torch.dtype | None = None) -> None:
        """The same for the run itself, which replaces its own model."""
        header = {"codec": self.header(), "provenance": self.provenance}
        checkpoint.save(Path(path), "autoencoder", self.state(), header, dtype)


def build_codec(header: dict[str, Any], state: dict[str, Tensor], what: str) -> AutoencoderCodec:
    """The autoencoder in a model file.

    Args:
        header: That of the codec.
        state: The autoencoder's weights and the latents' statistics.
        what: The file, for messages.

    Raises :class:`~latentdiff.errors.CheckpointError` where the weights are not those of the autoencoder.
    """
    values, state = header["autoencoder"], dict(state)
    config = from_dict(autoencoder_config_class(values), values)
    mean, std = (state.pop(name, torch.empty(0)) for name in ("latent_mean", "latent_std"))
    model = checkpoint.build_with_weights(lambda: build_autoencoder(tuple(header["image_shape"]), config), state, what)
    for statistic in (mean, std):
        if tuple(statistic.shape) != (config.latent_channels,) or not statistic.is_floating_point():
            raise CheckpointError(f"{what} lacks latent_mean and latent_std, of {config.latent_channels} numbers each")
    if not bool((std > 0).all()):
        raise CheckpointError(f"{what} has a latent_std that is not above 0")
    codec = AutoencoderCodec(model, config, mean, std)
    codec.provisional = header.get("provisional") is True
    return codec


def load_codec(path: Path | str) -> AutoencoderCodec:
    """The codec in an autoencoder's file. Raises :class:`~latentdiff.errors.CheckpointError`."""
    return codec_of_file(Path(path), *checkpoint.read(path, kind="autoencoder"))


def codec_of_file(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> AutoencoderCodec:
    """The codec in an autoencoder's file whose header and tensors were read."""
    codec = build_codec(header["codec"], tensors, str(path))
    codec.provenance, codec.path = header.get("provenance") or {}, path
    return codec
