"""Whether the images or latents of a training stay on its device, or are fetched batch by batch from where they lie."""

from __future__ import annotations

import torch

from latentdiff import memory
from latentdiff.config import TrainerConfig
from latentdiff.data.memory_budget import memory_share

# Of what is free: an allocator cannot use all of it, kernels need some, and a process on a CPU takes up to half more
# from the system than its tensors hold.
USABLE_SHARE = {"cuda": 0.9}
ELSEWHERE = 0.65
# Of the memory of a training: data that takes more leaves too little to the networks.
MOST_FOR_DATA = 0.5


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device: of a GPU, or of the machine or container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = memory.free_memory()
    return memory_share(1, 2**30) if found is None else found


def usable_memory(device: torch.device) -> float:
    """Bytes that a training may take of what is free on a device."""
    return USABLE_SHARE.get(device.type, ELSEWHERE) * free_memory(device)


def stays_on_device(nbytes: int, settings: TrainerConfig, device: torch.device) -> bool:
    """Whether data of ``nbytes`` stays on the training device: where it takes up to half of what a training may take.

    That is the setting ``memory`` where it is a number of bytes, else a share of what is free now.
    """
    own = settings.memory if isinstance(settings.memory, int | float) else usable_memory(device)
    return nbytes <= MOST_FOR_DATA * own
