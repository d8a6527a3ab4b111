"""The latent cache: the posterior's moments of every image, encoded once, keyed, checked, atomic."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from latentdiff import checkpoint, distributed
from latentdiff.codec import AutoencoderCodec, Codec, IdentityCodec, encode_batch_size, load_codec
from latentdiff.config import DataConfig
from latentdiff.config.data import folder_name
from latentdiff.config.training_stages import LatentsStage
from latentdiff.data import DatasetSplits, ImageDataset, load_dataset
from latentdiff.data.load import has
from latentdiff.data.mapped import RELEASED_FROM, chunks, map_file, most_in_memory, release, with_mirrored
from latentdiff.data.shape_check import check_image_shape
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.files import check_cache_folder
from latentdiff.from_diffusers.address import is_address
from latentdiff.from_diffusers.models import check_has_autoencoder, read_autoencoder
from latentdiff.precision import resolve_device
from latentdiff.progress import progress_bar
from latentdiff.report.formats import amount
from latentdiff.runs.find import find_autoencoder

FORMAT = 1


def cache_key(codec: Codec, data: ImageDataset, hflip: bool) -> str:
    """Sixteen hex digits over everything the moments depend on: weights, data set, transform, format."""
    parts = (FORMAT, codec.fingerprint, data.fingerprint, hflip)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class Moments(NamedTuple):
    """What a diffusion model trains on: moments [n, ...], labels int64 [n], and the seconds that encoding took."""

    moments: Tensor
    labels: Tensor
    seconds: float | None


@dataclass(frozen=True, repr=False)
class CachedLatents:
    """A data set's training images as the moments of their latents, with the codec that made them.

    Attributes:
        codec: Encodes images and decodes latents. For pixels it is the identity.
        splits: The data set.
        moments: [n, 2 * latent_channels, h, w] fp32 (mean and log-variance), or uint8 images for the identity. With
            ``data.hflip`` the mirrored images are a second half.
        labels: int64 [n].
        seconds: What encoding took; None where it is not known.
    """

    codec: Codec
    splits: DatasetSplits
    moments: Tensor
    labels: Tensor
    seconds: float | None

    def __len__(self) -> int:
        return len(self.moments)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.codec.latent_shape))
        return f"CachedLatents({len(self):,} of {shape}, {self.codec.compression:.1f}x fewer numbers than the images)"

    def sample(self, indices: Tensor | slice = slice(None), seed: int = 0) -> Tensor:
        """One draw of the latents of some images: fp32 [b, *latent_shape], zero mean and unit std per channel."""
        return self.codec.sample(self.moments[indices], torch.Generator().manual_seed(seed))


def cache_latents(
    autoencoder: Codec | Path | str, data: DatasetSplits | str | Path, *, folder: Path | str | None = None
) -> CachedLatents:
    """Encode the training images of a data set once, for :func:`~latentdiff.train_diffusion`.

    Args:
        autoencoder: What :func:`~latentdiff.train_autoencoder` returned, an autoencoder's file, ``auto`` for the data
            set's own, or ``diffusers:PATH_OR_ID`` for an AutoencoderKL or AutoencoderTiny of diffusers, whose latents
            are standardised over these images.
        data: A data set, or what :func:`~latentdiff.load_dataset` takes.
        folder: Where the cache is kept, for the next call with the same weights and images. Default: in memory.

    Raises:
        ConfigError: The autoencoder is for images of another shape.
        DataError: The data set is missing or damaged.
    """
    splits = data if isinstance(data, DatasetSplits) else load_dataset(data)
    check_cache_folder(folder, "folder")
    check_autoencoder(autoencoder, splits.config)
    with distributed.main_process_first():
        train = splits.train
    codec = find_codec(autoencoder, splits)
    found = cached_moments(codec, train, None if folder is None else Path(folder), splits.config.hflip)
    if isinstance(codec, AutoencoderCodec) and codec.provisional:
        codec = codec.standardised_over(found.moments[: len(train)])
    return CachedLatents(codec, splits, found.moments, found.labels, found.seconds)


def check_autoencoder(autoencoder: Codec | Path | str | None, data: DataConfig) -> None:
    """Raise what :func:`find_codec` would, as far as the file's header tells: no image is read, and no weights.

    Args:
        autoencoder: What :func:`find_codec` takes.
        data: Which images these are, for ``auto``.
    """
    if is_address(autoencoder):
        check_has_autoencoder(str(autoencoder))
    elif autoencoder not in (None, "none") and not isinstance(autoencoder, Codec):
        path = find_autoencoder(str(autoencoder), data)
        header = checkpoint.read_header(path, "autoencoder")
        if autoencoder == "auto":
            made = cast(dict[str, Any], header.get("provenance") or {})
            _check_same_path(path, made.get("config"), data)


def find_codec(autoencoder: Codec | Path | str | None, splits: DatasetSplits) -> Codec:
    """The codec that ``autoencoder`` means for a data set.

    Args:
        autoencoder: A codec; the file of an autoencoder; ``auto`` for the data set's own run or the released one;
            ``diffusers:PATH_OR_ID`` for one of diffusers, standardised as diffusers does it; ``none`` or None for the
            identity, whose latents are the pixels.
        splits: The data set.

    Raises :class:`~latentdiff.errors.CheckpointError` where there is no such file, and ConfigError where the
    autoencoder is for images of another shape.
    """
    if autoencoder is None or autoencoder == "none":
        return IdentityCodec(splits.train.image_shape)
    codec = autoencoder
    if is_address(codec):
        return read_autoencoder(str(codec), splits.train.image_shape)
    if not isinstance(codec, Codec):
        codec = load_codec(find_autoencoder(str(autoencoder), splits.config))
        if autoencoder == "auto":
            _check_same_path(codec.path, codec.settings, splits.config)
    named, settings = str(getattr(codec, "path", None) or "the autoencoder"), getattr(codec, "settings", {})
    check_image_shape(named, codec.image_shape, splits.train, settings, "or train one of this size")
    return codec


def _check_same_path(path: Path | None, settings: Any, data: DataConfig) -> None:
    """Raise ConfigError where the run that ``auto`` found is of other images: all folders have one name.

    Args:
        path: The run's model.
        settings: Those that it was trained with, as its file says.
        data: Which images these are.
    """
    recorded = cast(dict[str, Any], settings if isinstance(settings, dict) else {}).get("data")
    before = cast(dict[str, Any], recorded if isinstance(recorded, dict) else {}).get("path")
    if not (has(data.name, "NEEDS_PATH") and path and data.path and isinstance(before, str)):
        return
    if os.path.abspath(before) != os.path.abspath(data.path):
        raise ConfigError(
            f"the autoencoder in {path.parent} was trained on {before}, and these images are {data.path}.\n"
            "Train one for these, with a --name of its own, and give its folder with --autoencoder. Or give that one: "
            f"--autoencoder {path.parent}"
        )


def cached_moments(codec: Codec, data: ImageDataset, folder: Path | None, hflip: bool = False) -> Moments:
    """Moments and labels of a data set, from the cache in ``folder`` or encoded now and cached there.

    Without a folder they are encoded and kept in memory alone. With ``hflip`` the mirrored images are a second half of
    the entries. The identity codec's moments are the images: they are returned as they are, and no file is written.

    Moments that are large for the memory are written as they are made, and mapped from the cache.

    A cache of other weights or images has another name. A damaged cache is noticed by its digest and built again. Of
    several processes each encodes a share, and all then read the one file.

    Returns: the :class:`Moments`, of n or 2n entries; their seconds are those of the run that encoded them, 0 for the
    identity and None for a cache that does not say.
    """
    labels = torch.cat([data.labels, data.labels]) if hflip else data.labels
    if codec.fingerprint is None:
        return Moments(with_mirrored(data.images) if hflip else data.images, labels, 0.0)
    key = cache_key(codec, data, hflip)
    path = folder / f"{folder_name(data.name)}-{data.split}-{key}.safetensors" if folder else None
    found = _read(path, key) if path else None
    # Only where all have found it: those that did would not be there for the others' shares.
    everywhere = float(distributed.all_reduce_mean(torch.tensor(float(found is not None)))) == 1.0
    if found is not None and everywhere:
        print(f"using {len(found[0]):,} cached latents of {path}")
        return Moments(found[0], labels, found[1])
    count = (2 if hflip else 1) * len(data)
    if path and distributed.world_size() == 1 and 8 * math.prod((count, *codec.latent_shape)) > most_in_memory():
        return _encode_to_disk(path, key, codec, data.images, hflip)._replace(labels=labels)
    start = time.perf_counter()
    moments = _encode(codec, data.images, "encoding")
    if hflip:
        moments = torch.cat([moments, _encode(codec, data.images.flip(-1), "encoding mirrored")])
    seconds = distributed.broadcast(time.perf_counter() - start)
    if path and distributed.is_main_process():
        checkpoint.write_tensors(path, {"moments": moments}, {"key": key, "seconds": seconds})
        print(f"cached {len(moments):,} latents in {path}")
    return Moments(moments, labels, seconds)


def _encode_to_disk(path: Path, key: str, codec: Codec, images: Tensor, hflip: bool) -> Moments:
    """Encode images into the cache ``path`` batch by batch, and map it: they may be more than the memory holds."""
    start, passes = time.perf_counter(), (False, True) if hflip else (False,)
    size = encode_batch_size(images.shape)
    shape = (len(passes) * len(images), 2 * codec.latent_shape[0], *codec.latent_shape[1:])

    def parts() -> Iterator[Tensor]:
        with progress_bar(total=shape[0], desc="encoding", unit="images") as bar:
            for mirrored in passes:
                for part in chunks(images, size):
                    for first in range(0, len(part), size):
                        batch = part[first : first + size]
                        yield codec.encode(batch.flip(-1) if mirrored else batch).float().cpu()
                        bar.update(len(batch))

    def header() -> dict[str, Any]:
        return {"key": key, "seconds": time.perf_counter() - start}

    checkpoint.write_tensor_in_parts(path, "moments", shape, parts(), header)
    found = _read(path, key)
    if found is None:
        raise CheckpointError(f"{path} was written and cannot be read back: is the disk full or failing?")
    print(f"encoding: {amount(shape[0] / (found[1] or 1.0))} images/s\ncached {shape[0]:,} latents in {path}")
    return Moments(found[0], torch.empty(0, dtype=torch.int64), found[1])


def _encode(codec: Codec, images: Tensor, what: str) -> Tensor:
    """Moments of all ``images``, of which this process encodes its share."""
    start, own = time.perf_counter(), distributed.shard_range(len(images))
    large = images.nbytes > RELEASED_FROM
    encoded = [torch.empty(0, 2 * codec.latent_shape[0], *codec.latent_shape[1:])]
    with progress_bar(total=len(own), desc=what, unit="images") as bar:
        size = encode_batch_size(images.shape)
        for first in own[::size]:
            chunk = images[first : min(first + size, own.stop)]
            encoded.append(codec.encode(chunk).float().cpu())
            bar.update(len(chunk))
            if large:
                release(chunk)
    moments = distributed.gather(torch.cat(encoded))
    print(f"{what}: {amount(len(images) / (time.perf_counter() - start))} images/s")
    return moments


def _read(path: Path, key: str) -> tuple[Tensor, float | None] | None:
    """The moments in ``path`` and the seconds they took; None where there are none, or not whole, or of another key."""
    if not path.is_file():
        return None
    large = path.stat().st_size > most_in_memory()
    try:
        file = checkpoint.read_tensors(path, with_tensors=not large)
        moments, seconds = file.tensors.get("moments"), file.header.get("seconds")
        if large:
            shape, offset = checkpoint.place_of_tensor(path, "moments")
            moments = map_file(path, shape, torch.float32, offset)
    except (CheckpointError, OSError, ValueError, KeyError) as error:
        print(f"{error}: encoding again")
        return None
    if file.digest is None or moments is None or file.header.get("key") != key:
        print(f"{path} does not hold what its header says: encoding again")
        return None
    return moments, seconds


def fill_latent_cache(settings: LatentsStage) -> CachedLatents:
    """Encode a data set into the cache folder, and print the statistics of its standardised latents."""
    splits = DatasetSplits(settings.data)
    check_cache_folder(settings.folder, "--folder")
    check_autoencoder(settings.autoencoder, settings.data)
    with distributed.main_process_first():
        train = splits.train
    given = settings.autoencoder
    path = given if is_address(given) else find_autoencoder(given, settings.data)
    codec = find_codec(path, splits).to(resolve_device("auto"))
    print(f"{train.describe()}\nautoencoder {path}: {codec.compression:.1f}x fewer numbers")
    cache = cache_latents(codec, splits, folder=settings.folder)
    # Of many images some thousand, evenly chosen: all draws at once might be too much for the memory.
    large = cache.moments.nbytes > most_in_memory()
    latents = cache.sample(torch.linspace(0, len(cache) - 1, 20_000).round().long() if large else slice(None))
    for channel, (mean, std) in enumerate(zip(latents.mean((0, 2, 3)), latents.std((0, 2, 3)), strict=True)):
        print(f"standardised latents, channel {channel}: mean {mean:+.4f}, std {std:.4f}")
    return cache
