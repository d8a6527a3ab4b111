"""One training run per folder at a time: two runs would overwrite each other's files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nothing is ever found to be taken.
    fcntl = None


def is_held(folder: Path) -> bool:
    """Whether a run of any process is writing into ``folder``."""
    try:
        descriptor = _lock(folder)
    except BlockingIOError:
        return True
    if descriptor is not None:
        os.close(descriptor)
    return False


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold ``folder`` while the block runs, or until this process ends, however it ends.

    Raises BlockingIOError where a run holds it already.
    """
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """An open file that locks ``folder`` until it is closed; None if the file system has no locks."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor
