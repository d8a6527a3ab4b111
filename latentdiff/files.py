"""Files that are whole or untouched, and what identifies them. Imports no torch.

A file is written in a temporary folder beside its target, forced to the disk, and renamed. The writer holds a lock on
the temporary folder. So a temporary folder that nobody holds is left over from a process that was killed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latentdiff.digest import file_digest
from latentdiff.errors import ConfigError
from latentdiff.os_errors import hidden_os_error

try:
    import fcntl
except ImportError:  # Windows has no such locks: there leftovers stay.
    fcntl = None

TEMPORARY = ".latentdiff-tmp-"
IS_TEMPORARY = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{16}")
# Folders whose leftovers this process has looked for.
_cleaned: set[str] = set()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, force it to the disk, and rename it: ``path`` is whole or untouched.

    That takes some milliseconds.

    Args:
        path: Where to. Its folder is made where it is missing.
        write: Makes the file that it is given, which has the name of ``path`` in a temporary folder beside it.

    Raises OSError that names ``path``.
    """
    path = Path(path)
    try:
        with temporary_folder(path) as folder:
            written = folder / path.name
            try:
                write(written)
            except Exception as error:
                # Here, where the disk is still as full as it was.
                if not isinstance(error, OSError) and (hidden := hidden_os_error(error, written)):
                    raise hidden from error
                raise
            # Some libraries write files that nobody else may read. These get the permissions of any new file.
            os.chmod(written, folder.stat().st_mode & 0o666)
            _sync(written)
            os.replace(written, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        # The temporary name would tell a user nothing.
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_cache_folder(folder: Path | str | None, setting: str) -> None:
    """Raise :class:`~latentdiff.errors.ConfigError` where a file stands in the place of a cache's folder.

    Args:
        folder: The folder, which need not be there; None for no cache.
        setting: What names it, for the message.
    """
    if folder is None:
        return
    path = Path(folder).expanduser()
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise ConfigError(f"{setting} {folder}: {place} is a file, not a folder. Name another folder")
            return


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """A new folder in the folder of ``beside``, removed at the end of the block unless it was renamed.

    Where a kill leaves it, the next process that writes there removes it.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    if str(beside.parent) not in _cleaned:
        remove_leftovers(beside.parent)
        _cleaned.add(str(beside.parent))
    handle, name = _new_temporary_folder(beside.parent)
    try:
        yield name
    finally:
        try:
            os.rmdir(name)  # empty, where all went well
        except OSError:
            shutil.rmtree(name, ignore_errors=True)
        os.close(handle)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder for this user alone among the system's temporary files, removed at the end of the block.

    Where a kill leaves it, the next process that makes one removes it.
    """
    with temporary_folder(Path(tempfile.gettempdir()) / TEMPORARY) as folder:
        os.chmod(folder, 0o700)
        yield folder


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders in ``folder`` that killed processes left. Nothing else goes."""
    if fcntl is None:
        return
    with suppress(OSError):
        names = [name for name in os.listdir(folder) if IS_TEMPORARY.fullmatch(name)]
        for name in names:
            with suppress(OSError):
                _remove_if_nobody_holds(folder / name)


def is_temporary(name: str) -> bool:
    """Whether a name is one that this module makes up."""
    return IS_TEMPORARY.fullmatch(name) is not None


def sync_folder(folder: Path) -> None:
    """Force a folder's list of names to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's content, in hex, by which a model is known. A digest in its header is no content."""
    return file_digest(path)


def _new_temporary_folder(parent: Path) -> tuple[int, Path]:
    """An empty folder that this process holds until it closes the handle, and the folder's path."""
    while True:
        name = parent / f"{TEMPORARY}{os.urandom(8).hex()}"
        os.mkdir(name)
        # Another process may take it for a leftover before it is held.
        with suppress(FileNotFoundError):
            handle = os.open(name, os.O_RDONLY)
            _lock(handle)  # which waits while another process looks whether it is a leftover
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(name)):
                    return handle, name
            os.close(handle)


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks: its leftovers stay
            fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_if_nobody_holds(path: Path) -> None:
    """Raises OSError where somebody holds it, or where that cannot be known."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Force a file's content to the disk. A disk that is full may say so only here."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
