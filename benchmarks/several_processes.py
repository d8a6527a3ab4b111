"""Training by several processes beside one: strong and weak scaling, and the all-reduce of the gradients.

Each number of processes is measured in a job of its own; on a CPU each process has one thread. As a program, this
module is a process of such a job.
"""

from __future__ import annotations

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.peak_memory import CHECKOUT
from latentdiff import distributed
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import count_parameters
from latentdiff.benchmark.results import OURS, Measurement, Value
from latentdiff.benchmark.timing import timed_call
from latentdiff.benchmark.training_speed import diffusion_trainer

PART = "several processes"
REPETITIONS = 5


@dataclass(frozen=True)
class JobResult:
    """What a job measured.

    Attributes:
        processes: Number of processes.
        step_seconds: Median seconds of a training step.
        all_reduce_seconds: Median seconds of an all-reduce of the gradients; 0 for one process.
        parameters: Number of the network's parameters.
    """

    processes: int
    step_seconds: float
    all_reduce_seconds: float
    parameters: int


def measure_several_processes(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure images/s of latent training by one process and by as many as there are GPUs, or two on a CPU.

    Strong scaling: one batch for all processes. Weak scaling: a batch for each. The quick benchmark leaves this out.
    """
    if context.quick:
        return
    gpu = context.device.type == "cuda"
    count = torch.cuda.device_count() if gpu else min(2, os.cpu_count() or 1)
    if count < 2:
        context.leave_out(PART, "it takes two GPUs, or a CPU of two cores")
        return
    networks, steps = context.sizes.networks[0], context.sizes.training_steps
    batch = networks.latent_batch

    def run(processes: int, batch_size: int) -> JobResult:
        trainer = context.trainer_config(batch_size)
        arguments = (networks.side, networks.autoencoder, networks.latent_network, trainer, steps, context.device)
        return run_job(processes, arguments)

    one, strong, weak = run(1, batch), run(count, batch), run(count, count * batch)
    one_name = "one process" if gpu else "one process of one thread"
    for name, job, images in (
        (f"strong scaling, latents, {networks.side} px, batch {batch}", strong, batch),
        (f"weak scaling, latents, {networks.side} px, batch {batch} each", weak, count * batch),
    ):
        values = {
            f"{count} processes": Value.single(images / job.step_seconds),
            one_name: Value.single(batch / one.step_seconds),
        }
        yield Measurement(part=PART, name=name, unit="images/s", values=values)
    yield Measurement(
        part=PART,
        name=f"all-reduce of {strong.parameters / 1e6:.2f}M gradients, {count} processes",
        unit="s",
        values={OURS: Value.single(strong.all_reduce_seconds)},
        more_is_better=False,
        note=f"a step of {batch} images by one process takes {one.step_seconds:.3g} s",
    )


def run_job(processes: int, arguments: tuple[Any, ...]) -> JobResult:
    """Run a job of several processes by torchrun.

    Args:
        processes: Number of processes.
        arguments: Arguments of :func:`~latentdiff.benchmark.training_speed.diffusion_trainer`.

    Raises:
        RuntimeError: if the job fails, with the end of its standard error.
    """
    with tempfile.TemporaryDirectory(prefix="latentdiff-benchmark-") as folder:
        arguments_file, result_file = Path(folder) / "arguments", Path(folder) / "result"
        arguments_file.write_bytes(pickle.dumps(arguments))
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        job = ["-m", "benchmarks.several_processes", str(arguments_file), str(result_file)]
        done = subprocess.run(
            [sys.executable, *torchrun, *job],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
        )
        if done.returncode:
            raise RuntimeError(f"{processes} processes failed: {done.stderr[-2000:]}")
        return JobResult(**json.loads(result_file.read_text()))


def main() -> None:
    """Join the job, train, and let the main process write the result."""
    distributed.init_process_group()
    arguments_file, result_file = map(Path, sys.argv[1:])
    trainer = diffusion_trainer(*pickle.loads(arguments_file.read_bytes()))
    trainer()
    seconds = [trainer() for _ in range(REPETITIONS)]
    parameters, all_reduce_seconds = count_parameters(trainer.module.network), 0.0
    if distributed.world_size() > 1:
        gradients = torch.zeros(parameters, device=trainer.module.device)
        all_reduce = timed_call(lambda: dist.all_reduce(gradients), trainer.module.device)
        all_reduce()
        all_reduce_seconds = statistics.median(all_reduce() for _ in range(REPETITIONS))
    step_seconds = statistics.median(seconds) / trainer.steps
    result = JobResult(distributed.world_size(), step_seconds, all_reduce_seconds, parameters)
    if distributed.is_main_process():
        result_file.write_text(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
