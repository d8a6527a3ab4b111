"""Printing to a reader who may leave, as in ``latentdiff verify | head``. Imports no torch."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class _Outlet:
    """A text stream that goes quiet, rather than raise OSError, once it cannot be written to: its reader or terminal is
    gone, or its disk is full."""

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
        except OSError:
            # From now on it leads nowhere, also for libraries that write to the descriptor.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
            with suppress(OSError, ValueError):
                self.stream.flush()


@contextmanager
def outlive_readers() -> Iterator[None]:
    """Let the block go on to its end where its output cannot be written: what is said is worth less than the work."""
    before = sys.stdout, sys.stderr
    for descriptor in range(3):
        # A file that the work opens would get the number of one that is closed (``>&-``), and its output.
        with suppress(OSError):
            os.fstat(descriptor)
            continue
        os.open(os.devnull, os.O_RDWR)
    streams = [stream or open(os.devnull, "w") for stream in before]  # noqa: SIM115
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):  # a class's name that it cannot show
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = outlets = [_Outlet(stream) for stream in streams]
    try:
        yield
    finally:
        for outlet in outlets:
            outlet.flush()
        # What the interpreter flushes as it ends leads nowhere by then, if the reader has gone.
        sys.stdout, sys.stderr = before
