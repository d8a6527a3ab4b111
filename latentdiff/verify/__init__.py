"""Proofs of the diffusion core: against another implementation, against closed forms, and of what must not change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was measured.

    Attributes:
        section: Which proof it belongs to.
        name: What was measured, on what.
        value: The number; None where the case cannot be compared, which ``note`` then explains.
        limit: What it may be at most, or for ``at_least`` at least.
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
        if self.value is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def largest(values: Iterable[float]) -> float:
    """The largest value, or NaN if there is one: Python's ``max`` may pass over it."""
    values = list(values)
    return math.nan if any(math.isnan(value) for value in values) else max(values)
