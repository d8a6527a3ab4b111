"""Floating-point operations that a training takes, counted while it trains."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

from latentdiff import distributed

Result = TypeVar("Result")
# torch's registry does not know a CPU's fused attention.
CPU_ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}


class FlopCounter(TorchDispatchMode):
    """Counts the operations in its block, in ``total``. It is for training steps, not for ``torch.inference_mode``.

    Unlike torch's FlopCounterMode, it decomposes nothing, so no bit changes, and hooks into no module, so a part of a
    step may call ``torch.autograd.grad``.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in CPU_ATTENTION:
            self.total += CPU_ATTENTION[packet](*(arg.shape for arg in args if isinstance(arg, torch.Tensor)))
        elif packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=result)
        return result


class StepFlops:
    """Adds up the operations of training steps, a multiplication and an addition being two.

    Those of products and convolutions count, forward and backward, of all networks that a step runs. Norms,
    activations and the optimiser, a few per cent, are left out. The first step of each kind is counted, and the others
    take as many, since all batches are of one size.

    Attributes:
        total: Of all steps and processes; None if one could not be counted.
    """

    def __init__(self):
        self.total: float | None = 0.0
        self._of_a_step: dict[Hashable, int] = {}

    def of(self, kind: Hashable, step: Callable[[], Result]) -> Result:
        """Do a ``step`` and return what it returns. Steps of one ``kind`` take equally many operations."""
        if self.total is None:
            return step()
        if kind in self._of_a_step:
            result = step()
        else:
            with FlopCounter() as counter:
                result = step()
            self._of_a_step[kind] = distributed.world_size() * counter.total  # each has an equal share, about
        self.total += self._of_a_step[kind]
        return result

    def give_up(self) -> None:
        """Count no more: the operations of compiled code are not known."""
        self.total = None
