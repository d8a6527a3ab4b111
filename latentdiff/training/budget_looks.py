"""Measure a model at even shares of its training budget, in images or seconds."""

from __future__ import annotations

from collections.abc import Callable

import lightning

from latentdiff.training.base_module import StageModule


class BudgetLooks(lightning.Callback):
    """Calls a function at 1 / ``looks`` of the budget, at 2 / ``looks``, and so on, but not at its end.

    Runs with the same budget are thus compared at the same points, even if one sees more images per second. The
    budget's clock stops meanwhile.

    Args:
        looks: Parts of the budget.
        look: Called with the number of parts that are spent, from 1. What it raises ends the training.

    Attributes:
        module: The training step, once the training has begun.
    """

    def __init__(self, looks: int, look: Callable[[int], None]):
        self.looks, self.look = looks, look
        self.module: StageModule | None = None
        self._done = 0

    def on_train_start(self, trainer: lightning.Trainer, module: StageModule) -> None:
        self.module = module

    def on_train_batch_end(self, trainer: lightning.Trainer, module: StageModule, *_) -> None:
        spent = int(module.progress() * self.looks)
        if self._done < spent < self.looks:
            self._done = spent
            with module.clock_stopped():
                self.look(spent)
