from __future__ import annotations

import pytest

from latentdiff.benchmark.results import Contender, Growth, Measurement, Target, Value, rates
from latentdiff.benchmark.results_table import count_targets, part_table, results_table, summary
from latentdiff.benchmark.timing import Timing
from latentdiff.report.benchmark_figure import benchmark_figure


def measurement(*values, names=("ours", "them", "others"), limits=(None, None, None), **more):
    values = {name: Value.single(value, limit=limit) for name, value, limit in zip(names, values, limits, strict=False)}
    return Measurement(**{"part": "part", "name": "what", "unit": "images/s", "values": values, **more})


def test_ratios_say_how_many_times_better_the_first_is():
    assert measurement(30.0, 20.0, 60.0).ratios() == {"them": 1.5, "others": 0.5}
    assert measurement(2.0, 3.0, more_is_better=False).ratios() == {"them": 1.5}


def test_targets_are_met_or_missed():
    assert measurement(30.0, 20.0, 25.0, target=Target(min_ratio=1.5)).verdicts() == {"them": True, "others": False}
    assert measurement(30.0, 20.0).verdicts() == {}
    assert measurement(0.3, more_is_better=False, target=Target(max_value=0.3)).verdicts() == {"": True}
    assert measurement(0.31, more_is_better=False, target=Target(max_value=0.3)).verdicts() == {"": False}


def test_share_of_the_limit_is_at_most_one_where_the_limit_holds():
    assert measurement(30.0, 20.0, limits=(60.0, 40.0)).shares_of_limit() == {"ours": 0.5, "them": 0.5}
    assert measurement(2.0, limits=(1.0,), more_is_better=False).shares_of_limit() == {"ours": 0.5}
    assert measurement(30.0).shares_of_limit() == {}


def test_rates_turn_the_quartiles_round():
    timing = Timing((1.0, 2.0, 3.0, 4.0, 5.0))
    value = rates([Contender(name="ours", call=float, parameters=3)], {"ours": timing}, 12)["ours"]
    assert (value.low, value.value, value.high, value.repetitions, value.parameters) == (3.0, 4.0, 6.0, 5, 3)


def test_seconds_are_those_of_one_call():
    value = Value.seconds(Timing((2.0, 4.0, 6.0)), calls=2)
    assert (value.low, value.value, value.high) == (1.5, 2.0, 2.5)


@pytest.fixture
def record():
    measurements = [
        measurement(1234.5, 1000.0, 500.0, target=Target(min_ratio=1.5), limits=(2469.0, 4000.0, None), note="a note"),
        measurement(5.5, part="other", unit="%", more_is_better=False, target=Target(max_value=5.0)),
    ]
    growth = Growth(part="part", name="training", unit="s", sides=(32, 64), values={}, exponents={"latents": 2.0})
    return {
        "measurements": [each.record() for each in measurements],
        "growth": [growth.record()],
        "limits": {"flops": {"fp32": 2e11}, "kernels": {}, "bandwidth": 1e10},
        "batch_divisor": 1,
        "left_out": {"somebody": "not here"},
    }


def test_record_holds_what_follows(record):
    first, second = record["measurements"]
    assert first["ratios"] == {"them": 1.2345, "others": 2.469}
    assert first["verdicts"] == {"them": False, "others": True}
    assert first["values"]["ours"]["value"] == 1234.5
    assert (first["shares_of_limit"], second["shares_of_limit"]) == ({"ours": 0.5, "them": 0.25}, {})
    assert count_targets(record["measurements"]) == (1, 3)


def test_table_shows_ratio_target_and_limit(record):
    lines = results_table(record).splitlines()
    assert "| what | 1,234 images/s | them | 1,000 | 1.23 | >= 1.5: missed | 50% | 25% |" in lines
    assert "|  |  | others | 500 | 2.47 | >= 1.5: met |  |  |" in lines
    assert "| what | 5.5 % |  |  |  | <= 5 %: missed |  |  |" in lines
    assert "training, s, grows as side^2.00 (latents), fitted to 32, 64 px" in lines
    assert "a note" in lines
    assert part_table(record, "other").count("\n") == 4
    assert summary(record).splitlines() == [
        "Limits of the machine: 200 GFLOP/s in fp32, 10.0 GB/s.",
        "1 of 3 targets were met.",
        "somebody is left out: not here",
    ]


def test_summary_says_that_batches_are_smaller(record):
    assert "divided by 4" in summary({**record, "batch_divisor": 4})


def test_figure_is_drawn_in_both_formats(record):
    assert benchmark_figure(record).startswith(b"\x89PNG")
    assert b"<svg" in benchmark_figure(record, format="svg")
