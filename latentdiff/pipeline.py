"""Trained models in use: load a file, sample, decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff import checkpoint
from latentdiff.codec import AutoencoderCodec, Codec, build_codec, load_codec
from latentdiff.config import DiffusionConfig, UNetConfig, plain, rebuild
from latentdiff.diffusion.denoiser import build_denoiser
from latentdiff.diffusion.noise import ImageNoise
from latentdiff.diffusion.samplers import SAMPLERS, State
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import TARGETS
from latentdiff.models.unet import UNet
from latentdiff.precision import batch_invariant, full_precision
from latentdiff.shelf import find


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to sample; every field but ``num_images`` has a usual value.

    Attributes:
        num_images: How many images.
        labels: One class for all, one for each image, or None: classes in turn (0, 1, 2, ...) for a conditional model.
        steps: Sampling steps, each one network pass.
        sampler: One of ``ddpm``, ``ddim``, ``dpmpp_2m``.
        guidance_scale: Classifier-free guidance w: 1 is off, 0 ignores the class.
        eta: DDIM's noise: 0 is deterministic, 1 is DDPM's. Only for ``ddim``.
        seed: Image i depends on (seed, i) alone.
        batch_size: Images at a time; changes memory, not images.
    """

    num_images: int
    labels: int | Sequence[int] | Tensor | None = None
    steps: int = 20
    sampler: str = "dpmpp_2m"
    guidance_scale: float = 1.0
    eta: float = 0.0
    seed: int = 0
    batch_size: int = 64


class DiffusionModel:
    """A trained denoiser with its codec and schedule.

    Args:
        network: The U-Net, used in evaluation mode.
        network_config, diffusion: What built it and how it was trained.
        codec: What turns its samples into images.
        class_names: Names of the classes (empty for an unconditional model).
        header: The header of the file it came from, if any.
    """

    def __init__(
        self,
        network: UNet,
        network_config: UNetConfig,
        diffusion: DiffusionConfig,
        codec: Codec,
        class_names: Sequence[str] = (),
        header: dict[str, Any] | None = None,
    ):
        self.network = network.eval().requires_grad_(False)
        self.network_config, self.diffusion, self.codec = network_config, diffusion, codec
        self.class_names, self.header = tuple(class_names), header or {}
        self.schedule, self.target = build_schedule(diffusion), TARGETS[diffusion.target]

    @property
    def conditional(self) -> bool:
        return self.network.null_label is not None

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> DiffusionModel:
        self.network.to(device)
        self.codec.to(device)
        return self

    def sample(self, num_images: int, **settings: Any) -> Tensor:
        """Sample uint8 images [num_images, c, h, w], on the CPU. Settings are those of :class:`Request`."""
        request = Request(num_images=num_images, **settings)
        chunks = []
        for _, states in self.batches(request):
            *_, last = states
            chunks.append(self.codec.decode(last.x).cpu())
        return torch.cat(chunks)

    def check(self, request: Request) -> None:
        """Raise ValueError for a request that cannot be met, before any work."""
        self.resolve_labels(request)
        self.schedule.sampling_levels(request.steps)
        if request.sampler not in SAMPLERS:
            raise ValueError(f"there is no sampler {request.sampler!r}; there are {', '.join(SAMPLERS)}")
        if request.eta and request.sampler != "ddim":
            raise ValueError(f"eta belongs to the sampler ddim, not to {request.sampler}")
        if request.guidance_scale != 1.0 and not self.diffusion.class_dropout:
            raise ValueError("this model was trained without class dropout: guidance_scale must be 1")
        if request.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {request.batch_size}")

    def batches(self, request: Request) -> Iterator[tuple[range, Iterator[State]]]:
        """The request batch by batch: which images, and the sampler's states over the latents as they come.

        Raises ValueError as :meth:`check` does.
        """
        self.check(request)
        labels, levels = self.resolve_labels(request), self.schedule.sampling_levels(request.steps)
        for start in range(0, request.num_images, request.batch_size):
            indices = range(start, min(start + request.batch_size, request.num_images))
            own = labels[start : indices.stop].to(self.device) if labels is not None else None
            yield indices, self._states(request, indices, own, levels)

    def _states(self, request: Request, indices: range, labels: Tensor | None, levels) -> Iterator[State]:
        noise = ImageNoise(request.seed, indices, self.codec.latent_shape, self.device)
        denoiser = build_denoiser(
            partial(batch_invariant, self.network),
            self.target,
            labels,
            self.network.null_label,
            request.guidance_scale,
            self.codec.value_range,
        )
        options = {"eta": request.eta} if request.sampler == "ddim" else {}
        states = SAMPLERS[request.sampler](denoiser, noise() * float(levels.sigma[0]), levels, noise, **options)
        # Entered anew for every state: a generator must not leave inference mode switched on in its caller.
        while True:
            with torch.inference_mode(), full_precision():
                state = next(states, None)
            if state is None:
                return
            yield state

    def resolve_labels(self, request: Request) -> Tensor | None:
        """int64 [num_images], or None for an unconditional model. Raises ValueError for labels that cannot be."""
        n, labels = request.num_images, request.labels
        if n < 1:
            raise ValueError(f"num_images must be at least 1, not {n}")
        if not self.conditional:
            if labels is not None:
                raise ValueError("this model is unconditional: it takes no labels")
            if request.guidance_scale != 1.0:
                raise ValueError("this model is unconditional: guidance_scale must be 1")
            return None
        count = self.network.null_label
        resolved = torch.arange(n) % count if labels is None else torch.as_tensor(labels).long()
        resolved = resolved.expand(n) if resolved.ndim == 0 else resolved
        if resolved.shape != (n,):
            raise ValueError(f"{len(resolved)} labels were given for {n} images")
        if resolved.min() < 0 or resolved.max() >= count:
            names = ", ".join(f"{i} {name}" for i, name in enumerate(self.class_names))
            raise ValueError(f"labels must be from 0 to {count - 1}: {names}")
        return resolved

    def save(self, path: Path, provenance: dict[str, Any], dtype: torch.dtype | None = None) -> None:
        """Write the model with its codec as one self-contained file."""
        codec = self.codec if isinstance(self.codec, AutoencoderCodec) else None
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if codec:
            tensors |= {f"codec.{name}": tensor for name, tensor in codec.state().items()}
        header = {
            "image_shape": list(self.codec.image_shape),
            "codec": codec.header() if codec else None,
            "network": plain(self.network_config),
            "diffusion": plain(self.diffusion),
            "class_names": list(self.class_names),
            "provenance": provenance,
        }
        checkpoint.save(path, "diffusion", tensors, header, dtype)


