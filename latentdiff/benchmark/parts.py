"""The benchmark's parts in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from latentdiff.benchmark import evaluation, growth, overhead, sampling, several, stage_one, stage_two, whole_process
from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.rows import Growth, Row

PARTS: dict[str, Callable[[Bench], Iterator[Row | Growth]]] = {
    "stage_one": stage_one.training,
    "encoding": stage_one.encoding,
    "stage_two": stage_two.training,
    # Before growth: after it, in the same process, either of the two loops is at times a fifth slower.
    "lightning": overhead.lightning,
    "loader": overhead.loader,
    "sampling": sampling.sampling,
    "processes": whole_process.processes,
    "evaluation": evaluation.evaluation,
    "growth": growth.growth,
    "several": several.several,
}
