from __future__ import annotations

from latentdiff.evaluation.evaluation_record import training_record


def test_the_history_for_curves_has_the_rows_with_a_point_of_one():
    rows = [{"images_seen": 1, "seconds": 1.0, "lr": 0.1}, {"images_seen": 2, "seconds": 2.0, "loss": 0.5}]
    assert training_record({"history": rows})["history"] == rows[1:]
