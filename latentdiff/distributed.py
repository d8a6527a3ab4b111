"""Several processes at one job: their ranks, the share of each, and collectives.

A single process never touches torch.distributed. Every function then returns what one process needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from latentdiff.errors import ConfigError

Value = TypeVar("Value")
# The main process may decode a data set or measure a model while the others wait.
TIMEOUT = timedelta(hours=6)


def init_process_group() -> None:
    """Join the process group of a job that torchrun or srun started; do nothing for a single process.

    On GPUs, each process uses the GPU of its local rank. Every process must see all GPUs of its node.
    """
    _set_torchrun_variables_from_slurm()
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or dist.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local_rank = int(os.environ["LOCAL_RANK"])
        if local_rank < torch.cuda.device_count():  # with fewer GPUs than processes the job may want none
            torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=TIMEOUT)


def destroy_process_group() -> None:
    """Leave the process group when all processes are done.

    A process that exits with open connections may be aborted at its exit, which would fail a finished job.
    """
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


def _set_torchrun_variables_from_slurm() -> None:
    """Set the environment variables of torchrun from those of srun."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks < 2 or "WORLD_SIZE" in os.environ:
        return
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    os.environ |= {
        "WORLD_SIZE": str(tasks),
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "GROUP_RANK": os.environ.get("SLURM_NODEID", "0"),
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"]),
        # Jobs that share a node must not share a port.
        "MASTER_PORT": str(15000 + int(os.environ["SLURM_JOB_ID"]) % 10000),
    }


def world_size() -> int:
    """Return the number of processes of the job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Return whether this process has rank 0, which writes files and messages."""
    return rank() == 0


def local_world_size() -> int:
    """Return the number of processes on a node, which must be the same on every node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size())) if world_size() > 1 else 1


def barrier() -> None:
    """Wait until all processes have called this function."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process first, then in the others, which then find its files."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def broadcast(value: Value) -> Value:
    """Return the main process's ``value`` in every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def check_same(what: str, value: Any) -> None:
    """Raise ConfigError in every process where the processes differ in ``value``, which the message calls ``what``.

    Check a value that decides whether a process takes part in a collective: if only some did, they would wait for ever.
    """
    if world_size() == 1:
        return
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    if any(other != values[0] for other in values):
        raise ConfigError(
            f"the processes differ in {what}: {values}. They must share one file system, and find the same on it"
        )


def all_reduce_mean(values: Tensor) -> Tensor:
    """Return the mean over the processes of ``values``, a tensor of one shape, in every process."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / world_size()


def shard_range(total: int) -> range:
    """Return this process's contiguous range of ``total`` indices.

    The ranges of the processes cover all indices. Their lengths differ by at most 1.
    """
    start, stop = (-(-number * total // world_size()) for number in (rank(), rank() + 1))
    return range(start, stop)


def gather(own: Tensor) -> Tensor:
    """Return the tensors of all processes, in the order of their ranks, in every process and on the CPU.

    Args:
        own: This process's tensor [n_i, ...]. Lengths may differ and be 0; type and further sizes must agree.

    Returns: [sum of n_i, ...].
    """
    own = own.cpu().contiguous()
    if world_size() == 1:
        return own
    lengths = [torch.zeros(1, dtype=torch.long) for _ in range(world_size())]
    dist.all_gather(lengths, torch.tensor([len(own)]))
    longest = int(max(lengths))
    filled = torch.cat([own, own.new_zeros(longest - len(own), *own.shape[1:])])
    parts = [torch.empty_like(filled) for _ in lengths]
    dist.all_gather(parts, filled)
    return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])
