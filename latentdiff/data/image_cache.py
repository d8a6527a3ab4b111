"""The image cache: each file is decoded once, into one uint8 array that later runs map into memory."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from latentdiff.config.data import folder_name
from latentdiff.data.decode import CropAndResize, DecodedImage, ReadingRules, decode, open_image
from latentdiff.data.deep_images import DeepValues, check_values, join_values
from latentdiff.data.file_list import FileList
from latentdiff.data.files import IMAGE_CACHE
from latentdiff.data.image_formats import BadImageError
from latentdiff.data.mapped import crc32_of, map_file
from latentdiff.data.memory_budget import MemoryBudget
from latentdiff.data.messages import print_once, printable
from latentdiff.digest import json_with_digest, read_json
from latentdiff.errors import ConfigError, DataError
from latentdiff.files import sync_folder, temporary_folder
from latentdiff.os_errors import describe_os_error

FORMAT = 1
MAX_LISTED = 20
UNREADABLE = "it cannot be read"
# Reasons that a package, or more memory, takes away.
NEEDS, MEMORY = "which needs", "there is not enough memory"
# How odd images are decoded: deep ones, and those with colour profiles. The published data sets hold none.
DECODER = 3
WITHOUT_ODD_IMAGES = ("celeba", "cifar-10", "flowers-102")
# What all threads together hold of files before they are decoded.
READING = MemoryBudget(256 * 1024**2)


def cached_images(
    files: FileList,
    transform: CropAndResize,
    folder: Path,
    skip_bad: bool = False,
    rules: ReadingRules | None = None,
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
        rules: Which images are read, and what their values mean.

    Returns:
        uint8 [n, c, size, size], mapped from the cache: pages are read when they are used. And int64 [n]: the place
        of each image in ``files.names``.

    Raises:
        DataError: Files that cannot be used, a class all of whose files cannot be used, deep images whose black and
            white are not sure, or a ``folder`` that cannot be written to.
    """
    rules = rules or ReadingRules()
    key = _cache_key(files, transform, rules)
    path = folder / f"{folder_name(files.name)}-{transform.size}{'-grey' if transform.grey else ''}-{key}"
    found = _read_cache(path, key)
    if found is None or _is_readable_again(files, found[2]["bad"], rules):
        try:
            _write_cache(path, key, files, transform, rules)
        except OSError as error:  # no permission, or a full disk; nothing half-written is left
            raise DataError(
                f"decoded images cannot be kept in {folder}: {describe_os_error(error)} (--data.cache_folder)."
            ) from error
        found = _read_cache(path, key)
        if found is None:
            raise DataError(f"{path} was written but cannot be read back: is the disk full or failing?")
    images, usable, meta = found
    bad, where = meta["bad"], files.source.path
    if bad:
        lines = [f"  {printable(name)}: {reason}" for name, reason in bad[:MAX_LISTED]]
        lines += (
            [f"  and {len(bad) - MAX_LISTED:,} more, listed in {path / 'meta.json'}"] if len(bad) > MAX_LISTED else []
        )
        every = len(files.names) + len(files.source.refused)
        summary = f"{len(bad):,} of {every:,} files in {where} cannot be used:\n" + "\n".join(lines)
        if not skip_bad:
            if any(MEMORY in reason for _, reason in bad):
                _remove_cache(path)  # the next call tries again
            raise DataError(f"{summary}\nRepair or remove them, or leave them out with --data.on_bad_image skip.")
        print_once(summary)
    if not len(images):
        raise DataError(f"none of the {len(files.names):,} files in {where} can be used")
    _check_classes(files, usable)
    if rules.value_range is None:
        check_values([DeepValues(*values) for values in meta.get("deep", ())], str(where))
    elif not meta.get("deep") and rules.value_range != (0, 255):
        raise ConfigError(f"data.value_range has no effect: all images in {where} have 8 bits")
    if meta.get("frames"):
        print_once(
            f"{meta['frames']:,} of {len(files.names):,} files in {where} hold several frames or pages: the first "
            "of each is taken"
        )
    if meta.get("enlarged"):
        print_once(
            f"{meta['enlarged']:,} of {len(images):,} images in {where} are smaller than {transform.size} pixels "
            "and are enlarged: consider a smaller --data.size"
        )
    return images, usable


def _check_classes(files: FileList, usable: Tensor) -> None:
    """Raise :class:`~latentdiff.errors.DataError` where no image of a class that has files can be used."""
    counts, left = (torch.bincount(labels, minlength=1) for labels in (files.labels, files.labels[usable]))
    lost = [label for label, count in enumerate(counts.tolist()) if count and (label >= len(left) or not left[label])]
    if lost and files.class_names:
        names = ", ".join(files.class_names[label] for label in lost[:5]) + (", ..." if len(lost) > 5 else "")
        raise DataError(
            f"no image of {len(lost)} of the {len(files.class_names)} classes in {files.source.path} can be used: "
            f"{names}\nRepair the files, or remove them."
        )


