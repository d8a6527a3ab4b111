"""Devices, precisions and threads."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentdiff.errors import ConfigError

# A CPU's kernels for a small batch add in another order than those for a large one. From 16 images on they agree;
# convolutions of 8 images of 4x4 pixels still differ.
MIN_BATCH_SIZE = 16
# How many times as fast as fp32 a convolution in bf16 must be.
FASTER = 1.1


def resolve_device(name: str) -> torch.device:
    """Return the device for ``auto`` (a GPU where there is one), ``cpu``, ``gpu`` or ``cuda``.

    Raises:
        ConfigError: ``name`` is a GPU, and torch sees none.
    """
    if name in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(f"the device {name!r} was asked for, but torch sees no GPU here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_default_dtype() -> None:
    """Raise ConfigError where torch makes numbers of another type than fp32 unasked: layers would not take them."""
    if (dtype := torch.get_default_dtype()) != torch.float32:
        raise ConfigError(f"torch's default is {dtype} here: torch.set_default_dtype(torch.float32) sets it back")


def supports_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies in bf16. An emulation would be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type for ``fp32``, ``bf16`` or ``auto``, which is bf16 where the hardware is faster in it.

    Measured on two AVX-512 cores of an AMD EPYC, training in bf16 is 1.6 (autoencoder), 1.3 (latent U-Net) and 1.5
    (pixel U-Net) times as fast as in fp32.
    """
    if name == "auto":
        return torch.bfloat16 if supports_bf16(device) and is_faster_in_bf16(device.type) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


@cache
def is_faster_in_bf16(device_type: str) -> bool:
    """Whether bf16 is worth its rounding on hardware that supports it. A CPU is measured once, for about a tenth
    of a second if it is idle.

    Some processors have instructions for bf16 that do half of what their fp32 does: those with AVX-512 and AMX of which
    a virtual machine shows only the first.
    """
    if device_type != "cpu":
        return True
    kinds = (torch.float32, torch.bfloat16)
    best = dict.fromkeys(kinds, math.inf)
    for _ in range(8):  # in turns, so that other work disturbs both
        best = {kind: min(best[kind], convolution_seconds(kind)) for kind in kinds}
    return best[torch.float32] > FASTER * best[torch.bfloat16]


def convolution_seconds(kind: torch.dtype) -> float:
    """Seconds of one convolution as in a small U-Net, on the CPU."""
    x, weight = (
        torch.ones(shape, dtype=kind, device="cpu").contiguous(memory_format=torch.channels_last)
        for shape in ((32, 64, 14, 14), (64, 64, 3, 3))
    )
    begun = time.perf_counter()
    with torch.no_grad():
        functional.conv2d(x, weight, padding=1)
    return time.perf_counter() - begun


@contextmanager
def num_threads(count: int | None) -> Iterator[None]:
    """Run the block with ``count`` CPU threads of torch; None keeps the present number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def disable_tf32() -> Iterator[None]:
    """Run the block with convolutions and matrix products in full fp32.

    On recent GPUs, torch's default for convolutions is TF32, which has a mantissa of ten bits.
    """
    _in_full_precision.enter()
    try:
        yield
    finally:
        _in_full_precision.leave()


class _FullPrecision:
    """The switches of TF32, which all threads share: off until the last of those that want them off is done."""

    def __init__(self) -> None:
        self._turn, self._threads, self._before = threading.Lock(), 0, (False, True)

    def enter(self) -> None:
        with self._turn:
            if self._threads == 0:
                self._before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            self._threads += 1

    def leave(self) -> None:
        with self._turn:
            self._threads -= 1
            if self._threads == 0:
                torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


_in_full_precision = _FullPrecision()


def call_with_min_batch(function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """Call ``function`` with at least ``MIN_BATCH_SIZE`` images, and return the results of the given ones.

    A smaller batch is filled up with copies of its last image. Otherwise, one pixel in ten thousand of a sample would
    differ by one grey level between small and large batches.

    Args:
        function: Maps tensors [b, ...] to a tensor [b, ...], image by image.
        inputs: Tensors [b, ...], or None.

    Returns: [b, ...].
    """
    rows = next(len(tensor) for tensor in inputs if tensor is not None)
    if rows >= MIN_BATCH_SIZE:
        return function(*inputs)

    def filled(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return tensor[torch.arange(MIN_BATCH_SIZE, device=tensor.device).clamp(max=rows - 1)]

    return function(*map(filled, inputs))[:rows]


class CastNetwork:
    """A function that computes what ``network`` computes under autocast to ``dtype``, bit for bit.

    The weights are cast once instead of in every pass, which saves a tenth of a pass of 16 latents. Weights of norms
    and embeddings keep their type, as under autocast.

    Args:
        network: The network, whose present weights are copied.
        dtype: The type.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        self._source, self._dtype = network, dtype
        with torch.inference_mode(False):  # what that makes cannot be refreshed outside of it
            self._network = copy.deepcopy(network)
            for module in self._network.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    module.to(dtype)
            self._network.to(memory_format=torch.channels_last)  # as the maps are (models/memory_layout.py)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the network's present weights. The copies stay where they are."""
        for own, source in zip(self._tensors(self._network), self._tensors(self._source), strict=True):
            own.copy_(source)

    @staticmethod
    def _tensors(network: nn.Module) -> list[Tensor]:
        return [*network.parameters(), *network.buffers()]

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Return the network's output."""
        with torch.autocast(next(self._network.parameters()).device.type, self._dtype):
            return self._network(*inputs)
