"""Classifier-free guidance by one network pass of twice the images, or by two passes.

``python -m benchmarks.guidance_passes`` runs the network of the released latent model of Fashion-MNIST with each engine
that is installed, on one thread. It prints the milliseconds of a step's passes, the shortest of several, and their
ratio. The two ways take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from latentdiff import load
from latentdiff.errors import ConfigError

MODEL = "checkpoints/fashion-mnist/latent.safetensors"
BATCHES = (1, 4, 16, 64, 256)
SECONDS = 3.0


def shortest(ways: list[Callable[[], object]]) -> list[float]:
    """The least seconds of each, in turns."""
    best = [float("inf")] * len(ways)
    for way in ways:
        way()  # compiles
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for index, way in enumerate(ways):
            begun = time.perf_counter()
            way()
            best[index] = min(best[index], time.perf_counter() - begun)
    return best


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print("| Engine | Images | One pass, ms | Two passes, ms | Two / one |\n|:--|--:|--:|--:|--:|")
    for name in ("torch", "onnxruntime", "openvino"):
        try:
            model = load(MODEL, engine=name)
        except ConfigError:
            continue  # it is not installed
        assert model.engine is not None
        for batch in BATCHES:
            run = model.engine.network("fp32")
            x, time_, labels = torch.randn(batch, *model.codec.latent_shape), torch.full((batch,), 500.0), [0] * batch
            labels, nulls = torch.tensor(labels), torch.full((batch,), model.network.null_label)
            both = torch.cat([x, x]), torch.cat([time_, time_]), torch.cat([labels, nulls])
            with torch.inference_mode():
                one, two = shortest(
                    [lambda: run(*both), lambda: (run(x, time_, labels), run(x, time_, nulls))]  # noqa: B023
                )
            print(f"| {name} | {batch} | {1e3 * one:.1f} | {1e3 * two:.1f} | {two / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
