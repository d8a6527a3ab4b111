"""The image cache: each file is decoded once, into one uint8 array that later runs map into memory."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import shutil
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from latentdiff.data.decode import BadImageError, CropAndResize, decode
from latentdiff.data.file_list import FileList
from latentdiff.data.messages import print_once, printable
from latentdiff.digest import json_with_digest, read_json
from latentdiff.errors import DataError

FORMAT = 1
MAX_LISTED = 20
CHUNK = 1 << 24
UNREADABLE = "it cannot be read"


def cached_images(
    files: FileList, transform: CropAndResize, folder: Path, skip_bad: bool = False
) -> tuple[Tensor, Tensor]:
    """Read the decoded images of ``files`` from the cache in ``folder``, or decode them now and cache them there.

    The cache's name is a hash of all that the images depend on: the files' names, sizes and times, and the transform.
    The cache is written file by file to a temporary name and then renamed, so it may be larger than the memory. A
    damaged cache is recognised by its checksum and made again.

    Args:
        files: The files of a data set.
        transform: How an image becomes a square.
        folder: Where caches lie.
        skip_bad: Leave out files that cannot be used, and print one summary. Otherwise they are an error, raised after
            all files were tried.

    Returns:
        uint8 [n, c, size, size], mapped from the cache: pages are read when they are used. And int64 [n]: the place
        of each image in ``files.names``.

    Raises:
        DataError: Files that cannot be used, or a ``folder`` that cannot be written to.
    """
    key = _cache_key(files, transform)
    path = folder / f"{files.name}-{transform.size}{'-grey' if transform.grey else ''}-{key}"
    found = _read_cache(path, key)
    if found is None or _is_readable_again(files, found[2]):
        try:
            _write_cache(path, key, files, transform)
        except OSError as error:  # no permission, or a full disk; nothing half-written is left
            raise DataError(
                f"decoded images cannot be kept in {folder}: {error}. Name another folder with --data.cache_folder."
            ) from error
        found = _read_cache(path, key)
        if found is None:
            raise DataError(f"{path} was written and cannot be read back: is the disk full or failing?")
    images, usable, bad = found
    if bad:
        where = files.source.path
        lines = [f"  {printable(name)}: {reason}" for name, reason in bad[:MAX_LISTED]]
        lines += (
            [f"  and {len(bad) - MAX_LISTED:,} more, listed in {path / 'meta.json'}"] if len(bad) > MAX_LISTED else []
        )
        every = len(files.names) + len(files.source.refused)
        summary = f"{len(bad):,} of {every:,} files in {where} cannot be used:\n" + "\n".join(lines)
        if not skip_bad:
            raise DataError(f"{summary}\nMend or remove them, or leave them out with --data.on_bad_image skip.")
        print_once(summary)
    if not len(images):
        raise DataError(f"none of the {len(files.names):,} files in {files.source.path} can be used")
    return images, usable


def _cache_key(files: FileList, transform: CropAndResize) -> str:
    """Sixteen hex digits over everything that the decoded images depend on."""
    digest = hashlib.sha256(repr((FORMAT, asdict(transform), len(files.names), files.source.refused)).encode())
    for name in files.names:
        digest.update(repr((name, files.source.stamp(name))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _write_cache(path: Path, key: str, files: FileList, transform: CropAndResize) -> None:
    """Decode all files into the cache ``path``, which is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as name:
        usable: list[int] = []
        bad = [list(pair) for pair in files.source.refused]
        checksum = 0
        with open(Path(name) / "images.bin", "wb") as file:
            for index, result in enumerate(_decode_all(files, transform)):
                if isinstance(result, str):
                    bad.append([files.names[index], result])
                    continue
                data = result.tobytes()
                checksum = zlib.crc32(data, checksum)
                file.write(data)
                usable.append(index)
        np.save(Path(name) / "kept.npy", np.asarray(usable, dtype=np.int64))
        checksums = {"images.bin": checksum, "kept.npy": _crc32(Path(name) / "kept.npy")}
        meta = {"key": key, "shape": [len(usable), *transform.shape], "crc32": checksums, "bad": bad}
        (Path(name) / "meta.json").write_bytes(json_with_digest(meta))
        os.chmod(name, 0o755)
        try:
            os.rename(name, path)
        except OSError:
            if not path.is_dir():  # otherwise another process was faster, with the same images
                raise
        Path(name).mkdir(exist_ok=True)  # for the context manager to remove


def _decode_all(files: FileList, transform: CropAndResize) -> Iterator[np.ndarray | str]:
    """Decode the files in order; yield each image, or the reason why there is none.

    Threads decode a few files ahead: PIL releases Python's lock.
    """

    def decode_one(name: str) -> np.ndarray | str:
        try:
            return decode(files.source.read(name), transform, name)
        except BadImageError as error:
            return str(error)
        except Exception as error:
            return f"{UNREADABLE}: {error}"

    workers = os.cpu_count() or 1
    waiting: deque[Future] = deque()
    description = f"decoding {files.name}"
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(files.names), desc=description, unit="images", disable=None) as bar,
    ):
        for name in files.names:
            waiting.append(pool.submit(decode_one, name))
            if len(waiting) > 8 * workers:
                yield waiting.popleft().result()
                bar.update()
        while waiting:
            yield waiting.popleft().result()
            bar.update()


def _read_cache(path: Path, key: str) -> tuple[Tensor, Tensor, list[Any]] | None:
    """Images, their places in the list of files, and the bad files; None where the cache is missing or damaged."""
    if not path.is_dir():
        return None
    try:
        meta, _ = read_json(path / "meta.json")
        shape, file = tuple(meta["shape"]), path / "images.bin"
        whole = meta["key"] == key and file.stat().st_size == math.prod(shape)
        whole = whole and all(_crc32(path / name) == checksum for name, checksum in meta["crc32"].items())
        usable = np.load(path / "kept.npy") if whole else np.empty(0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{path} is damaged ({error}): decoding again", flush=True)
        return None
    if not whole:
        print(f"{path} does not hold what it says: decoding again", flush=True)
        return None
    images = _memory_map(file).reshape(shape) if shape[0] else torch.empty(shape, dtype=torch.uint8)
    return images, torch.from_numpy(usable), meta["bad"]


def _is_readable_again(files: FileList, bad: list[Any]) -> bool:
    """Whether a file can be read now that could not be read when the cache was made.

    The cache's name does not tell: a change of rights leaves a file's size and times alone.
    """
    for name, reason in bad:
        if reason.startswith(UNREADABLE):
            with suppress(Exception):
                files.source.read(name)
                return True
    return False


def _memory_map(path: Path) -> Tensor:
    """Map a file into memory as uint8 [its length]. Writing to the tensor does not change the file."""
    with open(path, "rb") as file:
        if hasattr(mmap, "MAP_PRIVATE"):
            # Without reserving memory, where the system can: a data set may be larger than the memory.
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
            mapping = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        else:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(mapping, dtype=torch.uint8)


def _crc32(path: Path) -> int:
    """The checksum of a file, read in pieces."""
    checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
