"""One command as several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from latentdiff.errors import ConfigError, StageError


def start_processes(
    stage: str,
    argv: list[str] | None,
    devices: int,
    num_nodes: int = 1,
    prefix: str = "",
    batch_size: int | None = None,
    folder: Path | None = None,
) -> bool:
    """Run this command as ``devices`` processes by torchrun, unless it is already one of several processes.

    Args:
        stage: The stage's name.
        argv: Its arguments, None for this process's own.
        devices: Processes on this node.
        num_nodes: Number of nodes. With more than one, the command must be started by torchrun or srun on each node.
        prefix: Prefix of the settings' names: ``trainer.`` for stages that train, and can resume.
        batch_size: Images of a step, which all processes share, for stages that train.
        folder: The run's folder, for stages that can resume.

    Returns: True if the processes have run, so that nothing is left to do. Raises StageError if one of them failed, and
        ConfigError for impossible numbers.
    """
    if devices < 1 or num_nodes < 1:
        raise ConfigError(f"a job needs at least one process and one node, not {devices} on {num_nodes}")
    if batch_size is not None and batch_size % (devices * num_nodes):
        raise ConfigError(
            f"--{prefix}batch_size {batch_size} cannot be shared by {devices * num_nodes} processes: take a multiple "
            "of their number"
        )
    begun = max(int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    if begun > 1:
        if devices * num_nodes not in (1, begun):
            raise ConfigError(
                f"{begun} processes were started, but --{prefix}devices asks for {devices * num_nodes} in all: "
                "leave it out, or give the same number"
            )
        return False
    if num_nodes > 1:
        raise ConfigError(
            f"{num_nodes} nodes were asked for: start the command on each of them, as in torchrun --nnodes {num_nodes} "
            f"--nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m latentdiff.stages.{stage} "
            "..., or by srun"
        )
    if devices == 1:
        return False
    own = sys.argv[1:] if argv is None else argv
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
    # Left to itself, torchrun gives each process one thread and says so at length.
    threads = str(max(1, (os.cpu_count() or 1) // devices))
    if _job(
        [sys.executable, *torchrun, "-m", f"latentdiff.stages.{stage}", *own], {"OMP_NUM_THREADS": threads} | os.environ
    ):
        kept = ". The last checkpoint is kept: continue the run with --run.resume true, with any number of processes"
        raise StageError(
            f"one of the {devices} processes failed or was killed (see above), so all were ended"
            + (kept if folder is not None and (folder / "last.ckpt").is_file() else "")
        )
    return True


def _job(command: list[str], environment: dict[str, str]) -> int:
    """Run torchrun to its end and return its exit status. Signals that would end this process end torchrun and its
    workers."""
    # In a session of its own a terminal's Ctrl-C comes to this process alone, and torchrun is told once.
    job = subprocess.Popen(command, env=environment, start_new_session=True)
    before = {
        number: signal.signal(number, lambda got, _: job.send_signal(got)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        return job.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
