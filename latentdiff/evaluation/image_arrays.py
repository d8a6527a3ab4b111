"""Arrays of images as other people's software writes them: .npz, .npy and .safetensors."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentdiff.data.deep_images import DeepValues, check_values, within
from latentdiff.data.image_formats import BadImageError
from latentdiff.data.memory_budget import memory_share
from latentdiff.data.messages import print_once, printable
from latentdiff.errors import DataError

SUFFIXES = (".npz", ".npy", ".safetensors")
CHUNK = 1 << 24  # Bytes that are read at a time.
CHUNK_IMAGES = 1000  # Images that are converted at a time.
MAX_HEADER = 10_000  # Characters of an array's header.
# An array of images is never packed so tightly: a packed file that claims it was made to fill the memory.
LARGE, MOST_PACKED = 256 * 1024**2, 100
IMAGE_NAMES = ("images", "arr_0")
LABEL_NAMES = ("labels", "label", "arr_1")


@dataclass(frozen=True)
class ArrayHeader:
    """What is known of an array before it is read.

    Attributes:
        shape: As in the file.
        dtype: As in the file.
        fortran_order: Whether the first axis varies fastest.
        packed: Bytes that it takes in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool = False
    packed: int | None = None

    @property
    def size(self) -> int:
        """Bytes that the array takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def read_arrays(
    path: Path, image_shape: tuple[int, int, int], value_range: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Read the images of an array file and, where it has them, their classes.

    The images are ``images``, ``arr_0``, or the only array of three or four axes. They are [n, h, w], [n, h, w, c] or
    [n, c, h, w] with 1 or 3 channels. The classes are ``labels``, ``label`` or ``arr_1``, whole numbers [n]. Nothing
    is unpickled, and no more is read than a header says and memory allows.

    Args:
        path: An .npz, .npy or .safetensors file.
        image_shape: What the images must be, (c, h, w).
        value_range: The values that are black and white. Default: 0 and 1 of floats, 0 and all that the type holds of
            8-bit and 16-bit integers, 0 and 255 of wider ones.

    Returns: uint8 [n, c, h, w], and int64 [n] or None. Raises :class:`~latentdiff.errors.DataError`.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            images, labels, name = _read_safetensors(path)
        else:
            images, labels, name = _read_numpy(path)
    except (OSError, EOFError, TypeError, ValueError, SyntaxError, KeyError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error or 'it is empty'}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, RecursionError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return _as_pixels(images, path, name, image_shape, value_range), labels


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The names of the classes in an .npz that has them as ``class_names``, as ``stages.sample --npz`` writes; or None.

    Raises :class:`~latentdiff.errors.DataError` for an array of that name that holds no names.
    """
    if path.suffix.lower() != ".npz":
        return None
    try:
        with _open_arrays(path) as arrays:
            if "class_names" not in arrays:
                return None
            header, file = arrays["class_names"]
            if len(header.shape) != 1 or header.dtype.kind != "U" or header.size > CHUNK:
                raise DataError(f"{path} holds class_names {header}; text [classes] is needed")
            return tuple(_read_array(path, "class_names", header, file).tolist())
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read_numpy(path: Path) -> tuple[np.ndarray, Tensor | None, str]:
    with _open_arrays(path) as arrays:
        headers = {name: header for name, (header, _) in arrays.items()}
        name = _choose(path, headers)
        images = _read_array(path, name, *arrays[name])
        of_labels = next((label for label in LABEL_NAMES if label in arrays and label != name), None)
        labels = None
        if of_labels is not None:
            header = headers[of_labels]
            if len(header.shape) == 1 and header.dtype.kind in "iu":
                labels = torch.from_numpy(_read_array(path, of_labels, *arrays[of_labels]).astype(np.int64))
            elif of_labels != "arr_1":  # an array without a name need not be of classes
                raise DataError(f"{path} holds {of_labels} {header}; whole numbers [n] are needed")
    _say_unused(path, headers, {name, "class_names"} | ({of_labels} if labels is not None else set()))
    return images, labels, name


def _say_unused(path: Path, there: Iterable[str], used: Collection[str]) -> None:
    """Print a line for the arrays of a file that are left out, which may hold what somebody meant to be measured."""
    if unused := sorted(set(there) - set(used)):
        listed = ", ".join([*map(printable, unused[:5]), *(["…"] if len(unused) > 5 else [])])
        print_once(f"{path}: of its arrays {listed} {'is' if len(unused) == 1 else 'are'} not used")


@contextmanager
def _open_arrays(path: Path) -> Iterator[Mapping[str, tuple[ArrayHeader, BinaryIO]]]:
    """The header of each array of an .npz or .npy, and the file that stands behind it, at the first value."""
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as file:
            yield {"the array": (_read_header(file, path.stat().st_size, None), file)}
        return
    with zipfile.ZipFile(path) as archive:
        arrays: dict[str, tuple[ArrayHeader, BinaryIO]] = {}
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                file = cast(BinaryIO, archive.open(entry))
                header = _read_header(file, entry.file_size, entry.compress_size)
                arrays[entry.filename.removesuffix(".npy")] = header, file
        yield arrays


