"""What a data set has to say on the screen."""

from __future__ import annotations

from functools import cache


@cache
def tell(text: str) -> None:
    """Print what there is to know of a data set: once, though it is loaded anew for each of its splits."""
    print(text, flush=True)


def printable(name: str) -> str:
    """A name as it can be shown and stored: bytes of one that is not UTF-8 are written out, such as ``\\udce9``."""
    return name.encode("utf-8", "backslashreplace").decode()
