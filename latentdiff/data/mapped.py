"""Tensors that are mapped from files: they may be larger than the memory, and their pages are read when they are used.

A page that was read counts as memory of the process until it is released, though the system could take it back. So code
that goes through a large tensor releases the pages that it has read.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.data.memory_budget import memory_share
from latentdiff.digest import json_with_digest, read_json
from latentdiff.errors import DataError
from latentdiff.files import write_atomically
from latentdiff.os_errors import describe_os_error

CHUNK = 16 * 1024**2
# Bytes of a mapped tensor from which on pages that were gone through are given back.
RELEASED_FROM = 256 * 1024**2
# Of files that this process has read through: their checksum, by their path, size and times.
_checksums: dict[tuple[str, int, int, int], int] = {}


def most_in_memory() -> int:
    """Bytes above which a selection of mapped images becomes a file of its own, and no copy in memory."""
    return memory_share(16, least=512 * 1024**2)


@dataclass(frozen=True)
class _Mapping:
    """A file that is mapped into memory: at which addresses, and its weakly held ``mmap``."""

    path: Path
    start: int
    length: int
    held: weakref.ref[Any]


_mappings: list[_Mapping] = []


def map_file(path: Path, shape: tuple[int, ...], dtype: torch.dtype = torch.uint8, offset: int = 0) -> Tensor:
    """Map a file into memory as a tensor of ``shape``, from ``offset`` bytes on.

    Writing to it does not change the file.

    The caller must check whether the file has changed its size since. Raises OSError.
    """
    if not math.prod(shape):
        return torch.empty(shape, dtype=dtype)
    with open(path, "rb") as file:
        if hasattr(mmap, "MAP_PRIVATE"):
            # Without reserving memory, where the system can: a data set may be larger than the memory.
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
            mapping = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        else:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    tensor = torch.frombuffer(mapping, dtype=dtype, count=math.prod(shape), offset=offset).reshape(shape)
    _mappings[:] = [known for known in _mappings if known.held() is not None]
    _mappings.append(_Mapping(path, tensor.data_ptr() - offset, len(mapping), weakref.ref(mapping)))
    return tensor


def file_of(tensor: Tensor) -> Path | None:
    """The file that a tensor is mapped from; None for one in memory."""
    found = _mapping_of(tensor)
    return found.path if found else None


def release(tensor: Tensor) -> None:
    """Give back the memory of the pages of a mapped tensor that were read; nothing happens to one in memory.

    What a program wrote into them is lost: the tensor is again what the file holds.
    """
    found = _mapping_of(tensor)
    mapping = found.held() if found else None
    if found is None or mapping is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = tensor.data_ptr() - found.start
    length = tensor.numel() * tensor.element_size() if tensor.is_contiguous() else found.length - first
    begin = first - first % mmap.PAGESIZE
    mapping.madvise(mmap.MADV_DONTNEED, begin, min(first + length, found.length) - begin)


class RowReader:
    """Rows of a tensor [n, ...], read from its file where it is mapped: they take no memory but their own.

    The system maps up to two mebibytes for a row that is touched.
    """

    def __init__(self, tensor: Tensor):
        self._tensor, self._row = tensor, tensor[:1].nbytes
        source = _mapping_of(tensor) if tensor.is_contiguous() else None
        self._file = open(source.path, "rb", buffering=0) if source else None  # noqa: SIM115
        self._offset = tensor.data_ptr() - source.start if source else 0
        if self._file is not None and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, index: Tensor) -> Tensor:
        """``tensor[index]``, for int64 [m]. Raises :class:`~latentdiff.errors.DataError` if its file was truncated."""
        if self._file is None:
            return self._tensor.index_select(0, index)
        result = torch.empty((len(index), *self._tensor.shape[1:]), dtype=self._tensor.dtype)
        target = memoryview(result.view(-1).view(torch.uint8).numpy())
        for place, row in enumerate(index.tolist()):
            self._file.seek(self._offset + row * self._row)
            if self._file.readinto(target[place * self._row : (place + 1) * self._row]) != self._row:
                raise DataError(f"{self._file.name} was truncated while it was read: start again")
        return result


def chunks(tensor: Tensor, multiple: int = 1) -> Iterator[Tensor]:
    """Go through a tensor [n, ...] in parts of some megabytes. Parts of a large mapped tensor are released after use.

    Args:
        tensor: The tensor.
        multiple: Each part but the last has a multiple of so many rows.
    """
    row = max(1, tensor[:1].nbytes)
    large = len(tensor) * row > RELEASED_FROM
    for chunk in tensor.split(multiple * max(1, CHUNK // (row * multiple))):
        yield chunk
        if large:
            release(chunk)


def select(tensor: Tensor, indices: Tensor) -> Tensor:
    """``tensor[indices]``, mapped from a file of its own where the tensor is mapped and the selection is large.

    Args:
        tensor: [n, ...].
        indices: int64 [m].

    The file lies beside that of the tensor, under a name that says which images it holds, for the next run. Raises
    :class:`~latentdiff.errors.DataError` where it cannot be written.
    """
    row = tensor[:1].nbytes
    source = file_of(tensor)
    if source is None or len(indices) * row <= most_in_memory():
        return tensor[indices]

    def parts() -> Iterator[Tensor]:
        for part in indices.split(max(1, CHUNK // row)):
            yield tensor.index_select(0, part)
            release(tensor)

    what = f"{len(indices):,} of {len(tensor):,} images"
    return _in_a_file("taken", tensor, indices.numpy().tobytes(), (len(indices), *tensor.shape[1:]), parts, what)


def with_mirrored(images: Tensor) -> Tensor:
    """Images [n, c, h, w], and behind them their mirror images: [2n, c, h, w]. Large ones are kept in a file."""
    if file_of(images) is None or 2 * images.nbytes <= most_in_memory():
        return torch.cat([images, images.flip(-1)])

    def parts() -> Iterator[Tensor]:
        yield from chunks(images)
        for chunk in chunks(images):
            yield chunk.flip(-1)

    what = f"{len(images):,} images and their mirror images"
    return _in_a_file("mirrored", images, b"", (2 * len(images), *images.shape[1:]), parts, what)


def crc32_of(path: Path) -> int:
    """The checksum of a file, read in pieces, once in a process while the file stays as it is."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _checksums:
        checksum = 0
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                checksum = zlib.crc32(chunk, checksum)
        _checksums[key] = checksum
    return _checksums[key]


