"""Peak memory, each in a process of its own: within one process the first measurement would hide later ones.

As a program, this module measures one case, which it reads from its standard input.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.peer_loops import Step
from latentdiff.benchmark.peer_training import build_autoencoder_steps
from latentdiff.benchmark.peers import DIFFUSERS, find_peer
from latentdiff.benchmark.results import OURS, Measurement, Value
from latentdiff.benchmark.training_speed import AUTOENCODER_PART, autoencoder_trainer
from latentdiff.training.base_module import peak_memory_of_process
from latentdiff.training.memory import keep_freed_memory

CHECKOUT = Path(__file__).parents[1]  # where ``python -m benchmarks`` works
PROCESSES = 2  # At once: nothing is timed while they run.


@dataclass(frozen=True)
class MemoryCase:
    """A case whose memory is measured.

    Attributes:
        build: A function that pickle knows by name; it returns the call that is measured.
        arguments: Its arguments.
        small_arguments: Arguments of a small case that is called before, so that its imports are not counted.
    """

    build: Callable[..., Callable[[], Any]]
    arguments: tuple[Any, ...]
    small_arguments: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class PeakMemory:
    """Memory of a process, or of its GPU.

    Attributes:
        peak: Bytes at the peak.
        before: Bytes at the peak before the case was built.
    """

    peak: float
    before: float

    @property
    def added(self) -> float:
        """Bytes that the case added."""
        return self.peak - self.before


def peak_memories(cases: Sequence[MemoryCase]) -> list[PeakMemory]:
    """Measure the peak memory of two calls of each case, each in a new process.

    Raises:
        RuntimeError: if a process fails, with the end of its standard error.
    """
    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(_measure, cases))


def _measure(case: MemoryCase) -> PeakMemory:
    # Plain values: a module that runs as a program would know its classes by another name.
    case_bytes = pickle.dumps((case.build, case.arguments, case.small_arguments))
    command = [sys.executable, "-m", "benchmarks.peak_memory"]
    done = subprocess.run(command, input=case_bytes, capture_output=True, cwd=CHECKOUT)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {case.build.__qualname__} failed: {done.stderr.decode()[-2000:]}")
    return PeakMemory(*map(float, done.stdout.split()[-2:]))


def measure_autoencoder_memory(context: BenchmarkContext) -> Measurement:
    """Measure the peak memory of the autoencoder's training at the largest side, beside diffusers."""
    networks = context.sizes.networks[-1]
    trainer = context.trainer_config(networks.autoencoder_batch)
    config, side, device = context.sizes.networks[0].autoencoder, networks.side, context.device
    cases = {OURS: MemoryCase(autoencoder_trainer, (side, config, trainer, 1, device))}
    if find_peer(context, DIFFUSERS):
        cases[DIFFUSERS] = MemoryCase(build_contiguous_steps, (side, config, trainer, context.dtype, device))
    peaks = dict(zip(cases, peak_memories(list(cases.values())), strict=True))
    return Measurement(
        part=AUTOENCODER_PART,
        name=f"peak memory, {side} px, batch {trainer.batch_size}",
        unit="MB",
        values={name: Value.single(peak.peak / 1e6) for name, peak in peaks.items()},
        more_is_better=False,
        note="memory: of a process of its own, its imports included",
    )


def build_contiguous_steps(*arguments: Any) -> Step:
    """Build the steps of diffusers' AutoencoderKL in one memory layout; trying both would leave memory behind."""
    return build_autoencoder_steps(*arguments)(torch.contiguous_format)


def main() -> None:
    """Measure the case on the standard input, and print its peak memory and the memory before it, in bytes."""
    keep_freed_memory()  # as our trainers do, for every case
    build, arguments, small_arguments = pickle.load(sys.stdin.buffer)
    if small_arguments is not None:
        build(*small_arguments)()
    before = _peak()
    call = build(*arguments)
    call()
    call()
    print(_peak(), before)


def _peak() -> int:
    """Bytes at the peak so far."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return peak_memory_of_process()


if __name__ == "__main__":
    main()
