"""The machine's limits, measured: arithmetic in products and convolutions, and traffic to memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.benchmark.timing import synchronise
from latentdiff.precision import disable_tf32, supports_bf16

# Sides of the square products, and (images, channels, side) of the 3x3 convolutions, that the peak is sought among.
PRODUCTS = (512, 1024, 2048)
CONVOLUTIONS = ((16, 64, 32), (16, 128, 32), (32, 128, 16))
COPIED = 128 * 2**20  # Bytes; beyond the caches of the processors that this runs on.


@dataclass(frozen=True)
class Limits:
    """What the machine was seen to reach at best.

    Attributes:
        flops: Operations a second by precision, ``fp32`` and, where the hardware has it, ``bf16``.
        kernels: What reached them.
        bandwidth: Bytes a second, those read and those written, of a large copy.
    """

    flops: dict[str, float]
    kernels: dict[str, str]
    bandwidth: float

    def seconds(self, work: Work, dtype: torch.dtype) -> float:
        """The least time that ``work`` can take: its arithmetic or its traffic, whichever is longer."""
        peak = self.flops["bf16" if dtype == torch.bfloat16 else "fp32"]
        return max(work.flops / peak, work.bytes / self.bandwidth)


@dataclass(frozen=True)
class Work:
    """What must be done at least: ``flops`` operations, and ``bytes`` that no cache can save."""

    flops: float
    bytes: float


def training_work(flops: float, network: nn.Module, inputs: Iterable[Tensor]) -> Work:
    """Of one optimiser step.

    Its bytes: the batch, and weights, gradients, AdamW's two momenta and the moving average, each read and written
    once. What lies between the layers could stay in a cache, so it is not counted.

    Args:
        flops: Of the batch, forward and backward.
        network: What is trained.
        inputs: The batch.
    """
    state = 5 * 2 * sum(p.numel() * p.element_size() for p in network.parameters())
    return Work(flops, state + sum(tensor.numel() * tensor.element_size() for tensor in inputs))


def passes_work(flops: float, network: nn.Module, passes: int) -> Work:
    """Of so many passes in a row, of ``flops`` together: the weights are read in each."""
    return Work(flops, passes * sum(p.numel() * p.element_size() for p in network.parameters()))


def measure_limits(device: torch.device, seconds: float) -> Limits:
    """The limits of ``device``; ``seconds`` is what each precision and the copying may take."""
    flops, kernels = {}, {}
    for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        if name == "fp32" or supports_bf16(device):
            with torch.inference_mode(), disable_tf32():
                kernels[name], flops[name] = _fastest(_kernels(device, dtype), device, seconds)
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    _, bandwidth = _fastest([("copy", 2 * COPIED, lambda: target.copy_(source))], device, seconds)
    return Limits(flops, kernels, bandwidth)


def _kernels(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, float, Callable[[], Tensor]]]:
    """Name, operations and call of each candidate."""
    for n in PRODUCTS:
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        yield f"{n}x{n} product", 2.0 * n**3, lambda a=a, b=b: a @ b
    for images, channels, side in CONVOLUTIONS:
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(images, channels, side, side, device=device, dtype=dtype).to(memory_format=layout)
            w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=layout)
            name = f"3x3 convolution of {channels} channels, {images} images of {side}x{side}"
            name += ", channels last" if layout == torch.channels_last else ""
            yield name, 18.0 * images * channels**2 * side**2, lambda x=x, w=w: F.conv2d(x, w, padding=1)


def _fastest(
    candidates: Iterable[tuple[str, float, Callable[[], Tensor]]], device: torch.device, seconds: float
) -> tuple[str, float]:
    """Name and amount a second of the best single call of any candidate: a limit is what was reached, not a median."""
    candidates = list(candidates)
    best, winner = 0.0, ""
    for name, amount, call in candidates:
        call()
        synchronise(device)
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds / len(candidates):
            start = time.perf_counter()
            call()
            synchronise(device)
            rate = amount / (time.perf_counter() - start)
            if rate > best:
                best, winner = rate, name
    return winner, best
