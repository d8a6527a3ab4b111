"""Messages about a data set on the screen."""

from __future__ import annotations

from contextlib import suppress
from functools import cache


@cache
def print_once(text: str) -> None:
    """Print a message the first time only: a data set is read anew for each of its splits."""
    print(text, flush=True)


def printable(name: str) -> str:
    """Make a file name fit to be shown and stored: bytes that are not UTF-8 are written out, such as ``\\udce9``.

    Where the system's names are not UTF-8 (``LC_ALL=C``), a name that is UTF-8 all the same is read as such.
    """
    with suppress(UnicodeError):
        return name.encode("utf-8", "surrogateescape").decode()
    return name.encode("utf-8", "backslashreplace").decode()