def _cache_key(files: FileList, transform: CropAndResize, rules: ReadingRules) -> str:
    """Sixteen hex digits over everything that the decoded images depend on."""
    digest = hashlib.sha256(repr((FORMAT, asdict(transform), len(files.names), files.source.refused)).encode())
    for name in files.names:
        stamp = files.source.stamp(name)
        # The published data sets are not edited: their caches have the names that they always had.
        stamp = stamp[:2] if files.name in WITHOUT_ODD_IMAGES else stamp
        digest.update(repr((name, stamp)).encode("utf-8", "surrogateescape"))
    if files.name not in WITHOUT_ODD_IMAGES:
        digest.update(repr(DECODER).encode())
    if rules != ReadingRules():
        digest.update(repr(rules).encode())
    return digest.hexdigest()[:16]


def _write_cache(path: Path, key: str, files: FileList, transform: CropAndResize, rules: ReadingRules) -> None:
    """Decode all files into the cache ``path``, which is there whole or not at all."""
    _remove_cache(path)
    with temporary_folder(path) as folder:
        usable: list[int] = []
        bad = [list(pair) for pair in files.source.refused]
        checksum = frames = enlarged = 0
        deep: list[DeepValues] = []
        with open(folder / "images.bin", "wb") as file:
            for index, result in enumerate(_decode_all(files, transform, rules)):
                if isinstance(result, str):
                    bad.append([files.names[index], result])
                    continue
                frames += result.frames
                enlarged += result.enlarged
                deep = join_values([*deep, result.deep]) if result.deep else deep
                data = result.pixels.tobytes()
                checksum = zlib.crc32(data, checksum)
                file.write(data)
                usable.append(index)
            file.flush()
            os.fsync(file.fileno())
        np.save(folder / "kept.npy", np.asarray(usable, dtype=np.int64))
        checksums = {"images.bin": checksum, "kept.npy": crc32_of(folder / "kept.npy")}
        meta = {
            "key": key,
            "shape": [len(usable), *transform.shape],
            "crc32": checksums,
            "bad": bad,
            "deep": [astuple(values) for values in deep],
            "frames": frames,
            "enlarged": enlarged,
        }
        (folder / "meta.json").write_bytes(json_with_digest(meta))
        try:
            os.rename(folder, path)
        except OSError:
            if not path.is_dir():
                raise
            # Another process was faster, with the same images; or the folder holds files of another's, which stay.
            for name in IMAGE_CACHE:
                os.replace(folder / name, path / name)
    sync_folder(path.parent)


def _remove_cache(path: Path) -> None:
    """Remove a damaged cache: its own files, and the folder where it is empty then."""
    for name in IMAGE_CACHE:
        with suppress(OSError):
            (path / name).unlink()
    with suppress(OSError):
        path.rmdir()


def _decode_all(files: FileList, transform: CropAndResize, rules: ReadingRules) -> Iterator[DecodedImage | str]:
    """Decode the files in order; yield each image, or the reason why there is none.

    Threads decode a few files ahead: PIL releases Python's lock.
    """

    def decode_one(name: str) -> DecodedImage | str:
        try:
            with READING.reserve(min(files.source.stamp(name)[0], rules.max_bytes)):
                return decode(files.source.read(name, rules.max_bytes), transform, name, rules)
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


def _read_cache(path: Path, key: str) -> tuple[Tensor, Tensor, dict[str, Any]] | None:
    """Images, their places in the list of files, and what is known of them; None where the cache is missing or damaged.

    The dict has ``bad``, the files that cannot be used; ``deep``, the :class:`DeepValues`; ``frames`` and ``enlarged``,
    the numbers of files with several frames, and of files that are smaller than the squares.
    """
    if not path.is_dir():
        return None
    try:
        meta, _ = read_json(path / "meta.json")
        shape, file = tuple(meta["shape"]), path / "images.bin"
        whole = meta["key"] == key and isinstance(meta["bad"], list) and file.stat().st_size == math.prod(shape)
        whole = whole and all(crc32_of(path / name) == checksum for name, checksum in meta["crc32"].items())
        usable = np.load(path / "kept.npy") if whole else np.empty(0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{path} is damaged ({error}): decoding again", flush=True)
        return None
    if not whole:
        print(f"{path} does not match its checksums: decoding again", flush=True)
        return None
    return map_file(file, shape), torch.from_numpy(usable), meta


def _is_readable_again(files: FileList, bad: list[Any], rules: ReadingRules) -> bool:
    """Whether a file that could not be read when the cache was made can be read now.

    The cache's name does not tell, since a change of permissions does not change a file's size and times, and a package
    may be installed by now.
    """
    tried: set[str] = set()
    for name, reason in bad:
        with suppress(Exception):
            if MEMORY in reason:
                return True
            if reason.startswith(UNREADABLE):
                files.source.read(name, rules.max_bytes)
                return True
            if NEEDS in reason and reason not in tried:  # one tells of all
                tried.add(reason)
                open_image(files.source.read(name, rules.max_bytes), name, rules)
                return True
    return False
