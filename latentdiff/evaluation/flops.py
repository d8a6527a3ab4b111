"""Arithmetic that a model costs: floating-point operations of an image, counted while it is computed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from latentdiff.diffusion.denoiser import Network
from latentdiff.inference.engines.engine import Engine
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import MIN_BATCH_SIZE

# Images of a counted training step. Batch norm takes no single one.
FEW = 2


def count_flops(function: Callable[[], Any]) -> int:
    """Operations of ``function()``: those of its products and convolutions, a multiplication and an addition being two.

    Norms, activations and the sampler's own arithmetic, a few per cent, are not in it.
    """
    counter = FlopCounterMode(display=False)
    # The counter does not know a CPU's fused attention.
    with counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def sampling_flops(model: DiffusionModel, request: SamplingRequest) -> float:
    """Of one image of ``request``, its decoding included; in whatever precision, counted in fp32, where no layout is
    changed by products."""
    # The counter sees torch's operations alone.
    model = model.with_engine("torch", exact=True)
    engines, last = _counted(model, request)
    decoding = count_flops(lambda: model.codec.decode(last))
    return (sum(engine.flops for engine in engines) + decoding) / MIN_BATCH_SIZE


def network_passes(model: DiffusionModel, request: SamplingRequest) -> int:
    """Network passes of one image of ``request``, those of guidance and of a guide included."""
    engines, _ = _counted(model.with_engine("torch", exact=True), request)
    return sum(engine.images for engine in engines) // MIN_BATCH_SIZE


def _counted(model: DiffusionModel, request: SamplingRequest) -> tuple[list[PassCounter], Tensor]:
    """Counters of the network's passes, and of a guide's, after a batch was sampled; and the last state of it."""
    few = replace(request, num_images=MIN_BATCH_SIZE, labels=None, prompt=None, batch_size=MIN_BATCH_SIZE)
    few = replace(few, precision="fp32", negative_prompt=None if request.negative_prompt is None else "")
    engines = []
    for each in (model, *([] if few.guide is None else [model.load_guide(few.guide)])):
        assert each.engine is not None  # the guide has the model's engine
        each.engine = PassCounter(each.engine)
        engines.append(each.engine)
    [(_, states)] = model.batches(few)
    *_, last = states
    return engines, last.x


class PassCounter:
    """An engine that runs the first pass of a network alone, and answers the others with zeros.

    All passes of a network cost the same for an image, and how many there are does not depend on what they return.

    Attributes:
        flops: Of all passes so far.
        images: That have gone through the network so far.
    """

    name = "counter"

    def __init__(self, engine: Engine):
        self.engine, self.flops, self.images = engine, 0.0, 0
        self.encode, self.decode = engine.encode, engine.decode
        self._first: tuple[float, Tensor] | None = None

    def network(self, precision: str) -> Network:
        """Return the network, counted."""
        function = self.engine.network(precision)

        def run(x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
            if self._first is None:
                outputs: list[Tensor] = []
                flops = count_flops(lambda: outputs.append(function(x, time, labels)))
                self._first = flops / len(x), outputs[0][:1].zero_()
            of_an_image, zeros = self._first
            self.flops += of_an_image * len(x)
            self.images += len(x)
            return zeros.expand(len(x), *zeros.shape[1:])

        return run


def training_flops(model: DiffusionModel) -> float:
    """Of one image in one training step, forward and backward; its encoding, once and for all, is not in it."""
    network = copy.deepcopy(model.network).train().requires_grad_()
    x = torch.zeros(FEW, *model.codec.latent_shape, device=model.device)
    time = torch.zeros(FEW, device=model.device)
    labels = network.zero_labels(FEW, model.device)
    return count_flops(lambda: network(x, time, labels).sum().backward()) / FEW
