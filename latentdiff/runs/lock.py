"""One training run a folder at a time: two that write into it would spoil each other."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nothing is ever found to be taken.
    fcntl = None

Function = TypeVar("Function", bound=Callable[..., Any])
_held: list[int] = []


def taken(folder: Path) -> bool:
    """Whether a run, of whichever process, is writing into ``folder``."""
    try:
        opened = _lock(folder)
    except BlockingIOError:
        return True
    if opened is not None:
        os.close(opened)
    return False


def take(folder: Path) -> None:
    """Hold ``folder`` until :func:`released_after` lets go or this process ends, however it ends.

    Raises BlockingIOError where a run holds it already.
    """
    if (opened := _lock(folder)) is not None:
        _held.append(opened)


def released_after(function: Function) -> Function:
    """``function``, letting go of the folders that were taken in it when it ends."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before = len(_held)
        try:
            return function(*args, **kwargs)
        finally:
            while len(_held) > before:
                os.close(_held.pop())

    return wrapped  # type: ignore[return-value]


def _lock(folder: Path) -> int | None:
    """An open file that holds ``folder`` until it is closed; None where the file system knows no locks."""
    if fcntl is None:
        return None
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(opened)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return opened
