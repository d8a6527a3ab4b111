"""Fully sharded training: each process keeps a share of the weights, their gradients and the optimiser's state."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from latentdiff import distributed
from latentdiff.models.layers import ResBlock


def shard(network: nn.Module, device: torch.device) -> None:
    """Shard a network's parameters over all processes, in place, block by block (FSDP2, torch's ``fully_shard``).

    Its submodules are to be called as modules: their weights are whole only while their ``forward`` runs.
    """
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    for module in network.modules():
        if isinstance(module, ResBlock) and module is not network:
            fully_shard(module, mesh=mesh)
    # The outermost part too: a frozen encoder has no backward pass, after which it would be cut again.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a share of the tensor alone."""
    return hasattr(tensor, "full_tensor")


def own_share(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it if it is not sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def sharded_like(whole: Tensor, sharded: Tensor) -> Tensor:
    """``whole``, sharded like ``sharded`` and on its device; unchanged if ``sharded`` is not sharded."""
    if not is_sharded(sharded):
        return whole
    # Without a source, each process cuts what it has, and nothing is sent.
    own = whole.to(sharded.device)
    return distribute_tensor(own, sharded.device_mesh, sharded.placements, src_data_rank=None)


def gather_whole(share: Tensor, sharded: Tensor) -> Tensor:
    """The whole tensor, gathered from the shares of all processes. All processes must call it."""
    if not is_sharded(sharded):
        return share
    whole = DTensor.from_local(
        share, sharded.device_mesh, sharded.placements, run_check=False, shape=sharded.shape, stride=sharded.stride()
    )
    return whole.full_tensor()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of parameters that are not sharded. Without DDP nothing else averages them."""
    for parameter in parameters:
        if not is_sharded(parameter) and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= distributed.world_size()


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """``clip_grad_norm_`` over all processes, where some parameters are sharded; the norm before, on the device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    device = own_share(gradients[0]).device
    squares = {kind: torch.zeros((), dtype=torch.float64, device=device) for kind in (False, True)}
    for gradient in gradients:
        squares[is_sharded(gradient)] += own_share(gradient).double().square().sum()
    norm = (squares[False] + distributed.world_size() * distributed.all_reduce_mean(squares[True])).sqrt()
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([own_share(gradient) for gradient in gradients], factor)
    return norm
