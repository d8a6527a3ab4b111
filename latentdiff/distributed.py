"""Several processes at one job: who this one is, its share, and what they tell each other.

One process needs nothing of this: every function then does the plain thing, and torch.distributed is never touched.
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
# The first process may decode a data set or measure a model while the others wait for it.
TIMEOUT = timedelta(hours=6)


def init_process_group() -> None:
    """Meet the other processes of a job that torchrun or srun began; a process by itself is left alone.

    On GPUs each process takes the one of its place on its node, which must let it see all of them.
    """
    _set_torchrun_variables_from_slurm()
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or dist.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        place = int(os.environ["LOCAL_RANK"])
        if place < torch.cuda.device_count():  # of fewer GPUs than processes none is taken: the job may want none
            torch.cuda.set_device(place)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=TIMEOUT)


def destroy_process_group() -> None:
    """Part from the others, when all are done: a process that ends with its connections open may be aborted in its very
    last moment, and the whole job would have failed with its work done."""
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


def _set_torchrun_variables_from_slurm() -> None:
    """Say in torchrun's variables what srun says in its own."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks < 2 or "WORLD_SIZE" in os.environ:
        return
    from lightning.fabric.plugins.environments import SLURMEnvironment

    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    os.environ |= {
        "WORLD_SIZE": str(tasks),
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "GROUP_RANK": os.environ.get("SLURM_NODEID", "0"),
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"]),
        # Jobs that share a node must not meet at one door.
        "MASTER_PORT": str(15000 + int(os.environ["SLURM_JOB_ID"]) % 10000),
    }


def world_size() -> int:
    """How many processes do this job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether it is the one that writes files and talks to the user."""
    return rank() == 0


def local_world_size() -> int:
    """How many of them a node has, which must be as many on all."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size())) if world_size() > 1 else 1


def barrier() -> None:
    """Until all are here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """What stands under this is done by the first process, then by the others: they find its files."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def broadcast(value: Value) -> Value:
    """The first process's ``value``, on all."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def check_same(what: str, value: Any) -> None:
    """Raise ValueError, in all processes, where they do not all have the same ``value`` for ``what``.

    What decides about a collective must not be each process's own finding: the others would wait for ever.
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
    """Of all processes' ``values`` of one shape, on all."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / world_size()


def shard_range(total: int) -> range:
    """This process's part of ``total`` things in a row; they differ by one at most, and the first has most."""
    start, stop = (-(-number * total // world_size()) for number in (rank(), rank() + 1))
    return range(start, stop)


def gather(own: Tensor) -> Tensor:
    """All processes' tensors [n_i, ...] in the order of the processes: [sum n_i, ...], on all, on the CPU.

    They may be of unequal length, even empty, but are of one type and shape otherwise.
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
