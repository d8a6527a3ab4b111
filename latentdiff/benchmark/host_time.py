"""How long the host works on a training step, and how long the step takes."""

from __future__ import annotations

import time

import lightning

from latentdiff.benchmark.timing import synchronise
from latentdiff.training.base_module import StageModule


class HostTimes(lightning.Callback):
    """Notes the seconds of every step: until its work was handed out, and until the device had done it.

    The device is idle when a step begins.
    """

    def __init__(self):
        self.host: list[float] = []
        self.whole: list[float] = []
        self._start = 0.0

    def on_train_batch_start(self, trainer: lightning.Trainer, module: StageModule, *_) -> None:
        synchronise(module.device)
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, module: StageModule, *_) -> None:
        self.host.append(time.perf_counter() - self._start)
        synchronise(module.device)
        self.whole.append(time.perf_counter() - self._start)
