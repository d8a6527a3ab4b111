"""Measure a machine's limits: arithmetic in matrix products and convolutions, and traffic to memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.benchmark.timing import synchronise
from latentdiff.precision import disable_tf32, supports_bf16

# The peak of the arithmetic is the best of these: sides of square products, and (images, channels, side) of 3x3
# convolutions.
PRODUCTS = (512, 1024, 2048)
CONVOLUTIONS = ((16, 64, 32), (16, 128, 32), (32, 128, 16))
# A GPU reaches its peak in larger ones.
PRODUCTS_OF_A_GPU = (*PRODUCTS, 4096, 8192)
CONVOLUTIONS_OF_A_GPU = (*CONVOLUTIONS, (256, 128, 64), (256, 256, 32), (256, 512, 16))
COPIED_BYTES = 128 * 2**20  # More than the caches of common processors hold.


@dataclass(frozen=True)
class Work:
    """The least work of a task.

    Attributes:
        flops: Floating-point operations.
        bytes: Bytes read from and written to memory that no cache can save.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class MachineLimits:
    """The best speeds that were measured on a machine.

    Attributes:
        flops: Floating-point operations a second by precision: ``fp32`` and, if the hardware has it, ``bf16``.
        kernels: The operation that reached them, by precision.
        bandwidth: Bytes a second, read and written, of a large copy.
    """

    flops: dict[str, float]
    kernels: dict[str, str]
    bandwidth: float

    def seconds(self, work: Work, dtype: torch.dtype) -> float:
        """Return the least seconds that ``work`` can take: of its arithmetic or its traffic, the longer."""
        peak = self.flops["bf16" if dtype == torch.bfloat16 else "fp32"]
        return max(work.flops / peak, work.bytes / self.bandwidth)


def training_work(flops: float, network: nn.Module, inputs: Iterable[Tensor]) -> Work:
    """Return the least work of one optimiser step.

    The bytes are the batch, and the weights, the gradients, AdamW's two momenta and the moving average, each read and
    written once. What lies between the layers could stay in a cache and is not counted.

    Args:
        flops: Operations of the batch, forward and backward.
        network: The network that is trained.
        inputs: The tensors of the batch.
    """
    state = 5 * 2 * sum(p.numel() * p.element_size() for p in network.parameters())
    return Work(flops, state + sum(tensor.numel() * tensor.element_size() for tensor in inputs))


def inference_work(flops: float, network: nn.Module, passes: int) -> Work:
    """Return the least work of ``passes`` forward passes with ``flops`` together. Each pass reads the weights."""
    return Work(flops, passes * sum(p.numel() * p.element_size() for p in network.parameters()))


def measure_limits(device: torch.device, seconds: float) -> MachineLimits:
    """Measure the limits of ``device``. Each precision, and the copying, takes ``seconds``."""
    flops, kernels = {}, {}
    for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        if name == "fp32" or supports_bf16(device):
            with torch.inference_mode(), disable_tf32():
                kernels[name], flops[name] = _fastest(_kernels(device, dtype), device, seconds)
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    _, bandwidth = _fastest([("copy", 2 * COPIED_BYTES, lambda: target.copy_(source))], device, seconds)
    return MachineLimits(flops, kernels, bandwidth)


def _kernels(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, float, Callable[[], Tensor]]]:
    """Yield name, operations and call of each candidate for the peak of the arithmetic."""
    is_gpu = device.type == "cuda"
    for n in PRODUCTS_OF_A_GPU if is_gpu else PRODUCTS:
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        yield f"{n}x{n} product", 2.0 * n**3, lambda a=a, b=b: a @ b
    for images, channels, side in CONVOLUTIONS_OF_A_GPU if is_gpu else CONVOLUTIONS:
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(images, channels, side, side, device=device, dtype=dtype).to(memory_format=layout)
            w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=layout)
            name = f"3x3 convolution of {channels} channels, {images} images of {side}x{side}"
            name += ", channels last" if layout == torch.channels_last else ""
            yield name, 18.0 * images * channels**2 * side**2, lambda x=x, w=w: F.conv2d(x, w, padding=1)


def _fastest(
    candidates: Iterable[tuple[str, float, Callable[[], Tensor]]], device: torch.device, seconds: float
) -> tuple[str, float]:
    """Return name and amount a second of the best single call of any candidate: a limit is a best value, no median."""
    candidates = list(candidates)
    best, winner = 0.0, ""
    for name, amount, call in candidates:
        call()
        synchronise(device)
        begin = time.perf_counter()
        while best == 0.0 or time.perf_counter() - begin < seconds / len(candidates):
            start = time.perf_counter()
            call()
            synchronise(device)
            rate = amount / (time.perf_counter() - start)
            if rate > best:
                best, winner = rate, name
    return winner, best
