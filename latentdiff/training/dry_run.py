"""What a training will need (parameters, operations, memory, time), found from a step on tensors without data."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latentdiff import distributed
from latentdiff.codec import AutoencoderCodec
from latentdiff.precision import resolve_device
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.base_module import StageModule
from latentdiff.training.chosen_precision import choose_precision
from latentdiff.training.residence import stays_on_device
from latentdiff.training.step_flops import FlopCounter

# Dense bf16 operations a second with sums in fp32, from the makers' data sheets.
GPU_PEAKS = {"L4": 121e12, "RTX 4090": 165e12, "A100": 312e12, "H100 SXM": 989e12}
# Of the peak: what a training of such networks is expected to reach.
EXPECTED_SHARE = 0.35


@dataclass(frozen=True)
class StepCost:
    """What one training step costs a process.

    Attributes:
        flops: Floating-point operations of an image, forward and backward.
        weights: Bytes of the weights, the averages and the frozen networks.
        optimizer: Bytes of the optimisers' state.
        step: Bytes of activations and gradients, at most.
    """

    flops: float
    weights: int
    optimizer: int
    step: int

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return self.weights + self.optimizer + self.step


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made in its block and still exist; ``peak`` is the maximum."""

    def __init__(self):
        super().__init__()
        self._storages: dict[weakref.ref, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in given:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        reference = weakref.ref(storage, self._remove)
        if reference not in self._storages:
            self._storages[reference] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _remove(self, reference: weakref.ref) -> None:
        self.now -= self._storages.pop(reference, 0)


def step_cost(module: StageModule, sample: tuple[Tensor, ...], dtype: torch.dtype = torch.float32) -> StepCost:
    """Find what a step of ``module`` costs. Nothing is computed, and the module stays as it is.

    Args:
        module: The training step.
        sample: What a batch is drawn from, [n, ...] each; their shapes and types are used.
        dtype: bf16 is autocast. Operations are counted in fp32, where no layout is changed by products.
    """
    traced = copy.deepcopy(module).train()
    size = module.settings.batch_size // distributed.world_size()
    if isinstance(traced, AutoencoderModule):
        for part in traced.micro_batches(size):
            traced._counted_images(part)  # chosen by numbers, once a phase
    with FakeTensorMode(allow_non_fake_inputs=True):
        _drop_numbers(traced)
        optimizers: Any = traced.configure_optimizers()
        _replace(traced, optimizers=lambda: optimizers, manual_backward=lambda loss: loss.backward())
        traced.images_seen = 10**12  # the discriminators have begun
        batch = tuple(torch.empty(size, *tensor.shape[1:], dtype=tensor.dtype) for tensor in sample)
        with FlopCounter() as counter:
            traced.train_batch(batch)
        with _LiveBytes() as live, torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            traced.train_batch(batch)
    optimizer = sum(_bytes(tree_leaves(list(own.state.values()))) for own in tree_leaves(optimizers))
    networks = [traced, *getattr(traced, "_perceptual", [])]
    weights = sum(_bytes([*net.parameters(), *net.buffers()]) for net in networks if net is not None)
    if module.sharded:  # of the network a share, of its average the whole and a share
        own = _bytes(traced.network.parameters())
        weights += 2 * own // distributed.world_size() - own
        optimizer //= distributed.world_size()
    return StepCost(counter.total / size, weights, optimizer, live.peak)


def phase_costs(module: StageModule, sample: tuple[Tensor, ...], dtype: torch.dtype) -> list[StepCost]:
    """:func:`step_cost` of each phase of a run; most have one."""
    if not isinstance(module, AutoencoderModule):
        return [step_cost(module, sample, dtype)]
    costs = []
    for losses in module._losses:
        phase = copy.copy(module)
        phase.loss = losses
        costs.append(step_cost(phase, sample, dtype))
    return costs


def largest(costs: Iterable[StepCost]) -> StepCost:
    """The cost of the phase that needs the most memory, which is what a run needs."""
    return max(costs, key=lambda cost: cost.total)


def data_bytes(sample: tuple[Tensor, ...], count: int) -> int:
    """Bytes of ``count`` images like ``sample`` [n, ...]."""
    return count * _bytes(sample) // len(sample[0])


def _drop_numbers(traced: StageModule) -> None:
    """Replace parameters and buffers by tensors that have only a shape and a type."""
    for part in [traced, *filter(None, getattr(traced, "_perceptual", []))]:
        for child in part.modules():
            for name, parameter in list(child._parameters.items()):
                if parameter is not None:
                    child._parameters[name] = nn.Parameter(torch.empty_like(parameter), parameter.requires_grad)
            for name, buffer in list(child._buffers.items()):
                if buffer is not None:
                    child._buffers[name] = torch.empty_like(buffer)
    codec = getattr(traced, "codec", None)
    if isinstance(codec, AutoencoderCodec):  # it is on the device already, and the step is traced on the CPU
        codec.mean, codec.std = (torch.empty_like(value, device="cpu") for value in (codec.mean, codec.std))


def _replace(traced: StageModule, **methods: Any) -> None:
    """Stand in for what Lightning brings to a step."""
    for name, method in methods.items():
        setattr(traced, name, method)


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))


def print_dry_run(module: StageModule, sample: tuple[Tensor, ...], count: int) -> None:
    """Print what training ``module`` on ``count`` images like ``sample`` [n, ...] will need.

    A run with phases needs the memory of its largest phase. Its operations are the mean over the run.
    """
    settings = module.settings
    dtype = module.dtype_of_run or choose_precision(settings, resolve_device(settings.accelerator))
    shares, costs = [1.0], phase_costs(module, sample, dtype)
    if isinstance(module, AutoencoderModule):
        shares = [end - start for start, end in pairwise([0.0, *(phase.start for phase in module.phases), 1.0])]
    most = largest(costs)
    flops = sum(share * cost.flops for share, cost in zip(shares, costs, strict=True))
    data = data_bytes(sample, count)
    resident = stays_on_device(data, settings, resolve_device(settings.accelerator))
    rows = [
        ("parameters", f"{sum(p.numel() for p in module.network.parameters()):,}"),
        ("an image", f"{flops / 1e9:,.2f} GFLOP, forward and backward"),
        ("images and latents", size_words(data) + ("" if resident else ", not kept on the device")),
        ("weights and averages", size_words(most.weights)),
        ("optimiser", size_words(most.optimizer)),
        ("activations and gradients", f"{size_words(most.step)}, in {str(dtype).removeprefix('torch.')}"),
        ("memory in all", size_words(most.total + data * resident)),
    ]
    if (processes := distributed.world_size()) > 1:
        rows[-1] = (f"memory of each of {processes}", rows[-1][1])
    rows += [(f"expected on {name}", _time(flops, peak, settings)) for name, peak in GPU_PEAKS.items()]
    for name, value in rows:
        print(f"{name:<26} {value}")
    print(f"The times are estimates, at {EXPECTED_SHARE:.0%} of a GPU's peak in bf16; none was measured.")


def size_words(count: float) -> str:
    """An amount of memory in GiB or MiB."""
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def _time(flops: float, peak: float, settings: Any) -> str:
    speed = EXPECTED_SHARE * peak / flops * distributed.world_size()
    if settings.max_images:
        seconds = settings.max_images / speed
        if not settings.max_seconds or seconds <= settings.max_seconds:
            return f"{seconds:,.0f} s for {settings.max_images:,} images"
    return f"{settings.max_seconds * speed:,.0f} images in {settings.max_seconds:,g} s"
