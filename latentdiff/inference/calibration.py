"""What a network is given on its way from noise to images: the ranges of 8-bit numbers are measured on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from latentdiff.diffusion.denoiser import Network
from latentdiff.inference.engines.engine import Engine
from latentdiff.inference.engines.int8_graph import Calibration, Inputs

# Classes in turn, with guidance, so that "no class" is among them. The seed is none that people usually take.
IMAGES, STEPS, SEED, GUIDANCE = 32, 20, 20_001, 1.5


def calibration(record: Callable[[int, int, int, float], list[Inputs]], process: object) -> Calibration:
    """The inputs of a network in all steps of sampling 32 images.

    Args:
        record: Returns the inputs for a number of images, of steps, a seed and a scale of guidance.
        process: The settings of the diffusion process, which the inputs depend on.
    """
    asked = IMAGES, STEPS, SEED, GUIDANCE
    return Calibration(partial(record, *asked), repr((process, asked)))


class RecordingEngine:
    """An engine that keeps what the network is given.

    Args:
        engine: What runs the network.

    Attributes:
        recorded: The inputs of each pass.
    """

    name = "recorder"

    def __init__(self, engine: Engine):
        self.engine, self.recorded = engine, list[Inputs]()
        self.encode, self.decode = engine.encode, engine.decode

    def network(self, precision: str) -> Network:
        """Return the network, recorded."""
        function = self.engine.network(precision)

        def run(x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
            self.recorded.append((x.clone(), time.clone(), None if labels is None else labels.clone()))
            return function(x, time, labels)

        return run
