from __future__ import annotations

import pytest
import torch

from latentdiff.benchmark.timing import Timing, extrapolate, time_interleaved, timed_call


def test_calls_take_turns_and_another_one_begins_each_round():
    order = []

    def call(name, seconds):
        return lambda: (order.append(name), next(seconds))[1]

    calls = {"a": call("a", iter([9.0, 1.0, 5.0, 2.0])), "b": call("b", iter([9.0, 3.0, 3.0, 4.0]))}
    found = time_interleaved(calls, seconds=0.0, min_rounds=3, warm_up_rounds=1)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert (found["a"].median, found["b"].median) == (2.0, 3.0)
    assert found["a"].seconds == (1.0, 5.0, 2.0), "the warm-up does not count"


def test_rounds_go_on_until_the_time_is_up_but_not_below_the_least():
    now = [0.0]

    def call():
        now[0] += 2.0
        return 2.0

    for seconds, rounds in ((10.0, 5), (0.0, 2)):
        found = time_interleaved({"a": call}, seconds, min_rounds=2, warm_up_rounds=1, clock=lambda: now[0])
        assert len(found["a"].seconds) == rounds


def test_slow_rounds_end_before_the_least_but_never_before_the_first():
    now = [0.0]

    def call():
        now[0] += 12.0
        return 12.0

    for max_seconds, rounds in ((20.0, 2), (5.0, 1), (100.0, 3)):
        found = time_interleaved(
            {"a": call}, 1.0, min_rounds=3, max_seconds=max_seconds, warm_up_rounds=0, clock=lambda: now[0]
        )
        assert len(found["a"].seconds) == rounds


def test_quartiles():
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0)).quartiles == (2.0, 4.0)
    assert Timing((3.0,)).quartiles == (3.0, 3.0)


def test_a_timed_call_calls_so_many_times_and_returns_seconds():
    calls = []
    assert timed_call(lambda: calls.append(1), torch.device("cpu"), calls=3)() >= 0.0
    assert len(calls) == 3


def test_steps_are_extrapolated_on_a_line():
    assert extrapolate(0.5 + 2 * 0.1, 0.5 + 6 * 0.1, (2, 6), 20) == pytest.approx(0.5 + 20 * 0.1)
    with pytest.raises(ValueError, match="too noisy"):
        extrapolate(1.0, 0.9, (2, 6), 20)
