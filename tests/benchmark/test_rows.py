from __future__ import annotations

import pytest

from latentdiff.benchmark.record import growth_record, judged, part_table, row_record, summary, table
from latentdiff.benchmark.rows import Figure, Growth, Row, Target
from latentdiff.benchmark.timing import Timing
from latentdiff.report.benchmark_figure import benchmark_figure


def row(*values, names=("ours", "them", "others"), **more):
    figures = {name: Figure.single(value) for name, value in zip(names, values, strict=False)}
    return Row(**{"part": "part", "what": "what", "unit": "images/s", "figures": figures, **more})


def test_ratios_say_how_many_times_better_ours_is():
    assert row(30.0, 20.0, 60.0).ratios() == {"them": 1.5, "others": 0.5}
    assert row(2.0, 3.0, more_is_better=False).ratios() == {"them": 1.5}


def test_targets_are_met_or_missed():
    assert row(30.0, 20.0, 25.0, target=Target(at_least=1.5)).verdicts() == {"them": True, "others": False}
    assert row(30.0, 20.0, 25.0, target=Target(at_least=1.5, against=("others",))).verdicts() == {"others": False}
    assert row(30.0, 20.0).verdicts() == {}
    assert row(0.3, more_is_better=False, target=Target(at_most=0.3)).verdicts() == {"": True}
    assert row(0.31, more_is_better=False, target=Target(at_most=0.3)).verdicts() == {"": False}


def test_share_of_the_limit_is_at_most_one_where_the_limit_holds():
    assert row(30.0, floor=60.0).share_of_limit == 0.5
    assert row(2.0, floor=1.0, more_is_better=False).share_of_limit == 0.5
    assert row(30.0).share_of_limit is None


def test_rates_turn_the_quartiles_round():
    figure = Figure.rate(Timing((1.0, 2.0, 3.0, 4.0, 5.0)), 12)
    assert (figure.low, figure.value, figure.high, figure.repetitions) == (3.0, 4.0, 6.0, 5)


@pytest.fixture
def record():
    rows = [
        row(1234.5, 1000.0, 500.0, target=Target(at_least=1.5), floor=2469.0, note="a note"),
        row(5.5, part="other", unit="%", more_is_better=False, target=Target(at_most=5.0)),
    ]
    growth = Growth(part="part", what="training", unit="s", sides=(32, 64), values={}, exponents={"latents": 2.0})
    return {
        "rows": [row_record(each) for each in rows],
        "growth": [growth_record(growth)],
        "limits": {"flops": {"fp32": 2e11}, "kernels": {}, "bandwidth": 1e10},
        "divisor": 1,
        "left_out": {"somebody": "not here"},
    }


def test_record_holds_what_follows(record):
    first, second = record["rows"]
    assert first["ratios"] == {"them": 1.2345, "others": 2.469}
    assert first["verdicts"] == {"them": False, "others": True}
    assert first["figures"]["ours"]["value"] == 1234.5
    assert (first["share_of_limit"], second["share_of_limit"]) == (0.5, None)
    assert judged(record["rows"]) == (1, 3)


def test_table_shows_ratio_target_and_limit(record):
    lines = table(record).splitlines()
    assert "| what | 1,234 images/s | them | 1,000 | 1.23 | >= 1.5: missed | 50% |" in lines
    assert "|  |  | others | 500 | 2.47 | >= 1.5: met |  |" in lines
    assert "| what | 5.5 % |  |  |  | <= 5 %: missed |  |" in lines
    assert "training, s, grows as side^2.00 (latents), fitted to 32, 64 px" in lines
    assert "a note" in lines
    assert part_table(record, "other").count("\n") == 4
    assert summary(record).splitlines() == [
        "1 of 3 targets met. Limits: 200 GFLOP/s in fp32, 10.0 GB/s.",
        "somebody is left out: not here",
    ]


def test_summary_says_that_batches_are_smaller(record):
    assert "divided by 4" in summary({**record, "divisor": 4})


def test_figure_is_drawn_in_both_formats(record):
    assert benchmark_figure(record).startswith(b"\x89PNG")
    assert b"<svg" in benchmark_figure(record, format="svg")