def load_diffusion(path: Path | str) -> DiffusionModel:
    """The diffusion model in a file. Raises :class:`~latentdiff.checkpoint.CheckpointError`."""
    header, tensors = checkpoint.read(path, kind="diffusion")
    parts = {"network": {}, "codec": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    codec = build_codec(header["codec"], header["image_shape"], parts["codec"])
    config = rebuild(UNetConfig, header["network"])
    classes = len(header["class_names"]) if config.class_conditional else 0
    network = UNet(codec.latent_shape[0], classes, config)
    checkpoint.load_weights(network, parts["network"], str(path))
    diffusion = rebuild(DiffusionConfig, header["diffusion"])
    return DiffusionModel(network, config, diffusion, codec, header["class_names"], header)


def load(path: Path | str, device: torch.device | str = "cpu") -> DiffusionModel | AutoencoderCodec:
    """A model file: a :class:`DiffusionModel`, or for an autoencoder its :class:`~latentdiff.codec.AutoencoderCodec`.

    ``path`` may also name a released model from anywhere, as in ``checkpoints/fashion-mnist/latent.safetensors``.
    Raises :class:`~latentdiff.checkpoint.CheckpointError` for a file that is missing, damaged or of another kind.
    """
    path = locate(path)
    kind = checkpoint.read_header(path)["kind"]
    if kind not in ("diffusion", "autoencoder"):
        raise checkpoint.CheckpointError(f"{path} holds a {kind}; load takes a diffusion model or an autoencoder")
    return (load_diffusion if kind == "diffusion" else load_codec)(path).to(device)


def locate(path: Path | str) -> Path:
    """``path``, or the released file of that name where no such file is here."""
    path = Path(path)
    return path if path.exists() else find(str(path).removeprefix("checkpoints/")) or path
