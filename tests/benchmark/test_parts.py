"""Each part once, of the smallest size: what it gives, not how fast."""

from __future__ import annotations

import json
import operator
from dataclasses import replace
from functools import partial

import pytest
import torch

from latentdiff.benchmark import (
    evaluation,
    growth,
    limits,
    memory,
    overhead,
    sampling,
    several,
    stage_one,
    stage_two,
    whole_process,
)
from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.peers import DDP, DIFFUSERS
from latentdiff.benchmark.rows import Growth, Row
from latentdiff.benchmark.run import measure
from latentdiff.benchmark.timing import Timing
from latentdiff.config.tool_stages import BenchmarkStage


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """Memory is made up: a process for each costs seconds. One test measures it."""
    monkeypatch.setattr(stage_one, "peak_memories", made_up)
    monkeypatch.setattr(growth, "peak_memories", made_up)


def made_up(cases):
    for case in cases:
        case.build(*case.arguments)()
    return [memory.Peak(2e6 * (1 + index), 1e6) for index in range(len(cases))]


def here(bench, *names):
    return {"latentdiff", *(name for name in names if bench.peers.get(name))}


def check(rows):
    for row in rows:
        assert all(figure.value > 0 and figure.low <= figure.value <= figure.high for figure in row.figures.values())
    return rows


def test_stage_one(bench):
    speed, peak = check(list(stage_one.training(bench)))
    assert set(speed.figures) == set(peak.figures) == here(bench, DIFFUSERS)
    assert 0 < speed.share_of_limit < 1
    assert speed.ours.parameters > 0


def test_encoding(bench):
    (row,) = check(list(stage_one.encoding(bench)))
    assert set(row.figures) == here(bench, DIFFUSERS)


def test_stage_two(bench):
    latents, pixels = check(list(stage_two.training(bench)))
    assert set(latents.figures) == set(pixels.figures) == here(bench, DIFFUSERS, DDP)
    for row in (latents, pixels):
        for figure in row.figures.values():
            assert abs(figure.parameters / row.ours.parameters - 1) <= 0.05
            assert figure.flops > 0


def test_sampling(bench):
    rows = check(list(sampling.sampling(bench)))
    assert [row.what.rsplit(", batch ", 1)[1] for row in rows] == ["1", "1", "4", "4", "2", "2"]
    assert all(set(row.figures) == here(bench, DIFFUSERS) for row in rows)
    assert ["extrapolated" in row.note for row in rows] == [False, False, True, True, True, True]


def test_sampling_in_bf16_is_measured_where_training_is_in_it(bench, monkeypatch):
    settled = []
    settle = sampling.Diffusers.settle
    monkeypatch.setattr(
        sampling.Diffusers, "settle", lambda theirs: (settled.append(theirs.unet.dtype), settle(theirs))
    )
    asked = []
    ours = sampling.our_sampler
    monkeypatch.setattr(
        sampling, "our_sampler", lambda *given, **settings: (asked.append(settings), ours(*given, **settings))[1]
    )
    scale = replace(bench.scale, sampling_batches=(1, 16))
    rows = check(list(sampling.sampling(replace(bench, dtype=torch.bfloat16, scale=scale))))
    ends = [row.what.rsplit(", batch ", 1)[1] for row in rows]
    assert ends == ["1", "1", "16", "16", "16, bf16", "16, bf16", "2", "2"]
    assert [settings.get("precision") for settings in asked] == ["fp32"] * 4 + ["bf16"] * 2 + [None] * 2
    if bench.peers.get(DIFFUSERS):
        assert settled == [torch.float32, torch.bfloat16]


def test_a_repetition_that_noise_turned_round_is_dropped():
    from latentdiff.benchmark.timing import Timing

    found = sampling._line(Timing((1.0, 3.0)), Timing((2.0, 2.0)), (1, 2), 5)
    assert found.seconds == (5.0,)


def test_distance_agrees_with_the_others(bench, monkeypatch):
    monkeypatch.setattr(evaluation, "find_inception", lambda weights: None)
    (row,) = check(list(evaluation.evaluation(bench)))
    assert set(row.figures) == {"latentdiff", "torchmetrics", "scipy"}
    assert "weights are not here" in bench.peers.left_out["torch-fidelity"]


def test_inception_is_measured_where_its_weights_are(alone, inception_file):
    row = evaluation.inception(alone, str(inception_file))
    check([row])
    assert set(row.figures) == {"latentdiff", "torch-fidelity"}
    assert row.share_of_limit > 0


