"""Where image files are read from: a directory, or a zip that is never unpacked."""

from __future__ import annotations

import io
import os
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from latentdiff.data.image_formats import (
    HEADER,
    BadImageError,
    count_by_suffix,
    image_kind,
    is_litter,
    is_readable,
)
from latentdiff.data.path_kind import describe_other
from latentdiff.errors import DataError
from latentdiff.folder_mark import MARKER

# What an image cache consists of. The last is written last, and says what the others must hold.
IMAGE_CACHE = ("images.bin", "kept.npy", "meta.json")
MAX_LISTED = 20  # Files that cannot be used, in one message.
UTF8_NAME = 0x800  # The flag of an entry of a zip whose name is UTF-8.
CHUNK = 1 << 20  # Bytes that are read, or unpacked, at a time.


class Files(ABC):
    """A place that files are read from by name. A name is a path relative to the place, with ``/`` between folders.

    Attributes:
        path: The directory or the zip.
        images: Names of the files that are images, in order. A file with the suffix of an image is taken for one; of
            any other file the first bytes tell.
        refused: Names of files that are not read, each with the reason.
        left_out: Names of the other files, in order, each with its kind where it is an image that cannot be read here.
            Hidden files and those that systems leave behind are in none of these.
        empty_folders: Names of folders that hold nothing, or only what systems leave behind.
        own_folders: Names of folders below ``path`` that latentdiff wrote, such as a run's. What lies in them is in
            none of these: a grid of samples is no image of the data set.
    """

    path: Path
    images: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str | None], ...] = ()
    empty_folders: tuple[str, ...] = ()
    own_folders: tuple[str, ...] = ()

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file as a stream, to read no more than its beginning. Raises what :meth:`read` raises."""

    @abstractmethod
    def stamp(self, name: str) -> tuple[int, ...]:
        """Numbers that change with a file's content: the size, and the times of change or the checksum."""

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Read the content of a file.

        Args:
            name: The file's name.
            limit: Most bytes that the file may have. More than that are not held in memory, whatever size the
                directory of a zip states.

        Raises OSError or zipfile.BadZipFile, and :class:`~latentdiff.data.image_formats.BadImageError` for a file that
        is larger than ``limit``.
        """
        stated = self.stamp(name)[0]
        if limit is not None and stated > limit:
            raise BadImageError(f"it has {stated:,} bytes; at most {limit:,} are read (--data.max_file_size)")
        with self.open(name) as file:
            content = io.BytesIO()
            while piece := file.read(CHUNK):
                content.write(piece)
                if content.tell() > (stated if limit is None else limit):
                    raise BadImageError(f"it has more bytes than the {stated:,} that are stated")
        return content.getvalue()

    def describe_left_out(self) -> str:
        """One line on what is left out: files that are no images, by their suffixes, and latentdiff's own folders.

        Empty where there is nothing.
        """
        listed = self.list_left_out()
        return f"left out of {self.path}: {listed}" if listed else ""

    def list_left_out(self) -> str:
        """What :meth:`describe_left_out` says, without the place."""
        parts = [count_by_suffix(self.left_out)] if self.left_out else []
        if self.own_folders:
            more = f" and {len(self.own_folders) - 3:,} more" if len(self.own_folders) > 3 else ""
            parts.append(f"files that latentdiff wrote in {', '.join(self.own_folders[:3])}{more}")
        return ", ".join(parts)


class DirectoryFiles(Files):
    """The files of a directory and its sub-folders. Links to files and folders are followed."""

    def __init__(self, path: Path):
        self.path = path
        images: list[str] = []
        refused: list[tuple[str, str]] = []
        left_out: list[tuple[str, str | None]] = []
        empty: list[str] = []
        own: list[str] = []
        # A folder, what its names begin with, and what identifies the folder and those above it: a link to one of them
        # would lead in a circle.
        waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(os.fspath(path), "", (_identity(path),))]
        while waiting:
            folder, prefix, above = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    found = list(entries)
            except OSError as error:
                refused.append((prefix.rstrip("/") or ".", f"the folder cannot be read: {error.strerror}"))
                continue
            if prefix and _is_own_folder(entry.name for entry in found):
                own.append(prefix.rstrip("/"))
                continue
            if prefix and all(is_litter((entry.name,)) for entry in found):
                empty.append(prefix.rstrip("/"))
            for entry in found:
                name = prefix + entry.name
                if is_litter((entry.name,)):
                    continue
                if _is(entry.is_dir):
                    identity = _identity(entry.path)
                    if identity not in above:
                        waiting.append((entry.path, f"{name}/", (*above, identity)))
                    continue
                is_file = _is(entry.is_file)
                kind = image_kind(
                    entry.name, lambda path=entry.path, is_file=is_file: _header(path) if is_file else b""
                )
                if not is_readable(kind):
                    left_out.append((name, kind))
                elif is_file:
                    images.append(name)
                else:
                    refused.append((name, "it is a broken link" if entry.is_symlink() else "it is not a regular file"))
        self.images, self.refused = tuple(sorted(images)), tuple(sorted(refused))
        self.left_out, self.empty_folders = tuple(sorted(left_out)), tuple(sorted(empty))
        self.own_folders = tuple(sorted(own))

    def open(self, name: str) -> BinaryIO:
        return open(self.path / name, "rb")

    def stamp(self, name: str) -> tuple[int, ...]:
        # The time of modification can be set, and is by programs that keep it: ``cp -p``, ``rsync -t``, photo editors.
        # The time of the file system's own entry cannot.
        try:
            status = (self.path / name).stat()
        except OSError as error:
            raise DataError(
                f"{self.path} changed while it was read: {name} is gone. Try again when nothing writes to it."
            ) from error
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class ListedFiles(DirectoryFiles):
    """The files that a list names, by their paths relative to ``path``, or by absolute ones."""

    def __init__(self, path: Path, names: tuple[str, ...]):
        self.path = path
        self.images = names


class ZipFiles(Files):
    """The files of a zip, which is never unpacked: a name in it never becomes a path on this machine."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"):
                raise DataError(f"{path} is an image: name its folder") from error
            raise DataError(f"{path} cannot be read as a zip: {error}. Copy or download it again.") from error
        self._entries: dict[str, zipfile.ZipInfo] = {}
        refused: list[tuple[str, str]] = []
        left_out: list[tuple[str, str | None]] = []
        # Some programs of Windows separate folders by a backslash.
        entries = [(_name_of(entry).replace("\\", "/"), entry) for entry in self._zip.infolist()]
        entries = [(re.sub(r"^(\./+)+", "", name), entry) for name, entry in entries]
        self.own_folders = _own_folders(name for name, _ in entries)
        own = set(self.own_folders)
        folders = {name.rstrip("/") for name, _ in entries if name.endswith("/")}
        if folders:
            contents = (name.rstrip("/") for name, _ in entries if not is_litter(PurePosixPath(name).parts))
            filled = {PurePosixPath(name.rpartition("/")[0]) for name in contents}
            filled = {str(above) for folder in filled for above in (folder, *folder.parents)}
            self.empty_folders = tuple(
                sorted(name for name in folders - filled if not is_litter(PurePosixPath(name).parts))
            )
        for name, entry in entries:
            parts = PurePosixPath(name).parts
            if name.endswith("/") or not parts:
                continue
            if own and any("/".join(parts[:depth]) in own for depth in range(1, len(parts))):
                continue
            kind = image_kind(name, lambda entry=entry: self._header(entry))
            if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", parts[0]):
                if is_readable(kind):
                    refused.append((name, "its path points out of the archive"))
            elif is_litter(parts):
                continue
            elif not is_readable(kind):
                left_out.append((name, kind))
            elif name in self._entries:
                refused.append((name, "the archive holds this name twice; the first is taken"))
            elif entry.flag_bits & 1:
                refused.append((name, "it is encrypted"))
            else:
                self._entries[name] = entry
        self.images, self.refused = tuple(sorted(self._entries)), tuple(refused)
        self.left_out = tuple(sorted(left_out))

    def open(self, name: str) -> BinaryIO:
        return self._zip.open(self._entries[name])  # type: ignore[return-value]

    def stamp(self, name: str) -> tuple[int, ...]:
        entry = self._entries[name]
        return entry.file_size, entry.CRC

    def _header(self, entry: zipfile.ZipInfo) -> bytes:
        try:
            with self._zip.open(entry) as file:
                return file.read(HEADER)
        except Exception:  # encrypted, damaged, or packed in a way that is not known
            return b""


