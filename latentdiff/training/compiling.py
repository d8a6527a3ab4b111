"""torch.compile of the networks that are trained: when it pays, how, and what happens where it fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from latentdiff.config import TrainerConfig
from latentdiff.models.text_encoder import FrozenTextEncoder

# Compiling takes minutes, and a short run is over by then. In steps for a run whose length is one of images.
LONG_ENOUGH_SECONDS, LONG_ENOUGH_STEPS = 900.0, 10_000
BACKEND = "inductor"


def pays(settings: TrainerConfig, device: torch.device) -> bool:
    """Whether the networks of a run are compiled: as ``compile`` says; ``auto`` compiles long runs on a GPU.

    ``auto`` does not compile sharded networks, since their weights are gathered anew in each pass.
    """
    if settings.compile != "auto":
        return settings.compile == "on"
    if device.type != "cuda" or settings.strategy == "fsdp":
        return False
    steps = settings.max_images / settings.batch_size if settings.max_images else float("inf")
    seconds = settings.max_seconds or float("inf")
    return seconds >= LONG_ENOUGH_SECONDS and steps >= LONG_ENOUGH_STEPS


def compile_parts(parts: Iterable[nn.Module], device: torch.device) -> None:
    """Let calls of ``parts`` be compiled when they are first made. Their names, weights and state stay as they are.

    On a GPU, kernels are tuned, and no CUDA graphs are recorded: a graph would overwrite what an earlier pass has
    returned, such as the moments that a frozen encoder gives and the loss needs later. Each size of a micro-batch is
    compiled by itself.
    """
    more: dict[str, Any] = {"backend": BACKEND}
    if BACKEND == "inductor" and device.type == "cuda":
        more["mode"] = "max-autotune-no-cudagraphs"
    for part in parts:
        if part._compiled_call_impl is None:
            for module in part.modules():
                if isinstance(module, FrozenTextEncoder):
                    module.leave_uncompiled()
            part.compile(dynamic=False, **more)


def leave_uncompiled(parts: Iterable[nn.Module]) -> None:
    """Let calls of ``parts`` run without the compiler again."""
    for part in parts:
        part._compiled_call_impl = None


def words_of(error: BaseException) -> str:
    """What a compiler's error says, on a line: which part failed, and why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__


def is_compiler_error(error: BaseException) -> bool:
    """Whether an error comes from the compiler, and not from the code that it compiles."""
    # By name: importing the compiler to know its errors would take seconds from runs that do not use it.
    modules = [kind.__module__ for kind in type(error).__mro__]
    return any(name.startswith(("torch._dynamo", "torch._inductor", "torch._functorch")) for name in modules)
