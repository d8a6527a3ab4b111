"""Medians of interleaved repetitions, and what is fitted to them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from latentdiff.errors import ConfigError

# One turn of a contender; gives the seconds that its work took.
Turn = Callable[[], float]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds of a contender's turns, in the order they were taken."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper; of fewer than two turns, the one twice."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable[[], object], device: torch.device, calls: int = 1) -> Turn:
    """A turn that calls ``function`` so many times."""

    def turn() -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronise(device)
        return time.perf_counter() - start

    return turn


def interleaved(
    turns: Mapping[Name, Turn],
    seconds: float,
    least: int = 3,
    most_seconds: float = math.inf,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Timing]:
    """Let the contenders take turns, round after round, so that what slows the machine slows all of them.

    Each round begins with another contender than the last one did: nobody always runs in the same one's warm caches.

    Args:
        turns: The contenders by name.
        seconds: No new round begins after so many.
        least: Rounds at least.
        most_seconds: But none of those begins, other than the first, after so many.
        warm_up: Rounds before those that count.
        clock: Tells the seconds of the whole.
    """
    names = list(turns)
    for _ in range(warm_up):
        for turn in turns.values():
            turn()
    found: dict[Name, list[float]] = {name: [] for name in names}
    start, rounds = clock(), 0

    def another() -> bool:
        passed = clock() - start
        return not rounds or passed < (most_seconds if rounds < least else seconds)

    while another():
        shift = rounds % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(turns[name]())
        rounds += 1
    return {name: Timing(tuple(times)) for name, times in found.items()}


def extrapolated(few: float, many: float, steps: tuple[int, int], wanted: int) -> float:
    """Seconds of ``wanted`` steps on the line through those of ``steps`` = (fewer, more): a start, and so much a step.

    Raises ValueError where more steps took no longer, which noise alone can do.
    """
    slope = (many - few) / (steps[1] - steps[0])
    if slope <= 0:
        raise ConfigError(f"{steps[1]} steps took {many:.3g} s, {steps[0]} took {few:.3g} s: the machine is too noisy")
    return few + slope * (wanted - steps[0])


def exponent(sides: list[float], values: list[float]) -> float:
    """b of the power law value = a side^b, by least squares on the logarithms. Raises ValueError for one side alone."""
    if len(set(sides)) < 2:
        raise ConfigError("a power law needs two sides at least")
    x, y = ([math.log(value) for value in series] for series in (sides, values))
    return statistics.linear_regression(x, y).slope
