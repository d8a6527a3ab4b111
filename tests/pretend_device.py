"""A device that this machine does not have: shapes, types and places of tensors without their numbers.

``FakeTensorMode`` gives a tensor the name of any device. Where it meets a tensor of the CPU, an error shows it. Where
its value is read, ``DataDependentOutputException`` shows it. Named ``cuda`` it stands for a GPU in a forward pass;
backward passes work under the name ``meta`` alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What makes the host wait for a number, or for a shape that depends on numbers.
READS = {
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "repeat_interleave.Tensor",
}


class HostReads(TorchDispatchMode):
    """Counts, while it is entered, what makes the host wait for the device.

    Attributes:
        reads: The operations in ``READS``, by name. On a CPU all tensors are the device's.
        copies: Copies between the CPU and a pretended device that are not asked to be ``non_blocking``, by direction.
            An index on the CPU is copied too.
    """

    def __init__(self):
        super().__init__()
        self.reads, self.copies = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name in READS or f"{name}.{func._overloadname}" in READS:
            self.reads[name] += 1
        result = func(*args, **kwargs)
        if name in ("index", "index_put", "index_put_") and args[0].device.type != "cpu":
            on_cpu = [index for index in args[1] if index is not None and index.device.type == "cpu"]
            self.copies.update(f"cpu to {args[0].device.type}" for _ in on_cpu)
        if name in ("_to_copy", "copy_"):
            source = args[1 if name == "copy_" else 0]
            waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if waits and source.device.type != result.device.type:
                self.copies[f"{source.device.type} to {result.device.type}"] += 1
        return result


class PretendDevice:
    """Tensors and modules on a device that is not there.

    Args:
        name: ``cuda`` or ``meta``.
    """

    def __init__(self, name: str):
        self.device = torch.device(name)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def tensor(self, like: Tensor) -> Tensor:
        """A tensor of the shape and type of ``like``."""
        with self.mode:
            return torch.empty(like.shape, dtype=like.dtype, device=self.device)

    def module(self, network: nn.Module) -> nn.Module:
        """A copy of ``network`` with its parameters and buffers there."""
        network = copy.deepcopy(network)
        for module in network.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(self.tensor(parameter), parameter.requires_grad)
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[name] = self.tensor(buffer)
        return network

    @contextmanager
    def entered(self) -> Iterator[HostReads]:
        """Let code that makes tensors on the device, or moves some there, find it; count what the host waits for."""
        with pytest.MonkeyPatch.context() as patch, HostReads() as counted, _Made(self, counted):
            # Under it torch takes operations apart where no mode sees the parts.
            patch.setattr(torch.inference_mode, "__enter__", lambda mode: None)
            patch.setattr(torch.inference_mode, "__exit__", lambda *_: None)
            yield counted


class _Made(TorchFunctionMode):
    """Calls that name the device, or take a tensor of it, are made in its mode: torch alone would look for a driver."""

    def __init__(self, pretended: PretendDevice, counted: HostReads):
        self.pretended, self.counted = pretended, counted

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(map(self._is_there, tree_leaves((args, kwargs)))):
            if func is torch.tensor:
                self.counted.copies["numbers of Python"] += 1
            kwargs = {name: value for name, value in kwargs.items() if name != "generator"}
            with self.pretended.mode:
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _is_there(self, value: Any) -> bool:
        if isinstance(value, torch.device):
            return value.type == self.pretended.device.type
        return isinstance(value, FakeTensor)
