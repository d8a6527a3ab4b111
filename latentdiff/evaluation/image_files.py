"""Images that somebody's model left behind, as files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from latentdiff.data.decode import BadImageError, open_image
from latentdiff.data.files import open_files
from latentdiff.errors import DataError

ARRAYS = (".npz", ".safetensors")


def holds_images(path: Path) -> bool:
    """Whether ``path`` holds images, not a model: a directory, a zip, an npz, or a safetensors with ``images``."""
    if path.suffix != ".safetensors" or not path.is_file():
        return path.is_dir() or path.suffix in (".zip", ".npz")
    try:
        with safe_open(path, framework="pt") as file:
            return "images" in file.keys()  # noqa: SIM118
    except (SafetensorError, OSError):
        return False  # whatever reads it as a model says what is wrong


def read_images(
    path: Path, image_shape: tuple[int, int, int], class_names: tuple[str, ...] = ()
) -> tuple[Tensor, Tensor | None]:
    """The images and, where the file has them, their classes.

    Args:
        path: A directory or zip of image files (all are taken, by name); an .npz with ``images`` uint8 [n, h, w] or
            [n, h, w, c] and perhaps ``labels`` [n], as ``stages.sample --npz`` writes; or a .safetensors file with
            ``images`` uint8 [n, c, h, w].
        image_shape: What they must be, (c, h, w): to resize here would change what is measured.
        class_names: Of the data set; files that all lie in folders named so are of those classes.

    Returns: uint8 [n, c, h, w], and int64 [n] or None. Raises :class:`~latentdiff.errors.DataError`.
    """
    images, labels = _read_arrays(path) if path.suffix in ARRAYS else _read_image_files(path, image_shape, class_names)
    if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != tuple(image_shape):
        raise DataError(
            f"{path} holds images {str(images.dtype).removeprefix('torch.')} {list(images.shape)}; uint8 "
            f"[n, {', '.join(map(str, image_shape))}] are needed"
        )
    if labels is not None and len(labels) != len(images):
        raise DataError(f"{path} holds {len(labels):,} labels for {len(images):,} images")
    return images, labels


def _read_arrays(path: Path) -> tuple[Tensor, Tensor | None]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                found = {name: torch.from_numpy(file[name]) for name in ("images", "labels") if name in file.files}
        else:
            found = load_file(path)
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {error or 'it is empty'}") from error
    if "images" not in found:
        raise DataError(f"{path} has no array named images")
    images = found["images"]
    if path.suffix == ".npz" and images.ndim in (3, 4):  # channels last, or none
        images = (images[..., None] if images.ndim == 3 else images).movedim(-1, 1).contiguous()
    labels = found.get("labels")
    if labels is not None and (labels.ndim != 1 or labels.is_floating_point() or labels.is_complex()):
        kind = str(labels.dtype).removeprefix("torch.")
        raise DataError(f"{path} holds labels {kind} {list(labels.shape)}; whole numbers [n] are needed")
    return images, None if labels is None else labels.long()


def _read_image_files(
    path: Path, image_shape: tuple[int, int, int], class_names: tuple[str, ...]
) -> tuple[Tensor, Tensor | None]:
    channels, height, width = image_shape
    files = open_files(path)
    if files.refused:
        name, reason = files.refused[0]
        raise DataError(f"{path}: {name} cannot be used: {reason} ({len(files.refused):,} such files)")
    images = []
    for name in files.images:
        try:
            image = open_image(files.read(name))
        except (BadImageError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path / name} cannot be used: {error}") from error
        if image.size != (width, height):
            raise DataError(f"{path / name} is {image.width}x{image.height}; {width}x{height} are needed")
        pixels = np.array(image.convert("RGB") if image.mode not in ("L", "RGB") else image)
        if channels == 1 and pixels.ndim == 3:
            if (pixels != pixels[..., :1]).any():
                raise DataError(f"{path / name} has colours; the data set is grey, and to turn it grey would change it")
            pixels = pixels[..., 0]
        elif channels == 3 and pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        images.append(torch.from_numpy(pixels)[None] if channels == 1 else torch.from_numpy(pixels).movedim(-1, 0))
    return torch.stack(images), _classes_by_folder(path, [str(name) for name in files.images], class_names)


def _classes_by_folder(path: Path, names: list[str], class_names: tuple[str, ...]) -> Tensor | None:
    """int64 [n] where every file lies in a folder that is named after a class, None where none does.

    Raises DataError where some do: all labels would be lost for one folder's name.
    """
    known = {name.lower(): index for index, name in enumerate(class_names)}
    folders = [PurePosixPath(name).parent.name for name in names]
    strange = sorted({folder for folder in folders if folder.lower() not in known})
    if not any(folder.lower() in known for folder in folders):
        return None
    if strange:
        named = ", ".join(folder or "(none)" for folder in strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise DataError(
            f"{path} has images in folders named after classes and in others ({named}): name all of them after "
            "classes, or none"
        )
    return torch.tensor([known[folder.lower()] for folder in folders])
