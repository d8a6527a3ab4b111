"""The files in tars that are never unpacked: each is read where it lies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from latentdiff.data.files import Files
from latentdiff.data.image_formats import is_litter
from latentdiff.errors import DataError


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar.

    Attributes:
        name: Its name there.
        offset: Where its content begins, in bytes.
        size: Its length in bytes.
    """

    name: str
    offset: int
    size: int


class TarFiles(Files):
    """Files that lie in tars. A name in a tar never becomes a path on this machine.

    Args:
        path: What messages call the place.
        tars: The tars, with numbers that change with their content.
        members: Each file by its name: which tar it is in, where it begins, and its length.
        refused: Names of files that are not read, each with the reason.
    """

    def __init__(
        self,
        path: Path,
        tars: list[tuple[Path, tuple[int, ...]]],
        members: dict[str, tuple[int, int, int]],
        refused: list[tuple[str, str]],
    ):
        self.path, self.images, self.refused = path, tuple(members), tuple(refused)
        self._tars, self._members = tars, members

    def open(self, name: str) -> BinaryIO:
        tar, offset, size = self._members[name]
        return io.BufferedReader(_Section(self._tars[tar][0], offset, size))

    def stamp(self, name: str) -> tuple[int, ...]:
        tar, offset, size = self._members[name]
        return (size, offset, *self._tars[tar][1])


class _Section(io.RawIOBase):
    """A stretch of a file."""

    def __init__(self, path: Path, offset: int, size: int):
        self._file, self._offset, self._size, self._place = open(path, "rb", buffering=0), offset, size, 0  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence])
        return self._place

    def readinto(self, buffer) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        self._file.seek(self._offset + self._place)
        read = self._file.readinto(memoryview(buffer)[:count]) if count else 0
        self._place += read or 0
        return read or 0

    def close(self) -> None:
        self._file.close()
        super().close()


def list_members(path: Path) -> Iterator[Member | tuple[str, str]]:
    """Yield the ordinary files of a tar, in order; in place of one that is not read, its name with the reason.

    Folders, and files that systems leave behind, are passed over.

    Raises :class:`~latentdiff.errors.DataError` where it is no tar, is compressed, or ends too early.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for entry in archive:
                archive.members = []  # or it would keep all of them
                name = entry.name.removeprefix("./")
                parts = PurePosixPath(name).parts
                if entry.isdir() or is_litter(parts):
                    continue
                if name.startswith("/") or ".." in parts:
                    yield name, "its path points out of the archive"
                elif not entry.isreg() or entry.issparse():
                    yield name, "it is not a regular file"
                else:
                    yield Member(name, entry.offset_data, entry.size)
            if archive.offset > path.stat().st_size:
                raise DataError(f"{path} ends too early: copy or download it again")
    except (OSError, tarfile.TarError, ValueError) as error:
        packed = path.suffix.lower() not in (".tar", "")
        advice = (
            "Tars that are compressed are not read: unpack it to a .tar." if packed else "Copy or download it again."
        )
        raise DataError(f"{path} cannot be read as a tar: {' '.join(str(error).split())[:200]}. {advice}") from error
