"""What is measured: a row of contenders, ours first, with its target and the limit that the machine sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from latentdiff.benchmark.timing import Timing


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One contender's number.

    Attributes:
        value: In the row's unit.
        low, high: Its quartiles over the repetitions.
        repetitions: How many there were.
        parameters: Of the network, where there is one.
        flops: Operations behind one image, where they were counted.
    """

    value: float
    low: float
    high: float
    repetitions: int
    parameters: int | None = None
    flops: float | None = None

    @classmethod
    def single(cls, value: float, **more: Any) -> Figure:
        """What was measured once."""
        return cls(value=value, low=value, high=value, repetitions=1, **more)

    @classmethod
    def seconds(cls, timing: Timing, **more: Any) -> Figure:
        low, high = timing.quartiles
        return cls(value=timing.median, low=low, high=high, repetitions=len(timing.seconds), **more)

    @classmethod
    def rate(cls, timing: Timing, count: float, **more: Any) -> Figure:
        """Things a second, where a turn does ``count`` of them."""
        low, high = timing.quartiles
        repetitions = len(timing.seconds)
        return cls(value=count / timing.median, low=count / high, high=count / low, repetitions=repetitions, **more)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a row is to reach: ours at least so many times better than another, or a value of at most so much.

    Attributes:
        at_least: The ratio.
        against: Whom it is asked against; none asks it against everybody.
        at_most: The value of our own figure, in the row's unit.
    """

    at_least: float | None = None
    against: tuple[str, ...] = ()
    at_most: float | None = None

    def asks(self, name: str) -> bool:
        """Whether a ratio is asked for against ``name``."""
        return self.at_least is not None and (not self.against or name in self.against)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement of several contenders.

    Attributes:
        part: Which part of the benchmark.
        what: What was measured, on what.
        unit: Of the figures.
        figures: The contenders', ours first.
        more_is_better: Of a rate; less is of seconds and bytes.
        floor: The best value that the machine's limits allow us, in the row's unit.
        target: What is to be reached.
        note: A remark.
    """

    part: str
    what: str
    unit: str
    figures: dict[str, Figure]
    more_is_better: bool = True
    floor: float | None = None
    target: Target = Target()
    note: str = ""

    @property
    def ours(self) -> Figure:
        return next(iter(self.figures.values()))

    @property
    def share_of_limit(self) -> float | None:
        """1 where nothing could be faster."""
        if self.floor is None:
            return None
        return self.ours.value / self.floor if self.more_is_better else self.floor / self.ours.value

    def ratios(self) -> dict[str, float]:
        """How many times better ours is than each of the others."""
        _, *others = self.figures
        if self.more_is_better:
            return {name: self.ours.value / self.figures[name].value for name in others}
        return {name: self.figures[name].value / self.ours.value for name in others}

    def verdicts(self) -> dict[str, bool]:
        """Whether each thing that is asked was met: by contender for a ratio, "" for our own value."""
        found = {name: ratio >= self.target.at_least for name, ratio in self.ratios().items() if self.target.asks(name)}
        if self.target.at_most is not None:
            found[""] = self.ours.value <= self.target.at_most
        return found


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How a quantity grows with the image's side.

    Attributes:
        part: Which part of the benchmark.
        what: The quantity.
        unit: Of its values.
        sides: Pixels.
        values: For each contender one value a side.
        exponents: For each contender b of value = a side^b.
    """

    part: str
    what: str
    unit: str
    sides: tuple[int, ...]
    values: dict[str, tuple[float, ...]]
    exponents: dict[str, float]
