"""The image cache: every file decoded once, into one uint8 array that later starts map into memory."""

from __future__ import annotations

import hashlib
import json
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

from latentdiff.data.decode import BadImageError, Square, decode
from latentdiff.data.listing import Listing
from latentdiff.data.messages import printable, tell
from latentdiff.errors import DataError

FORMAT = 1
SHOWN = 20
CHUNK = 1 << 24
UNREADABLE = "it cannot be read"


def cached_images(listing: Listing, square: Square, folder: Path, skip_bad: bool = False) -> tuple[Tensor, Tensor]:
    """The images of ``listing`` as squares: from the cache in ``folder``, or decoded now and cached there.

    The cache is named by a hash of everything that the images depend on: the files' names, sizes and times, and the
    square. It is written file by file, so it may be larger than the memory, to a temporary name that is then renamed.
    A damaged one is told by its checksum and made again.

    Args:
        skip_bad: Leave files out that cannot be used, with one summary; otherwise they are an error, after all have
            been looked at.

    Returns: uint8 [n, c, size, size], mapped from the file (pages are read when they are used), and int64 [n], which
    members of ``listing`` they are. Raises :class:`DataError`, also where ``folder`` cannot be written to.
    """
    key = _key(listing, square)
    path = folder / f"{listing.name}-{square.size}{'-grey' if square.grey else ''}-{key}"
    found = _read(path, key)
    if found is None or _mended(listing, found[2]):
        try:
            _write(path, key, listing, square)
        except OSError as error:  # no permission, or a full disk; nothing half-written is left
            raise DataError(
                f"decoded images cannot be kept in {folder}: {error}. Name another folder with --data.cache_folder."
            ) from error
        found = _read(path, key)
        if found is None:
            raise DataError(f"{path} was written and cannot be read back: is the disk full or failing?")
    images, kept, bad = found
    if bad:
        where = listing.files.path
        lines = [f"  {printable(name)}: {reason}" for name, reason in bad[:SHOWN]]
        lines += [f"  and {len(bad) - SHOWN:,} more, listed in {path / 'meta.json'}"] if len(bad) > SHOWN else []
        every = len(listing.members) + len(listing.files.refused)
        summary = f"{len(bad):,} of {every:,} files in {where} cannot be used:\n" + "\n".join(lines)
        if not skip_bad:
            raise DataError(f"{summary}\nMend or remove them, or leave them out with --data.on_bad_image skip.")
        tell(summary)
    if not len(images):
        raise DataError(f"none of the {len(listing.members):,} files in {listing.files.path} can be used")
    return images, kept


def _key(listing: Listing, square: Square) -> str:
    digest = hashlib.sha256(repr((FORMAT, asdict(square), len(listing.members), listing.files.refused)).encode())
    for name in listing.members:
        digest.update(repr((name, listing.files.stamp(name))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _write(path: Path, key: str, listing: Listing, square: Square) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as name:
        kept: list[int] = []
        bad = [list(pair) for pair in listing.files.refused]
        checksum = 0
        with open(Path(name) / "images.bin", "wb") as file:
            for index, result in enumerate(_decoded(listing, square)):
                if isinstance(result, str):
                    bad.append([listing.members[index], result])
                    continue
                data = result.tobytes()
                checksum = zlib.crc32(data, checksum)
                file.write(data)
                kept.append(index)
        np.save(Path(name) / "kept.npy", np.asarray(kept, dtype=np.int64))
        checksums = {"images.bin": checksum, "kept.npy": _crc32(Path(name) / "kept.npy")}
        meta = {"key": key, "shape": [len(kept), *square.shape], "crc32": checksums, "bad": bad}
        (Path(name) / "meta.json").write_text(json.dumps(meta, indent=1))
        os.chmod(name, 0o755)
        try:
            os.rename(name, path)
        except OSError:
            if not path.is_dir():  # else another process was faster, with the same images
                raise
        Path(name).mkdir(exist_ok=True)  # for the context manager to remove


def _decoded(listing: Listing, square: Square) -> Iterator[np.ndarray | str]:
    """Each member's square, or why there is none, in order: a few ahead, in threads, since PIL lets go of the lock."""

    def one(member: str) -> np.ndarray | str:
        try:
            return decode(listing.files.read(member), square, member)
        except BadImageError as error:
            return str(error)
        except Exception as error:
            return f"{UNREADABLE}: {error}"

    workers = os.cpu_count() or 1
    waiting: deque[Future] = deque()
    description = f"decoding {listing.name}"
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(listing.members), desc=description, unit="images", disable=None) as bar,
    ):
        for member in listing.members:
            waiting.append(pool.submit(one, member))
            if len(waiting) > 8 * workers:
                yield waiting.popleft().result()
                bar.update()
        while waiting:
            yield waiting.popleft().result()
            bar.update()


def _read(path: Path, key: str) -> tuple[Tensor, Tensor, list[Any]] | None:
    """Images, which members they are, and the bad files; None where the cache is not there or not whole."""
    if not path.is_dir():
        return None
    try:
        meta = json.loads((path / "meta.json").read_text())
        shape, file = tuple(meta["shape"]), path / "images.bin"
        whole = meta["key"] == key and file.stat().st_size == math.prod(shape)
        whole = whole and all(_crc32(path / name) == checksum for name, checksum in meta["crc32"].items())
        kept = np.load(path / "kept.npy") if whole else np.empty(0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{path} is damaged ({error}): decoding again", flush=True)
        return None
    if not whole:
        print(f"{path} does not hold what it says: decoding again", flush=True)
        return None
    images = _mapped(file).reshape(shape) if shape[0] else torch.empty(shape, dtype=torch.uint8)
    return images, torch.from_numpy(kept), meta["bad"]


def _mended(listing: Listing, bad: list[Any]) -> bool:
    """Whether a file can be read now that could not be when the cache was made: rights, unlike content, leave the times
    alone by which a cache is named."""
    for name, reason in bad:
        if reason.startswith(UNREADABLE):
            with suppress(Exception):
                listing.files.read(name)
                return True
    return False


def _mapped(path: Path) -> Tensor:
    """A file as uint8 [its length]. Copy on write: nothing that is done to the tensor reaches the file."""
    with open(path, "rb") as file:
        if hasattr(mmap, "MAP_PRIVATE"):
            # Unreserved, where Python knows how to ask for it: a set may be larger than the memory.
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
            mapping = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        else:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(mapping, dtype=torch.uint8)


def _crc32(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
