"""Where image files are read from: a directory, or a zip that is never unpacked."""

from __future__ import annotations

import io
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from latentdiff.errors import DataError

MAX_LISTED = 20  # Files that cannot be used, in one message.
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Files(ABC):
    """A place that files are read from by name. A name is a path relative to the place, with ``/`` between folders.

    Attributes:
        path: The directory or the zip.
        images: Names of the files that are images by their suffix, in order.
        refused: Names of files that are not read, each with the reason.
    """

    path: Path
    images: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read the content of a file. Raises OSError or zipfile.BadZipFile."""

    def open(self, name: str) -> BinaryIO:
        """Open a file as a stream, to read no more than its beginning. Raises what :meth:`read` raises."""
        return io.BytesIO(self.read(name))

    @abstractmethod
    def stamp(self, name: str) -> tuple[int, int]:
        """Two numbers that change with a file's content: the size, and the time of change or the checksum."""


class DirectoryFiles(Files):
    """The files of a directory and its sub-folders. Links to files and folders are followed."""

    def __init__(self, path: Path):
        self.path = path
        found = sorted(_walk(path, "", (os.path.realpath(path),)))
        self.images = tuple(name for name, reason in found if not reason)
        self.refused = tuple(pair for pair in found if pair[1])

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        return open(self.path / name, "rb")

    def stamp(self, name: str) -> tuple[int, int]:
        status = (self.path / name).stat()
        return status.st_size, status.st_mtime_ns


class ZipFiles(Files):
    """The files of a zip, which is never unpacked: a name in it never becomes a path on this machine."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read as a zip: {error}. Copy or download it again.") from error
        self._entries: dict[str, zipfile.ZipInfo] = {}
        refused = []
        for entry in self._zip.infolist():
            parts = PurePosixPath(entry.filename).parts
            if entry.is_dir() or PurePosixPath(entry.filename).suffix.lower() not in IMAGE_SUFFIXES:
                continue
            # Before hidden files: a path out of the archive with backslashes begins with a dot, as a hidden name does.
            if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename or ":" in parts[0]:
                refused.append((entry.filename, "its path points out of the archive"))
            elif _is_hidden(parts):
                continue
            elif entry.filename in self._entries:
                refused.append((entry.filename, "the archive holds this name twice; the first is taken"))
            elif entry.flag_bits & 1:
                refused.append((entry.filename, "it is encrypted"))
            else:
                self._entries[entry.filename] = entry
        self.images, self.refused = tuple(sorted(self._entries)), tuple(refused)

    def read(self, name: str) -> bytes:
        return self._zip.read(self._entries[name])

    def open(self, name: str) -> BinaryIO:
        return self._zip.open(self._entries[name])

    def stamp(self, name: str) -> tuple[int, int]:
        entry = self._entries[name]
        return entry.file_size, entry.CRC


class JoinedFiles(Files):
    """The files of several data sets together. Each name begins with the name of its data set."""

    def __init__(self, members: dict[str, Files]):
        self.path = Path("mixed")
        self.images = tuple(f"{name}/{image}" for name, files in members.items() for image in files.images)
        self.refused = tuple(
            (f"{name}/{image}", reason) for name, files in members.items() for image, reason in files.refused
        )
        self._members = members

    def read(self, name: str) -> bytes:
        files, name = self._locate(name)
        return files.read(name)

    def open(self, name: str) -> BinaryIO:
        files, name = self._locate(name)
        return files.open(name)

    def stamp(self, name: str) -> tuple[int, int]:
        files, name = self._locate(name)
        return files.stamp(name)

    def _locate(self, name: str) -> tuple[Files, str]:
        member, _, inner = name.partition("/")
        return self._members[member], inner


def open_files(path: Path) -> Files:
    """Open a directory or a zip of images. Raises :class:`DataError` where ``path`` is neither, or holds no image."""
    if path.is_dir():
        files: Files = DirectoryFiles(path)
    elif path.is_file():
        files = ZipFiles(path)
    else:
        raise DataError(f"there is no {path}: --data.path takes a directory or a zip of images")
    if not files.images:
        refused = "".join(f"\n  {name}: {reason}" for name, reason in files.refused[:MAX_LISTED])
        raise DataError(
            f"{path} holds no image that can be used; looked for {', '.join(sorted(IMAGE_SUFFIXES))} in it and below"
            + refused
        )
    return files


def _walk(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each image in ``folder`` and below, with the reason why it cannot be read, empty where it can; in no order.

    Args:
        folder: Where to look.
        prefix: What the yielded names begin with.
        above: The real paths of ``folder`` and of the folders above it. A link to one of them would lead in a circle.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not _is_hidden((entry.name,))]
    except OSError as error:
        yield prefix.rstrip("/") or ".", f"the folder cannot be read: {error.strerror}"
        return
    for entry in found:
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if real not in above:
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, real))
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
            lost = "it is a link to nowhere" if entry.is_symlink() else "it is no ordinary file"
            yield prefix + entry.name, "" if entry.is_file() else lost


def _is_hidden(parts: tuple[str, ...]) -> bool:
    """Whether a file is hidden, as those that systems leave behind: ``.DS_Store``, ``._name``, ``__MACOSX``."""
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts)
