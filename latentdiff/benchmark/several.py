"""Several processes at one training run: what they gain, and what it costs them to agree.

Each number of processes is measured in a job of its own, of one thread each on a CPU; this module is also that job.
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
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from latentdiff import distributed
from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.peers import parameters
from latentdiff.benchmark.rows import Figure, Row
from latentdiff.benchmark.stage_two import our_turn
from latentdiff.benchmark.timing import timed

PART = "several processes"
TURNS = 5


def several(bench: Bench) -> Iterator[Row]:
    """Images/s of latent training by one process and by as many as there are GPUs, or two on a CPU.

    Strong scaling shares one batch, weak scaling gives each process a batch of its own.
    """
    if not bench.scale.several:
        return
    gpu = bench.device.type == "cuda"
    count = torch.cuda.device_count() if gpu else min(2, os.cpu_count() or 1)
    if count < 2:
        bench.peers.leave_out(PART, "it takes two GPUs, or a CPU of two cores")
        return
    setting, steps = bench.scale.settings[0], bench.scale.training_steps
    batch = setting.latent_batch

    def job(number: int, size: int) -> dict[str, Any]:
        settings = bench.trainer(size)
        return run_job(number, (setting.side, setting.autoencoder, setting.latent, settings, steps, bench.device))

    alone, shared, each = job(1, batch), job(count, batch), job(count, count * batch)
    what = f"latents, {setting.side} px"
    name = "one process of one thread" if not gpu else "one process"
    yield _row(f"strong scaling, {what}, batch {batch}", shared, name, alone, batch, batch)
    yield _row(f"weak scaling, {what}, batch {batch} each", each, name, alone, count * batch, batch)
    yield Row(
        part=PART,
        what=f"agreeing on {shared['parameters'] / 1e6:.2f}M gradients, {count} processes",
        unit="s",
        figures={"latentdiff": Figure.single(shared["reduce"])},
        more_is_better=False,
        note=f"a step of {batch} images by one process takes {alone['step']:.3g} s",
    )


def _row(what: str, ours: dict[str, Any], name: str, alone: dict[str, Any], batch: int, own: int) -> Row:
    figures = {f"{ours['count']} processes": Figure.single(batch / ours["step"])}
    return Row(part=PART, what=what, unit="images/s", figures=figures | {name: Figure.single(own / alone["step"])})


def run_job(count: int, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """``count`` processes that train as :func:`our_turn` of ``arguments``: what the first of them measured.

    Raises RuntimeError with the job's last words where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="latentdiff-benchmark-") as folder:
        asked, found = Path(folder) / "asked", Path(folder) / "found"
        asked.write_bytes(pickle.dumps(arguments))
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        command = [sys.executable, *torchrun, "-m", "latentdiff.benchmark.several", str(asked), str(found)]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{count} processes failed: {done.stderr[-2000:]}")
        return json.loads(found.read_text())


def main() -> None:
    distributed.init_process_group()
    asked, found = map(Path, sys.argv[1:])
    turn = our_turn(*pickle.loads(asked.read_bytes()))
    turn()
    seconds = [turn() for _ in range(TURNS)]
    weights = parameters(turn.module.network)
    gradients = torch.zeros(weights, device=turn.module.device)
    reduce = (
        timed(lambda: dist.all_reduce(gradients), turn.module.device) if distributed.world_size() > 1 else lambda: 0.0
    )
    reduce()
    values = {
        "count": distributed.world_size(),
        "step": statistics.median(seconds) / turn.steps,
        "reduce": statistics.median(reduce() for _ in range(TURNS)),
        "parameters": weights,
    }
    if distributed.is_main_process():
        found.write_text(json.dumps(values))


if __name__ == "__main__":
    main()