def _read_header(file: BinaryIO, stated: int, packed: int | None) -> ArrayHeader:
    """Read the header of an .npy of ``stated`` bytes. Raises ValueError for one that does not fit its size."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version[0]}.{version[1]} of the npy format is not known")
    shape, fortran_order, dtype = readers[version](file, max_header_size=MAX_HEADER)
    header = ArrayHeader(shape, dtype, fortran_order, packed)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled; save it as numbers")
    if min(shape, default=0) < 0 or header.size != stated - file.tell():
        raise ValueError(f"an array {header} does not fit into the {stated:,} bytes that the file has for it")
    return header


def _choose(path: Path, headers: Mapping[str, ArrayHeader]) -> str:
    """The name of the array that holds the images."""
    for name in IMAGE_NAMES:
        if name in headers:
            return name
    candidates = [name for name, header in headers.items() if len(header.shape) in (3, 4)] or list(headers)
    if len(candidates) == 1:
        return candidates[0]
    listed = ", ".join(f"{name} {header}" for name, header in list(headers.items())[:10]) or "nothing"
    raise DataError(f"{path} holds {listed}: it is unclear which array holds the images. Call it images.")


def _read_array(path: Path, name: str, header: ArrayHeader, file: BinaryIO) -> np.ndarray:
    """Read an array in pieces, no more than its header says. Raises DataError for one that is too large."""
    most = memory_share(2, least=1024**3)
    if header.size > most:
        raise DataError(f"{path} holds {name} {header}, {header.size:,} bytes: more than half of this machine's memory")
    if header.packed is not None and header.size > max(LARGE, MOST_PACKED * header.packed):
        raise DataError(
            f"{path} holds {name} {header}, {header.size:,} bytes packed into {header.packed:,}: no images are packed "
            "so tightly. Save it with np.savez if they are."
        )
    flat = np.empty(header.size, np.uint8)
    done = 0
    while done < header.size:
        piece = file.read(min(CHUNK, header.size - done))
        if not piece:
            raise EOFError(f"{name} is truncated")
        flat[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    file.read(1)  # at its end a zip checks the sum
    return flat.view(header.dtype).reshape(header.shape, order="F" if header.fortran_order else "C")


def _read_safetensors(path: Path) -> tuple[np.ndarray, Tensor | None, str]:
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        if "images" not in names:
            raise DataError(f"{path} has no tensor named images")
        images = file.get_tensor("images")
        labels = file.get_tensor("labels") if "labels" in names else None
    _say_unused(path, names, {"images", "labels"})
    if labels is not None and (labels.ndim != 1 or labels.is_floating_point() or labels.is_complex()):
        kind = str(labels.dtype).removeprefix("torch.")
        raise DataError(f"{path} holds labels {kind} {list(labels.shape)}; whole numbers [n] are needed")
    images = images.float() if images.dtype == torch.bfloat16 else images
    return images.numpy(), None if labels is None else labels.long(), "images"


def _as_pixels(
    array: np.ndarray, path: Path, name: str, image_shape: tuple[int, int, int], value_range: tuple[float, float] | None
) -> Tensor:
    """Bring an array to uint8 [n, c, h, w], by its shape and its type. Raises DataError."""
    channels, height, width = image_shape
    found = f"{path} holds {name} {array.dtype} {list(array.shape)}"
    wanted = f"{channels} x {height} x {width}"
    if array.ndim == 3 and array.shape[1:] == (height, width):
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1:3] == (height, width) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[2:] != (height, width) or array.shape[1] not in (1, 3):
        raise DataError(
            f"{found}; images of {wanted} are needed, as [n, h, w, c], [n, c, h, w] or grey [n, h, w]. They are never "
            "resized here, and have 1 or 3 channels"
        )
    if array.shape[1] == 3 and channels == 1:
        if any((part != part[:, :1]).any() for part in _parts(array)):
            raise DataError(f"{found}, with colours; the data set is grey, and to turn them grey would change them")
        array = array[:, :1]
    pixels = torch.from_numpy(_as_uint8(array, found, value_range))
    return (pixels.expand(-1, 3, -1, -1) if channels > pixels.shape[1] else pixels).contiguous()


def _as_uint8(array: np.ndarray, found: str, value_range: tuple[float, float] | None) -> np.ndarray:
    """Scale values to uint8 by one range for all images. Raises DataError where it is not sure which."""
    if array.dtype == np.uint8 and value_range is None:
        # Images of 0 and 1 alone are black and white, not all black.
        if array.size and max(map(np.max, _parts(array))) == 1:
            raise DataError(
                f"{found}: only the uint8 values 0 and 1, so it is unclear which is white.\nSay it with "
                "--value_range=LOW,HIGH, such as 0,1 or 0,255."
            )
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "fiu":
        raise DataError(f"{found}; numbers are needed, such as uint8")
    if not array.size:
        return np.zeros(array.shape, np.uint8)
    if not all(np.isfinite(part).all() for part in _parts(array)):
        raise DataError(f"{found}, some of which are no numbers")
    low, high = float(min(map(np.min, _parts(array)))), float(max(map(np.max, _parts(array))))
    if array.dtype.kind == "f":  # what lies beyond by less than half a level is rounded away
        black, white = value_range or (0.0, 1.0)
        slack = (white - black) / 510
        low, high = (black if black - slack < low < black else low), (white if white < high < white + slack else high)
    if value_range is None:
        kind, top = ("float", 1.0) if array.dtype.kind == "f" else (str(array.dtype), 255.0)
        if array.dtype.itemsize == 2 and array.dtype.kind != "f":
            top = float(np.iinfo(array.dtype).max)
        check_values([DeepValues(kind, top, low, high)], found, "--value_range")
        value_range = (0.0, top)
    try:
        within(low, high, value_range)
    except BadImageError as error:
        raise DataError(f"{found}: {error}") from error
    black, scale = value_range[0], 255.0 / (value_range[1] - value_range[0])
    result = np.empty(array.shape, np.uint8)
    for target, part in zip(_parts(result), _parts(array), strict=True):
        target[:] = np.clip(np.rint((part.astype(np.float64) - black) * scale), 0, 255)
    return result


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in pieces along its first axis."""
    return (array[start : start + CHUNK_IMAGES] for start in range(0, len(array), CHUNK_IMAGES))