def test_growth(bench, monkeypatch):
    monkeypatch.setattr(growth, "JUDGED", 8)
    found = list(growth.growth(bench))
    rows, fits = ([each for each in found if isinstance(each, kind)] for kind in (Row, Growth))
    check(rows)
    judged, rows = rows[:2], rows[2:]
    assert [row.what for row in judged] == ["training, 8 px, batch 3", "sampling, 8 px, batch 3"]
    assert all(set(row.figures) == {"latents", "pixels", growth.SAME} and row.target.at_least for row in judged)
    assert [row.what for row in rows] == [
        "training, 8 px, batch 2",
        "peak memory of training, 8 px, batch 2",
        "training, 16 px, batch 2",
        "sampling, 16 px, batch 3",
        "peak memory of training, 16 px, batch 2",
    ]
    assert not any(row.target.at_least for row in rows)
    assert [fit.what for fit in fits] == ["training", "sampling", "peak memory of training"]
    assert all(set(fit.exponents) == {"latents", "pixels"} for fit in fits)
    assert fits[0].values["pixels"][1] == 1 / rows[2].figures["pixels"].value
    assert fits[1].values["latents"][0] == 1 / judged[1].figures["latents"].value, "it is not measured twice"


def test_overhead_is_the_median_of_what_each_round_says(alone, monkeypatch):
    seconds = {"latentdiff": Timing((2.0, 3.0, 9.0)), "bare loop": Timing((1.0, 2.0, 8.0))}
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "race", lambda self, turns, least=0: seconds)
        _, over = overhead.lightning(alone)
    assert over.ours.value == pytest.approx(50.0)
    step, _ = overhead.lightning(alone)
    check([step])


def test_loader(alone):
    (row,) = check(list(overhead.loader(alone)))
    assert set(row.figures) == {"latentdiff", "DataLoader"}


def test_bare_loop_does_the_trainers_arithmetic(alone):
    from latentdiff.benchmark.loops import bare_steps

    setting = alone.scale.settings[0]
    settings = alone.trainer(2)
    ours = stage_two.our_turn(setting.side, None, setting.pixel, settings, 1, alone.device)
    before = [p.clone() for p in ours.module.network.parameters()]
    bare_steps(ours.module, ours.tensors, torch.float32)()
    assert all(torch.equal(a, b) for a, b in zip(before, ours.module.network.parameters(), strict=True))
    ours()
    assert ours.module.images_seen == 4, "one step to set up, one that counts"
    ours()
    assert ours.module.images_seen == 8


def test_memory_is_that_of_another_process():
    (peak,) = memory.peak_memories([memory.Case(partial, (operator.mul, b"x", 50_000_000), (print,))])
    assert 45e6 < peak.own < 80e6, "the kernel counts a little late"
    assert peak.peak > peak.before
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        memory.peak_memories([memory.Case(partial, (operator.truediv, 1, 0))])


def test_first_images_come_from_two_cold_processes(bench):
    row = whole_process.first_images(bench)
    assert set(row.figures) == here(bench, DIFFUSERS)
    assert row.target.at_most == 6.0


def test_import_and_help_are_timed(alone, monkeypatch):
    monkeypatch.setattr(whole_process, "first_images", lambda bench: None)
    rows = check([row for row in whole_process.processes(alone) if row])
    assert [(row.what, row.target.at_most) for row in rows] == [("import", 0.3), ("--help", 1.0)]


@pytest.mark.slow
def test_several_processes_are_jobs_of_their_own(alone):
    strong, weak, agreeing = check(list(several.several(alone)))
    assert set(strong.figures) == set(weak.figures) == {"2 processes", "one process of one thread"}
    assert agreeing.ours.value > 0


def test_limits_are_found_for_every_precision():
    found = limits.measure_limits(torch.device("cpu"), 0.01)
    assert found.flops["fp32"] > 0 < found.bandwidth
    assert set(found.flops) == set(found.kernels)
    work = limits.Work(found.flops["fp32"], 2 * found.bandwidth)
    assert found.seconds(work, torch.float32) == 2.0


def test_the_stage_writes_table_record_and_figure(alone, tmp_path, capsys):
    config = BenchmarkStage(peers=False, parts=("loader", "encoding"), folder=str(tmp_path / "run"))
    folder = measure(config, alone, "the command")
    record = json.loads((folder / "benchmark.json").read_text())
    assert list(record["seconds"]) == ["encoding", "loader"]
    assert record["command"] == "the command"
    assert "DataLoader" in (folder / "benchmark.md").read_text()
    assert (folder / "benchmark.png").stat().st_size > 1000
    assert "**data path**" in capsys.readouterr().out
