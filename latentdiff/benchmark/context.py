"""What every part of a benchmark needs: sizes, device, precision and the machine's limits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from latentdiff.benchmark.machine_limits import MachineLimits
from latentdiff.benchmark.results import Contender
from latentdiff.benchmark.sizes import BenchmarkSizes
from latentdiff.benchmark.timing import Name, TimedCall, Timing, time_interleaved
from latentdiff.config import TrainerConfig
from latentdiff.precision import disable_tf32


@dataclass(frozen=True, kw_only=True)
class BenchmarkContext:
    """What every part of a benchmark needs.

    Attributes:
        sizes: Networks, batches, and how long to measure.
        device: Where everything runs.
        dtype: Precision of training. Encoding and features are in fp32; sampling is in both.
        limits: The machine's measured limits.
        inception_weights: File of the FID Inception's weights; None looks for it.
        quick: Whether this is the quick benchmark.
        batch_divisor: What the usual batches were divided by, because the machine is slow.
        versions: Versions of other packages that were measured.
        left_out: Why something was not measured, by name.
        ends_at: Time of ``time.perf_counter`` from which on no measurement begins.
    """

    sizes: BenchmarkSizes
    device: torch.device
    dtype: torch.dtype
    limits: MachineLimits
    inception_weights: str | None = None
    quick: bool = False
    batch_divisor: int = 1
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    ends_at: float = math.inf

    @property
    def is_over(self) -> bool:
        """Whether the time for measurements is spent."""
        return time.perf_counter() >= self.ends_at

    def time(self, calls: Mapping[Name, TimedCall], min_rounds: int = 0, warm_up_rounds: int = 1) -> dict[Name, Timing]:
        """Time several calls in turn, as long as the sizes allow, with true fp32 products.

        Args:
            calls: The calls by name.
            min_rounds: Asks for more rounds than the sizes ask for.
            warm_up_rounds: Rounds before the measured ones; 0 if the calls are warm.
        """
        sizes = self.sizes
        rounds = max(min_rounds, sizes.min_rounds)
        with disable_tf32():
            return time_interleaved(calls, sizes.seconds, rounds, sizes.max_seconds, warm_up_rounds)

    def time_contenders(self, contenders: Iterable[Contender]) -> dict[str, Timing]:
        """Time several implementations in turn, see :meth:`time`; then, once each, those that take long."""
        contenders = list(contenders)
        in_turn = {contender.name: contender.call for contender in contenders if not contender.once}
        timings = self.time(in_turn) if in_turn else {}
        with disable_tf32():
            once = {contender.name: Timing((contender.call(),)) for contender in contenders if contender.once}
        return timings | once

    def trainer_config(self, batch_size: int, compile: Literal["on", "off"] = "off") -> TrainerConfig:
        """Make the settings of a trainer."""
        return TrainerConfig(
            batch_size=batch_size,
            lr_warmup_images=0,
            compile=compile,
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            precision="bf16" if self.dtype == torch.bfloat16 else "fp32",
        )

    def leave_out(self, name: str, reason: str) -> None:
        """Record, and print once, why ``name`` is not measured."""
        if name not in self.left_out:
            print(f"{name} is left out: {reason}", flush=True)
        self.left_out[name] = reason


def no_competitors(*_: object) -> tuple[Contender, ...]:
    """The competitors of a measurement of our own code: there are none."""
    return ()


def random_images(count: int, side: int, device: torch.device) -> Tensor:
    """Draw uint8 images [count, 3, side, side]. Speed does not depend on what images show."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator).to(device)
