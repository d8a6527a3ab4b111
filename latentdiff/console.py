"""Printing to a reader who may leave, as in ``latentdiff verify | head``. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class _Outlet:
    """A text stream that goes quiet, rather than raise BrokenPipeError, once its reader is gone."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write ``text``; of no effect once nobody reads."""
        with self._or_quiet():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written; of no effect once nobody reads."""
        with self._or_quiet():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _or_quiet(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # From now on it leads nowhere, also for libraries that write to the descriptor.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
            with suppress(OSError, ValueError):
                self.stream.flush()


@contextmanager
def outlive_readers() -> Iterator[None]:
    """Let the block go on to its end where the reader of its output closes the pipe."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = outlets = _Outlet(before[0]), _Outlet(before[1])
    try:
        yield
    finally:
        for outlet in outlets:
            outlet.flush()
        # What the interpreter flushes as it ends leads nowhere by then, if the reader has gone.
        sys.stdout, sys.stderr = before
