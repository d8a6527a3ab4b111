"""A digest of each image file's content, by which one's own images are split.

A number is the CRC-32 of a file's bytes with their count. A zip's directory holds both, so that a zip is split like the
folder that it was made of, and need not be read. Two images with one number would share a split, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from latentdiff.data.files import CHUNK, Files, ZipFiles
from latentdiff.errors import DataError
from latentdiff.files import write_atomically

FORMAT = 1


def content_digests(files: Files, names: tuple[str, ...], folder: Path) -> Tensor:
    """A digest of each file that depends only on its bytes: int64 [n].

    The files of a directory are read once; the numbers are then kept in ``folder``, under a name that changes with the
    files' names, sizes and times.

    Args:
        files: Where the files are.
        names: Which ones.
        folder: Where caches lie.

    Raises :class:`~latentdiff.errors.DataError` where a file cannot be read, or the cache not be written.
    """
    if isinstance(files, ZipFiles):
        return _as_tensor([files.stamp(name) for name in names])
    digest = hashlib.sha256(repr((FORMAT, len(names))).encode())
    for name in names:
        digest.update(repr((name, files.stamp(name))).encode("utf-8", "surrogateescape"))
    key = digest.hexdigest()[:16]
    path = folder / f"content-{key}.safetensors"
    found = _read(path, key)
    if found is not None and len(found) == len(names):
        return found
    try:
        found = _as_tensor(_read_all(files, names))
    except OSError as error:
        raise DataError(f"{files.path} cannot be read: {error}") from error
    meta = {"latentdiff": json.dumps({"key": key, "sha256": _sha256(found)})}
    try:
        write_atomically(path, lambda name: save_file({"content": found}, name, meta))
    except OSError as error:
        raise DataError(
            f"digests of the images cannot be kept in {folder}: {error}. Name another folder with --data.cache_folder."
        ) from error
    return found


def _read_all(files: Files, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """The size and the CRC-32 of each file. Reading and summing release Python's lock."""

    def digest(name: str) -> tuple[int, int]:
        size = checksum = 0
        with files.open(name) as file:
            while piece := file.read(CHUNK):
                size, checksum = size + len(piece), zlib.crc32(piece, checksum)
        return size, checksum

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(names), desc="reading", unit="images", disable=None) as bar,
    ):
        found = []
        # In parts: a pool takes all of its work at once, and would read far ahead.
        for start in range(0, len(names), 256):
            part = list(pool.map(digest, names[start : start + 256]))
            found += part
            bar.update(len(part))
    return found


def _as_tensor(pairs: Iterable[tuple[int, ...]]) -> Tensor:
    # 31 bits of the size over 32 of the sum: a tensor has no unsigned numbers.
    return torch.tensor([(size & 0x7FFFFFFF) << 32 | crc for size, crc in pairs], dtype=torch.int64)


def _read(path: Path, key: str) -> Tensor | None:
    """The numbers in ``path``; None where there are none, or damaged ones."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("latentdiff", "{}"))
            content = file.get_tensor("content")
    except (SafetensorError, OSError, ValueError):
        return None
    return content if header == {"key": key, "sha256": _sha256(content)} else None


def _sha256(content: Tensor) -> str:
    return hashlib.sha256(content.contiguous().numpy()).hexdigest()
