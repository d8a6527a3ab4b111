"""Devices, and the arithmetic that is used on them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from latentdiff.errors import ConfigError

# A CPU's kernels for a handful of rows add in another order than those for many; from sixteen rows on they agree
# (convolutions at eight still do not, on images of 4x4).
MIN_BATCH_SIZE = 16


def resolve_device(name: str) -> torch.device:
    """The device that ``auto`` (a GPU where there is one), ``cpu``, ``gpu`` or ``cuda`` means here.

    Raises ValueError where a GPU is asked for and there is none.
    """
    if name in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(f"the device {name!r} was asked for, but torch sees no GPU here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def supports_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bf16; an emulation would be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """``fp32``, ``bf16``, or for ``auto`` bf16 where the hardware has it.

    Measured on two AVX-512 cores, training in bf16 is 1.6 (autoencoder), 1.3 (latent U-Net) and 1.5 (pixel U-Net) times
    as fast as in fp32.
    """
    if name == "auto":
        return torch.bfloat16 if supports_bf16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


@contextmanager
def num_threads(count: int | None) -> Iterator[None]:
    """torch with so many CPU threads; None leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def disable_tf32() -> Iterator[None]:
    """Convolutions and products in true fp32: on recent GPUs torch's default for convolutions is TF32, ten bits."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul


def call_with_min_batch(function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """``function`` of tensors [b, ...], computed on at least sixteen rows (the last one repeated) and cut back to b.

    Without this, one pixel in ten thousand of a sample would differ by a grey level between small and large batches.
    """
    rows = next(len(tensor) for tensor in inputs if tensor is not None)
    if rows >= MIN_BATCH_SIZE:
        return function(*inputs)
    index = torch.arange(MIN_BATCH_SIZE).clamp(max=rows - 1)
    return function(*(None if tensor is None else tensor[index.to(tensor.device)] for tensor in inputs))[:rows]


def cast_weights(network: nn.Module, dtype: torch.dtype) -> Callable[..., Tensor]:
    """``network`` as autocast to ``dtype`` computes it, to the same bits: the weights are cast once and not in every
    pass, which takes a tenth of one of 16 latents.

    It is a copy of the weights as they are now; those of norms and embeddings stay as they are, as under autocast.
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
    device = next(network.parameters()).device.type
    if device == "cpu":
        network.to(memory_format=torch.channels_last)

    def function(*inputs: Tensor | None) -> Tensor:
        with torch.autocast(device, dtype):
            return network(*inputs)

    return function
