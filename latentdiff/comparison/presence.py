"""Which of the processes that share a folder are still running, on this machine and on others.

Each process has a file in the folder ``workers``. It holds a lock on the file and touches it now and then. The lock is
released when the process ends, however it ends. If the file system has no locks, or does not share them between
machines, a process counts as dead when its file was not touched for minutes.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there the age of a file tells.
    fcntl = None

FOLDER = "workers"
# Seconds between two touches, and after how many without one a process of another machine is taken for dead. A network
# file system may show a file's time a minute late.
TOUCH_EVERY, DEAD_AFTER = 20.0, 180.0


class Presence:
    """This process, among the processes that share a folder.

    Attributes:
        name: What the others know it by.
    """

    def __init__(self, folder: Path, turn: Path):
        """Make ready to be shown.

        Args:
            folder: The shared folder.
            turn: The lock file of :func:`one_at_a_time`, which processes hold while they check whether others are
                running.
        """
        self.folder, self._turn = folder / FOLDER, turn
        self.name = f"{platform.node() or 'machine'}-{os.getpid()}-{os.urandom(4).hex()}".replace("/", "-")
        self._file = self.folder / self.name

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show this process to the others while the block runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(self._turn):  # Nobody is to find the file before the lock is on it.
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
            _try_lock(handle)
            os.write(handle, json.dumps({"machine": _machine()}).encode())
            for name in os.listdir(self.folder):
                self.lives(name)  # Those that are no more go.
        ended = threading.Event()
        touching = threading.Thread(target=self._touch, args=(ended,), daemon=True)
        try:
            touching.start()
            yield
        finally:
            ended.set()
            with suppress(OSError):
                self._file.unlink()
            os.close(handle)

    def lives(self, name: str) -> bool:
        """Whether the process of a name is running. The files of a dead one are removed."""
        path = self.folder / name
        if path == self._file:
            return True
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            locked = _try_lock(handle)
            if locked is False:
                return True
            if not (locked and _is_of_this_machine(handle)) and self._age(handle) < DEAD_AFTER:
                return True
            with suppress(OSError):
                path.unlink()
            return False
        finally:
            os.close(handle)

    def _touch(self, ended: threading.Event) -> None:
        while not ended.wait(TOUCH_EVERY):
            with suppress(OSError):
                os.utime(self._file)

    def _age(self, handle: int) -> float:
        """Seconds since a file was touched, by the file system's clock, since the clocks of machines may differ."""
        os.utime(self._file)
        return os.stat(self._file).st_mtime - os.fstat(handle).st_mtime


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; others wait. ``path`` is the lock file.

    If the file system has no locks, no process waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool | None:
    """Take the lock on a file; False where another process has it, None where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_of_this_machine(handle: int) -> bool:
    try:
        return json.loads(os.pread(handle, 1000, 0))["machine"] == _machine()
    except (OSError, ValueError, KeyError, TypeError):
        return True  # Killed before it could say so, a moment after it began.


def _machine() -> str:
    """What tells this machine, and this start of it, from others. Its containers share it, and its locks."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node()
