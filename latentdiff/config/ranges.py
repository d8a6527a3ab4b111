"""The allowed values of a setting, declared with its type: a range for a number, a kind for a text.

``lr: Annotated[float, Range(0, 10, above=True)]`` is a number above 0 and at most 10. The types that several settings
share have names here. :mod:`latentdiff.config.checks` applies what is declared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """The range of a number. NaN is never in it.

    Args:
        low: Smallest value.
        high: Largest value. ``math.inf`` admits infinity itself.
        above: Whether ``low`` itself is left out.
        below: Whether ``high`` itself is left out.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """The range in words: ``from 1 to 1,024`` or ``above 0, up to 10``."""
        low, high = _number(self.low), "infinity" if math.isinf(self.high) else _number(self.high)
        if self.below:
            return f"{'above' if self.above else 'at least'} {low} and below {high}"
        return f"above {low}, up to {high}" if self.above else f"from {low} to {high}"


def _number(value: float) -> str:
    """A bound in words: with thousands separators, and large or small ones as powers of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e9:
        return f"{value:,}".removesuffix(".0")
    if isinstance(value, int) and value & (value + 1) == 0:
        return f"2^{value.bit_length()} - 1"
    mantissa, exponent = f"{value:e}".split("e")
    factor = mantissa.rstrip("0").rstrip(".")
    return ("" if factor == "1" else f"{factor} x ") + f"10^{int(exponent)}"


@dataclass(frozen=True)
class Length:
    """How many entries a list has.

    Args:
        low: Smallest number.
        high: Largest number.
    """

    low: int
    high: int

    def __str__(self) -> str:
        """The length in words."""
        return f"{self.low} to {self.high} entries" if self.low else f"at most {self.high} entries"


@dataclass(frozen=True)
class PathText:
    """Marks a text as the path of a file or folder: ``~`` and ``$VAR`` are expanded in it."""

    def __str__(self) -> str:
        """What a page of settings says."""
        return "a path"


@dataclass(frozen=True)
class NameText:
    """Marks a text as the name of a folder or a file: without a separator, and not ``..``."""

    def __str__(self) -> str:
        """What a page of settings says."""
        return "a name"


@dataclass(frozen=True)
class HubText:
    """Marks a text as a data set of the Hugging Face Hub: ``hf:ID``, ``hf:ID/CONFIG``, either with ``@REVISION``."""

    def __str__(self) -> str:
        """What a page of settings says."""
        return "hf:ID"


@dataclass(frozen=True)
class NoneMeans:
    """Marks a text for which None, ``null`` in YAML, stands for a word.

    Args:
        word: The word.
    """

    word: str

    def __str__(self) -> str:
        """What a page of settings says."""
        return f"null is {self.word}"


PathSetting = Annotated[str, PathText()]
Name = Annotated[str, NameText()]
# 32 bits, which NumPy's generators take, and of which torch's CPU generator keeps no more.
Seed = Annotated[int, Range(0, 2**32 - 1)]
# A budget, or a length of time, counted in images.
Images = Annotated[int, Range(1, 10**12)]
ImagesOrNone = Annotated[int, Range(0, 10**12)]
# Images that are held at once.
HeldImages = Annotated[int, Range(1, 10**7)]
HeldImagesOrNone = Annotated[int, Range(0, 10**7)]
BatchSize = Annotated[int, Range(1, 10**6)]
Seconds = Annotated[float, Range(0, 10**9, above=True)]
Threads = Annotated[int, Range(1, 4096)]
Devices = Annotated[int, Range(1, 4096)]
Width = Annotated[int, Range(1, 65_536)]
Blocks = Annotated[int, Range(1, 256)]
BlocksOrNone = Annotated[int, Range(0, 256)]
Fraction = Annotated[float, Range(0, 1)]
# Of an average with a power-function profile, as a share of the run (training/post_hoc_ema.py).
EmaLength = Annotated[float, Range(0.01, 0.28)]
LearningRate = Annotated[float, Range(0, 100)]
Weight = Annotated[float, Range(0, 10**9)]
Steps = Annotated[int, Range(1, 100_000)]
GuidanceScale = Annotated[float, Range(-1000, 1000)]
Epochs = Annotated[int, Range(1, 10**9)]
# The widths of a network, a width a resolution.
Widths = Annotated[tuple[Width, ...], Length(1, 16)]
