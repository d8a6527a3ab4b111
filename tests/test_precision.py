"""The precision auto: bf16 where the hardware is faster in it."""

from __future__ import annotations

import pytest
import torch

from latentdiff import precision
from latentdiff.precision import is_faster_in_bf16, resolve_precision

CPU = torch.device("cpu")
SECONDS = {torch.float32: 2.0, torch.bfloat16: 1.0}


@pytest.fixture
def measured(monkeypatch):
    """What a convolution takes by type, which a test may change; and the types that were measured."""
    seconds, asked = dict(SECONDS), []
    is_faster_in_bf16.cache_clear()
    monkeypatch.setattr(precision, "supports_bf16", lambda _: True)
    monkeypatch.setattr(precision, "convolution_seconds", lambda kind: (asked.append(kind), seconds[kind])[1])
    yield seconds, asked
    is_faster_in_bf16.cache_clear()


@pytest.mark.parametrize(("bf16", "expected"), [(1.0, torch.bfloat16), (1.9, torch.float32), (4.0, torch.float32)])
def test_auto_takes_what_is_faster(measured, bf16, expected):
    seconds, asked = measured
    seconds[torch.bfloat16] = bf16
    assert resolve_precision("auto", CPU) == expected
    times = len(asked)
    assert resolve_precision("auto", CPU) == expected
    assert len(asked) == times  # once in a process


def test_a_disturbed_measurement_is_repeated(measured, monkeypatch):
    disturbed = iter([9.0])
    monkeypatch.setattr(precision, "convolution_seconds", lambda kind: next(disturbed, 1.0) * SECONDS[kind])
    assert resolve_precision("auto", CPU) == torch.bfloat16
    disturbed = iter([1.0, 9.0])  # bf16 this time
    is_faster_in_bf16.cache_clear()
    assert resolve_precision("auto", CPU) == torch.bfloat16


def test_nothing_is_measured_where_there_is_no_choice(measured, monkeypatch):
    _, asked = measured
    assert resolve_precision("fp32", CPU) == torch.float32
    assert resolve_precision("bf16", CPU) == torch.bfloat16
    assert resolve_precision("auto", torch.device("cuda")) == torch.bfloat16
    monkeypatch.setattr(precision, "supports_bf16", lambda _: False)
    assert resolve_precision("auto", CPU) == torch.float32
    assert asked == []


def test_a_convolution_takes_time():
    assert all(precision.convolution_seconds(kind) > 0 for kind in SECONDS)
