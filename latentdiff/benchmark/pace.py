"""How fast the machine trains, by which the batches are chosen: slow ones are to be done in their time too."""

from __future__ import annotations

import math

from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.scale import Setting
from latentdiff.benchmark.stage_two import our_turn
from latentdiff.errors import ConfigError

# Images/s in pixels of 64x64, there in batches of 8 and 16, of machines that need no smaller batches.
WHOLE = 25.0
LARGEST = 8
BATCH = 4


def measure_pace(bench: Bench, setting: Setting) -> float:
    """Images/s of training ``setting``'s pixel network in a small batch: the best of two steps, after a first one."""
    turn = our_turn(setting.side, None, setting.pixel, bench.trainer(BATCH), 1, bench.device)
    return BATCH / min(turn() for _ in range(2))


def divisor_for(pace: float) -> int:
    """What batches are divided by at ``pace`` images/s: 1, 2, 4 or 8.

    Raises ValueError for a pace that is none.
    """
    if not (math.isfinite(pace) and pace > 0):
        raise ConfigError(f"{pace} images a second is no pace")
    return min(2 ** max(round(math.log2(WHOLE / pace)), 0), LARGEST)
