"""Peak memory, each in a process of its own: within one, the first measurement would hide what comes after it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from latentdiff.training.base_module import peak_memory_of_process
from latentdiff.training.memory import keep_freed_memory

AT_ONCE = 2  # Processes: nothing is timed while they run.


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        build: A function of a module's top level, or another thing that pickle knows by name; builds the contender.
        arguments: Its arguments.
        first: Arguments of a small contender that is called before, so that whatever it imports is not counted.
    """

    build: Callable[..., Callable[[], Any]]
    arguments: tuple[Any, ...]
    first: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Peak:
    """Bytes of a process, or of its GPU: at its peak, and before the contender was built."""

    peak: float
    before: float

    @property
    def own(self) -> float:
        """What the contender added."""
        return self.peak - self.before


def peak_memories(cases: Sequence[Case]) -> list[Peak]:
    """Peak memory of two calls of each contender, in a new Python that it is handed to as a pickle.

    Raises RuntimeError with the process's last words where one fails.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_measured, cases))


def _measured(case: Case) -> Peak:
    command = [sys.executable, "-m", "latentdiff.benchmark.memory"]
    # As plain values: the module that runs as a program would know its Case by another name.
    handed = pickle.dumps((case.build, case.arguments, case.first))
    done = subprocess.run(command, input=handed, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {case.build.__qualname__} failed: {done.stderr.decode()[-2000:]}")
    return Peak(*map(float, done.stdout.split()[-2:]))


def _peak() -> int:
    """Bytes so far."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return peak_memory_of_process()


def main() -> None:
    keep_freed_memory()  # as our trainers do, for everybody
    build, arguments, first = pickle.load(sys.stdin.buffer)
    if first is not None:
        build(*first)()
    before = _peak()
    call = build(*arguments)
    call()
    call()
    print(_peak(), before)


if __name__ == "__main__":
    main()