def _name_of(entry: zipfile.ZipInfo) -> str:
    """An entry's name. Some programs, the Finder of macOS among them, write UTF-8 without saying so."""
    if entry.flag_bits & UTF8_NAME:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")  # zipfile has taken it for code page 437
    except UnicodeError:
        return entry.filename


class JoinedFiles(Files):
    """The files of several data sets together. Each name begins with the name of its data set."""

    def __init__(self, members: dict[str, Files]):
        self.path = Path("mixed")
        self.images = tuple(f"{name}/{image}" for name, files in members.items() for image in files.images)
        self.refused = tuple(
            (f"{name}/{image}", reason) for name, files in members.items() for image, reason in files.refused
        )
        self._members = members

    def read(self, name: str, limit: int | None = None) -> bytes:
        files, name = self._locate(name)
        return files.read(name, limit)

    def open(self, name: str) -> BinaryIO:
        files, name = self._locate(name)
        return files.open(name)

    def stamp(self, name: str) -> tuple[int, ...]:
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
        if path.suffix.lower() != ".zip" and (other := describe_other(path)):
            raise DataError(other)
        files = ZipFiles(path)
    else:
        raise DataError(f"there is no {path}: --data.path takes a directory or a zip of images")
    if not files.images:
        if path.is_dir() and (other := describe_other(path)):
            raise DataError(other)
        lines = [f"  {name}: {reason}" for name, reason in files.refused[:MAX_LISTED]]
        if listed := files.list_left_out():
            lines.append(f"  left out: {listed}")
        raise DataError("\n".join([f"{path} holds no image that can be used, in it or below", *lines]))
    return files


def _is_own_folder(names: Iterable[str]) -> bool:
    """Whether a folder that holds these names is one that latentdiff wrote: one with a mark, or an image cache."""
    names = set(names)
    return MARKER in names or names.issuperset(IMAGE_CACHE)


def _own_folders(names: Iterable[str]) -> tuple[str, ...]:
    """The folders in a zip that latentdiff wrote, without those within them, by the names of the zip's files."""
    inside: dict[str, set[str]] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        if folder and last in (MARKER, *IMAGE_CACHE):
            inside.setdefault(folder, set()).add(last)
    own = sorted(folder for folder, found in inside.items() if _is_own_folder(found))
    return tuple(folder for folder in own if not any(folder.startswith(f"{above}/") for above in own))


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry of a folder is of a kind; a link that leads in a circle is of none."""
    try:
        return kind()
    except OSError:
        return False


def _identity(folder: Path | str) -> tuple[int, int]:
    """A key that identifies a folder, independent of the path by which it is reached."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _header(path: str) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(HEADER)
    except OSError:
        return b""
