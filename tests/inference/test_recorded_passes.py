"""Passes are recorded for each shape and replayed; where that fails, they run as usual and a line says so.

What a GPU does is pretended: a replay runs the function again, into the memory of the recording.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import ClassVar

import pytest
import torch

from latentdiff import load
from latentdiff.inference.engines import recorded_passes, torch_engine
from latentdiff.inference.engines.recorded_passes import MOST_SHAPES, PASSES_BEFORE, RecordedPasses, record_pass


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``: what ran while it was recorded runs again when it is replayed."""

    recorded: ClassVar[list[Graph]] = []

    def __init__(self):
        self.replays = 0
        self.recorded.append(self)

    def replay(self):
        self.replays += 1
        self.output.copy_(self.function(*self.inputs))


@pytest.fixture
def gpu(monkeypatch):
    """The functions of CUDA graphs, pretended; the graphs that were recorded."""
    monkeypatch.setattr(Graph, "recorded", [])

    @contextmanager
    def graph(own, capture_error_mode):
        assert capture_error_mode == "thread_local"
        own.capturing = True
        yield
        own.capturing = False

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)

    def watched(function):
        def run(*inputs):
            output = function(*inputs)
            for own in Graph.recorded:
                if getattr(own, "capturing", False):
                    own.function, own.inputs, own.output = function, inputs, output
            return output

        return run

    return watched


def affine(x, time, labels):
    return x * time[:, None] + (0 if labels is None else labels[:, None])


def inputs(rows, with_labels=True):
    labels = torch.arange(rows) if with_labels else None
    return torch.randn(rows, 3), torch.rand(rows), labels


def test_replays_give_what_passes_give_and_later_ones_leave_earlier_results_alone(gpu):
    passes, kept = RecordedPasses(gpu(affine)), []
    with torch.inference_mode():
        for _ in range(PASSES_BEFORE + 5):
            for given in (inputs(2), inputs(4), inputs(4, with_labels=False)):
                kept.append((passes(*given), affine(*given)))
    for found, expected in kept:
        torch.testing.assert_close(found, expected)
    # A graph a shape; the first replay of each is the comparison.
    assert [graph.replays for graph in Graph.recorded] == [5] * 3


def test_a_gradient_has_no_replay_and_few_passes_none(gpu):
    passes = RecordedPasses(gpu(affine))
    for _ in range(10):
        x, time, labels = inputs(2)
        passes(x.requires_grad_(), time, labels).sum().backward()
        assert x.grad is not None
    with torch.inference_mode():
        for _ in range(PASSES_BEFORE):
            passes(*inputs(2))
    assert not Graph.recorded


def test_so_many_shapes_are_recorded_and_no_more(gpu):
    passes = RecordedPasses(gpu(affine))
    with torch.inference_mode():
        for rows in range(1, MOST_SHAPES + 3):
            for _ in range(PASSES_BEFORE + 2):
                given = inputs(rows)
                torch.testing.assert_close(passes(*given), affine(*given))
    assert len(Graph.recorded) == MOST_SHAPES


def raises(function, given):
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (raises, "operation not permitted when stream is capturing"),
        (lambda function, given: lambda given: function(*given) + 1, "a replay gives different numbers"),
        (lambda function, given: lambda given: function(*given) * torch.nan, "a replay gives different numbers"),
    ],
)
def test_where_recording_fails_passes_run_as_usual_after_one_line(record, reason, capsys):
    passes = RecordedPasses(affine, record)
    with torch.inference_mode():
        for _ in range(3 * PASSES_BEFORE):
            given = inputs(3)
            torch.testing.assert_close(passes(*given), affine(*given))
    assert capsys.readouterr().out == f"CUDA graphs are left out: {reason}\n"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_images_are_the_same_and_so_they_are_after_the_weights_have_changed(
    precision, gpu, tiny_model_file, monkeypatch
):
    model, plain = load(tiny_model_file), load(tiny_model_file)
    monkeypatch.setattr(
        torch_engine, "RecordedPasses", lambda function: RecordedPasses(gpu(function), recorded_passes.record_pass)
    )
    request = {"num_images": 5, "steps": 6, "batch_size": 2, "precision": precision, "guidance_scale": 2.0}
    for _ in range(2):
        expected = plain.sample(**request)
        with monkeypatch.context() as patch:
            patch.setattr(torch_engine, "can_record", lambda device: True)
            found = model.sample(**request)
        assert torch.equal(found, expected)
        graphs = len(Graph.recorded)
        for weights in (*model.network.parameters(), *plain.network.parameters()):
            weights.copy_(weights * 0.9)
    assert graphs == 2  # batches of two and of one, in both requests
    assert sum(graph.replays for graph in Graph.recorded) > 10


def test_nothing_is_recorded_without_a_gpu(tiny_model_file):
    assert not recorded_passes.can_record(torch.device("cpu"))
    if not torch.cuda.is_available():
        assert not recorded_passes.can_record(torch.device("cuda"))
    network = load(tiny_model_file).engine.network("fp32")
    assert not isinstance(network, RecordedPasses)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_replays_what_it_recorded():
    weight = torch.randn(64, 64, device="cuda")
    given = (torch.randn(8, 64, device="cuda"),)
    with torch.inference_mode():
        for _ in range(PASSES_BEFORE):
            weight @ given[0].T
        replay = record_pass(lambda x: x @ weight, given)
        for _ in range(3):
            x = torch.randn(8, 64, device="cuda")
            torch.testing.assert_close(replay((x,)), x @ weight, rtol=1e-3, atol=1e-3)


def test_threads_do_not_get_each_others_results():
    memory = torch.zeros(3)

    def record(function, given):
        def replay(given):
            memory.copy_(function(*given)[0])
            time.sleep(0.002)
            return memory.clone()[None]

        return replay

    passes = RecordedPasses(lambda x: x * 2.0, record)
    found = {}

    def draw(number):
        with torch.inference_mode():
            x = torch.full((1, 3), float(number))
            found[number] = [passes(x) for _ in range(20)]

    draw(0)
    threads = [threading.Thread(target=draw, args=(number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(bool((each == 2.0 * number).all()) for number, results in found.items() for each in results)


def test_a_weight_in_another_place_is_recorded_anew(tiny_model_file, monkeypatch):
    model = load(tiny_model_file, engine="torch")
    monkeypatch.setattr(torch_engine, "can_record", lambda device: True)
    first = model.engine.network("fp32")
    assert model.engine.network("fp32") is first
    *_, (name, last) = model.network.named_parameters()
    owner, _, own = name.rpartition(".")
    setattr(model.network.get_submodule(owner), own, torch.nn.Parameter(last.detach().clone(), requires_grad=False))
    assert model.engine.network("fp32") is not first