def _mapping_of(tensor: Tensor) -> _Mapping | None:
    address = tensor.data_ptr()
    return next(
        (
            known
            for known in _mappings
            if known.start <= address < known.start + known.length and known.held() is not None
        ),
        None,
    )


def _in_a_file(
    kind: str,
    tensor: Tensor,
    key: bytes,
    shape: tuple[int, ...],
    parts: Callable[[], Iterator[Tensor]],
    what: str,
) -> Tensor:
    """A tensor made from a mapped tensor, and mapped from a file in the same folder. A missing file is written.

    Args:
        kind: What its name begins with.
        tensor: What it is made of.
        key: What else it depends on.
        shape: Its shape.
        parts: Gives its rows, some at a time.
        what: What a message calls it.
    """
    source = _mapping_of(tensor)
    assert source is not None
    digest = hashlib.sha256(repr((source.path.name, tensor.data_ptr() - source.start, tuple(tensor.shape))).encode())
    digest.update(key)
    path = source.path.parent / f"{kind}-{digest.hexdigest()[:16]}.bin"
    found = _read(path, shape, tensor.dtype)
    if found is not None:
        return found
    record: dict[str, Any] = {"shape": list(shape)}

    def write(name: Path) -> None:
        checksum = 0
        with open(name, "wb") as file:
            for part in parts():
                data = part.contiguous().numpy().data
                checksum = zlib.crc32(data, checksum)
                file.write(data)
        record["crc32"] = checksum

    print(f"writing {what} to {path}, since they are too large for the memory", flush=True)
    _write(path, write)
    _write(path.with_suffix(".json"), lambda name: name.write_bytes(json_with_digest(record)))
    found = _read(path, shape, tensor.dtype)
    if found is None:
        raise DataError(f"{path} was written but cannot be read back: is the disk full or failing?")
    return found


def _read(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """The tensor that an earlier run has written; None if it is missing or damaged."""
    try:
        record, signed = read_json(path.with_suffix(".json"))
        whole = signed and record["shape"] == list(shape) and record["crc32"] == crc32_of(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return map_file(path, shape, dtype) if whole else None


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write_atomically(path, write)
    except OSError as error:
        raise DataError(
            f"images that are too large for the memory cannot be written to {path.parent}: {describe_os_error(error)} "
            "(--data.cache_folder)."
        ) from error
