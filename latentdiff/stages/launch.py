"""One command as several processes."""

from __future__ import annotations

import os
import subprocess
import sys


def spread(module: str, argv: list[str] | None, devices: int, num_nodes: int = 1) -> bool:
    """Run this command as ``devices`` processes by torchrun, where it is not one of several yet.

    Args:
        module: The stage.
        argv: Its arguments, None for this process's own.
        devices: Processes on this node.
        num_nodes: More than one must be begun by torchrun or srun on every node: nothing here can reach them.

    Returns: whether it did, so that there is nothing left to do. Ends the program where one of them failed, and raises
    ValueError for numbers that cannot be.
    """
    if devices < 1 or num_nodes < 1:
        raise ValueError(f"a job needs a process and a node at least, not {devices} on {num_nodes}")
    begun = max(int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    if begun > 1:
        if devices * num_nodes not in (1, begun):
            raise ValueError(
                f"{begun} processes were begun, and --trainer.devices and --trainer.num_nodes ask for "
                f"{devices * num_nodes}: leave them out, or let them agree"
            )
        return False
    if num_nodes > 1:
        raise ValueError(
            f"{num_nodes} nodes were asked for: begin the command on each of them, as in torchrun --nnodes {num_nodes} "
            f"--nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m {module} ..., or by srun"
        )
    if devices == 1:
        return False
    own = sys.argv[1:] if argv is None else argv
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
    # torchrun says so at length; processes that share a CPU are meant to take one thread each.
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    done = subprocess.run([sys.executable, *torchrun, "-m", module, *own], env=environment)
    if done.returncode:
        sys.exit(
            f"error: one of the {devices} processes failed or was killed (see above), and so all have ended. What was "
            "finished is kept: a training run goes on with --run.resume true, with any number of processes"
        )
    return True
