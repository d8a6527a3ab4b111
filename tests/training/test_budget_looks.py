"""Looks at even shares of a budget, during which its clock stands still."""

from __future__ import annotations

import time
from types import SimpleNamespace

import torch

from latentdiff.config import TrainerConfig
from latentdiff.training.base_module import StageModule
from latentdiff.training.budget_looks import BudgetLooks


def test_each_share_is_looked_at_once_and_the_end_is_not():
    seen = []
    looks = BudgetLooks(4, seen.append)
    module = StageModule(TrainerConfig(max_images=100))
    module._clock = time.perf_counter()
    looks.on_train_start(None, module)
    for images in (10, 20, 30, 40, 90, 95, 100):
        module.images_seen = images
        looks.on_train_batch_end(None, module, None, None, 0)
    assert seen == [1, 3]  # 50 % and 75 % were passed in one step


def test_the_clock_stands_still_while_it_is_stopped(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    module = SimpleNamespace(device=torch.device("cpu"), _clock=time.perf_counter(), _seconds_before=2.0)
    seconds = StageModule.seconds.fget
    before = seconds(module)
    with StageModule.clock_stopped(module):
        now[0] += 100.0
    assert seconds(module) == before
    now[0] += 3.0
    assert seconds(module) == before + 3.0
