"""The result of one measurement of a proof."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """A measured value and its limit.

    Attributes:
        section: The proof that the measurement belongs to.
        name: What was measured.
        value: The value; None if the case cannot be compared, and ``note`` then says why.
        limit: The largest value that passes, or for ``at_least`` the smallest.
        at_least: Whether larger is better.
        note: A remark.
    """

    section: str
    name: str
    value: float | None
    limit: float
    at_least: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is within its limit. A case that cannot be compared passes; NaN does not."""
        if self.value is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def max_or_nan(values: Iterable[float]) -> float:
    """Return the largest value, or NaN if any value is NaN. Python's ``max`` can pass over NaN."""
    values = list(values)
    return math.nan if any(math.isnan(value) for value in values) else max(values)
