"""What a benchmark measures: values of several implementations, with the machine's limit and a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from latentdiff.benchmark.timing import TimedCall, Timing
from latentdiff.config import to_dict

OURS = "latentdiff"  # Name of this package's own code in a measurement.


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An implementation that is to be measured.

    Attributes:
        name: Its name in the results.
        call: The work that is timed.
        once: Whether the work is so long that it is timed once, without a warm-up.
        parameters: Number of the network's parameters, if there is a network.
        flops: Floating-point operations for one image, if they were counted.
        limit: The best value that the machine allows, in the measurement's unit, if it is known.
    """

    name: str
    call: TimedCall
    once: bool = False
    parameters: int | None = None
    flops: float | None = None
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Value:
    """The measured value of one implementation.

    Attributes:
        value: The median, in the measurement's unit.
        low: The lower quartile.
        high: The upper quartile.
        repetitions: Number of repetitions.
        parameters: Number of the network's parameters, if there is a network.
        flops: Floating-point operations for one image, if they were counted.
        limit: The best value that the machine allows, in the measurement's unit, if it is known.
    """

    value: float
    low: float
    high: float
    repetitions: int
    parameters: int | None = None
    flops: float | None = None
    limit: float | None = None

    @classmethod
    def single(cls, value: float, **details: Any) -> Value:
        """Make a value out of one measurement."""
        return cls(value=value, low=value, high=value, repetitions=1, **details)

    @classmethod
    def seconds(cls, timing: Timing, calls: int = 1, **details: Any) -> Value:
        """Convert a timing to the seconds of each of ``calls`` calls."""
        low, high = timing.quartiles
        count = len(timing.seconds)
        return cls(value=timing.median / calls, low=low / calls, high=high / calls, repetitions=count, **details)

    @classmethod
    def rate(cls, timing: Timing, amount: float, **details: Any) -> Value:
        """Convert a timing to a rate a second, where one timed call does ``amount`` of the work."""
        low, high = timing.quartiles
        count = len(timing.seconds)
        return cls(value=amount / timing.median, low=amount / high, high=amount / low, repetitions=count, **details)


def rates(contenders: Iterable[Contender], timings: Mapping[str, Timing], amount: float) -> dict[str, Value]:
    """Convert the timings of ``contenders`` to rates a second, where one timed call does ``amount`` of the work."""
    return {
        each.name: Value.rate(
            timings[each.name], amount, parameters=each.parameters, flops=each.flops, limit=each.limit
        )
        for each in contenders
    }


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a measurement should reach.

    Attributes:
        min_ratio: How many times better than every other implementation the first one should be.
        max_value: The largest value that the first implementation should have, in the measurement's unit.
    """

    min_ratio: float | None = None
    max_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One quantity, measured for one or several implementations.

    Attributes:
        part: Part of the benchmark.
        name: What was measured, and on what.
        unit: Unit of the values.
        values: The values by name of the implementation. The first one is compared with all others.
        more_is_better: True for a rate; False for seconds and bytes.
        target: What the measurement should reach.
        note: A remark.
    """

    part: str
    name: str
    unit: str
    values: dict[str, Value]
    more_is_better: bool = True
    target: Target = Target()
    note: str = ""

    @property
    def first(self) -> Value:
        """Value of the first implementation."""
        return next(iter(self.values.values()))

    def shares_of_limit(self) -> dict[str, float]:
        """Share of the machine's limit that each implementation reaches, where the limit is known.

        A share of 1 means that the machine allows no better value.
        """
        shares = {name: value.value / value.limit for name, value in self.values.items() if value.limit is not None}
        return shares if self.more_is_better else {name: 1.0 / share for name, share in shares.items()}

    def ratios(self) -> dict[str, float]:
        """How many times better the first implementation is than each of the others."""
        _, *others = self.values
        ratios = {name: self.first.value / self.values[name].value for name in others}
        return ratios if self.more_is_better else {name: 1.0 / ratio for name, ratio in ratios.items()}

    def verdicts(self) -> dict[str, bool]:
        """Whether each target is met: by name of the other implementation for a ratio, "" for the first one's value."""
        verdicts = {}
        if self.target.min_ratio is not None:
            verdicts = {name: ratio >= self.target.min_ratio for name, ratio in self.ratios().items()}
        if self.target.max_value is not None:
            verdicts[""] = self.first.value <= self.target.max_value
        return verdicts

    def record(self) -> dict[str, Any]:
        """The measurement as plain values, with its ratios, verdicts and shares of the limit."""
        derived = {"ratios": self.ratios(), "verdicts": self.verdicts(), "shares_of_limit": self.shares_of_limit()}
        return {**to_dict(self), **derived}


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How a quantity grows with the side of the image.

    Attributes:
        part: Part of the benchmark.
        name: The quantity.
        unit: Unit of its values.
        sides: Sides of the images, in pixels.
        values: For each implementation one value a side.
        exponents: For each implementation the exponent b of value = a * side^b.
    """

    part: str
    name: str
    unit: str
    sides: tuple[int, ...]
    values: dict[str, tuple[float, ...]]
    exponents: dict[str, float]

    def record(self) -> dict[str, Any]:
        """The growth as plain values."""
        return to_dict(self)
