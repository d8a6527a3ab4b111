"""CUDA graphs: a pass of a network is recorded once for each shape of its inputs, and replayed by one launch.

A small network's kernels are over before the host has launched the next ones. A replay launches all of them at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

Inputs = tuple[Tensor | None, ...]
Pass = Callable[..., Tensor]
# Gives the pass of new inputs of the recorded shapes.
Replay = Callable[[Inputs], Tensor]

# The first passes of a shape run as usual. Recording wants a few before it, and a single pass is not worth it.
PASSES_BEFORE = 3
# Each recorded shape keeps the memory of its pass.
MOST_SHAPES = 8
# What a replay may differ from a usual pass by, as a share of the largest number: kernels may be others.
TOLERANCE = 0.02


def can_record(device: torch.device) -> bool:
    """Whether passes on ``device`` can be recorded, which needs a CUDA GPU."""
    return device.type == "cuda" and torch.cuda.is_available()


def record_pass(function: Pass, inputs: Inputs) -> Replay:
    """Record ``function(*inputs)``, which must have run before. Its weights may change in place, and not move.

    Raises :class:`RuntimeError` for a pass that reads a number from the GPU, or does something else that a graph cannot
    record.
    """
    own = tuple(None if tensor is None else tensor.clone() for tensor in inputs)
    graph = torch.cuda.CUDAGraph()
    # Other threads go on meanwhile: they draw noise into pinned memory.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = function(*own)

    def replay(given: Inputs) -> Tensor:
        for mine, theirs in zip(own, given, strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs)
        graph.replay()
        return output.clone()  # the next replay writes over it

    return replay


class RecordedPasses:
    """A function of tensors whose passes are replayed once they have been recorded.

    The first replay of a shape is compared with a usual pass. If recording fails, or its result differs, a line says
    so, and all passes run as usual from then on.

    Args:
        function: A network's pass. Its weights may change in place, and not move.
        record: Records a pass.
    """

    def __init__(self, function: Pass, record: Callable[[Pass, Inputs], Replay] = record_pass):
        self._function, self._record_pass = function, record
        self._seen: Counter[object] = Counter()
        self._replays: dict[object, Replay] = {}
        self._failed = False
        self._turn = threading.Lock()  # a replay's inputs and output are the same memory for all threads

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Return the pass of ``inputs``."""
        if self._failed or torch.is_grad_enabled():  # a replay has no gradient
            return self._function(*inputs)
        shape = tuple(None if tensor is None else (tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        with self._turn:
            if shape in self._replays:
                return self._replays[shape](inputs)
        output = self._function(*inputs)
        with self._turn:
            self._seen[shape] += 1
            is_new = not self._failed and shape not in self._replays and len(self._replays) < MOST_SHAPES
            if is_new and self._seen[shape] > PASSES_BEFORE:
                self._record(shape, inputs, output)
        return output

    def _record(self, shape: object, inputs: Inputs, expected: Tensor) -> None:
        try:
            replay = self._record_pass(self._function, inputs)
            found = replay(inputs)
            apart, largest = (found - expected).abs().max(), expected.abs().max()
            if not bool(apart <= TOLERANCE * largest):  # NaN is no replay either
                raise RuntimeError("a replay gives different numbers")
        except RuntimeError as error:
            self._failed = True
            self._replays.clear()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"CUDA graphs are left out: {reason}", flush=True)
        else:
            self._replays[shape] = replay
