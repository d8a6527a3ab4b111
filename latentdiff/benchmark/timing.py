"""Time several implementations in turn, and extrapolate from few sampling steps to many."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from latentdiff.errors import ConfigError

# Does some work and returns the seconds that the work took.
TimedCall = Callable[[], float]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds of the repetitions of one call, in the order of measurement."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile of the seconds; both are the one value if there is only one."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has finished its queued work. On a CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed_call(function: Callable[[], object], device: torch.device, calls: int = 1) -> TimedCall:
    """Make a timed call out of ``function``.

    Args:
        function: The work.
        device: Where the work runs. Its queue is empty before and after the measurement.
        calls: How often one timed call runs ``function``.
    """

    def call() -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronise(device)
        return time.perf_counter() - start

    return call


def time_interleaved(
    calls: Mapping[Name, TimedCall],
    seconds: float,
    min_rounds: int = 3,
    max_seconds: float = math.inf,
    warm_up_rounds: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Timing]:
    """Time several calls round after round, so that whatever slows the machine slows all of them.

    The order rotates by one from round to round. No call always runs in the caches that the same other call left.

    Args:
        calls: The calls by name.
        seconds: No round begins after this time, unless ``min_rounds`` asks for it.
        min_rounds: Rounds that are measured at least.
        max_seconds: No round begins after this time, even if ``min_rounds`` asks for it. The first round always runs.
        warm_up_rounds: Rounds before the measured ones.
        clock: Returns the present time in seconds.

    Returns:
        A timing for each name.
    """
    names = list(calls)
    for _ in range(warm_up_rounds):
        for call in calls.values():
            call()
    found: dict[Name, list[float]] = {name: [] for name in names}
    start, rounds = clock(), 0

    def has_time() -> bool:
        passed = clock() - start
        return not rounds or passed < (max_seconds if rounds < min_rounds else seconds)

    while has_time():
        shift = rounds % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(calls[name]())
        rounds += 1
    return {name: Timing(tuple(times)) for name, times in found.items()}


def extrapolate(few: float, many: float, steps: tuple[int, int], wanted: int) -> float:
    """Extrapolate the seconds of ``wanted`` steps along the line through two measurements.

    Args:
        few: Seconds of ``steps[0]`` steps.
        many: Seconds of ``steps[1]`` steps.
        steps: The two numbers of steps, the smaller one first.
        wanted: Number of steps to extrapolate to.

    Raises:
        ConfigError: if more steps took no longer than fewer, which noise alone can cause.
    """
    slope = (many - few) / (steps[1] - steps[0])
    if slope <= 0:
        raise ConfigError(f"{steps[1]} steps took {many:.3g} s, {steps[0]} took {few:.3g} s: the machine is too noisy")
    return few + slope * (wanted - steps[0])
