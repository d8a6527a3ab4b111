"""Compute, without any measurement, how training would scale to more processes and to larger images.

python -m benchmarks.scaling_projection
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentdiff.benchmark.networks import NUM_CLASSES, count_parameters, untrained_model
from latentdiff.benchmark.sizes import NetworkSizes, networks_32, networks_64
from latentdiff.benchmark.training_speed import autoencoder_flops
from latentdiff.evaluation.flops import training_flops
from latentdiff.models.network import build_network

STEP_SECONDS = (0.005, 0.02, 0.1)
# Of the measured job: a step of 128 images by one process, and the rate of the all-reduce.
MEASURED_STEP, MEASURED_RATE = 0.28, 1.3e9
SIDES = (64, 256)


@dataclass(frozen=True)
class Link:
    """The link between two neighbours of a ring.

    Attributes:
        bytes_per_second: Its rate.
        latency: Seconds of a hop.
    """

    bytes_per_second: float
    latency: float = 0.0


LINKS = {"8 GPUs of one machine": (8, Link(50e9, 10e-6)), "64 GPUs on 8 machines": (64, Link(12.5e9, 10e-6))}


def ring_all_reduce_seconds(processes: int, gradient_bytes: float, link: Link) -> float:
    """Seconds of an all-reduce in a ring: 2 (n - 1) hops, each with an n-th of the gradient."""
    hops = 2 * (processes - 1)
    return hops * (gradient_bytes / processes / link.bytes_per_second + link.latency)


def efficiency(step: float, all_reduce: float) -> float:
    """Share of the time that a process computes, if nothing of the all-reduce is hidden behind the step."""
    return step / (step + all_reduce)


def training_operations(networks: NetworkSizes, side: int) -> tuple[float, float]:
    """Operations of an image in a training step: of the latent diffusion model, and of the autoencoder."""
    model = untrained_model(side, networks.autoencoder, networks.latent_network, torch.device("cpu"))
    return training_flops(model), autoencoder_flops(side, networks.autoencoder)


def main() -> None:
    """Print the projections."""
    small = networks_32(1, 1, 1)
    parameters = count_parameters(build_network(small.autoencoder.latent_channels, NUM_CLASSES, small.latent_network))
    gradient = 4.0 * parameters
    print(f"Gradient: {parameters / 1e6:.2f} M parameters, {gradient / 1e6:.0f} MB in fp32")
    for name, (processes, link) in LINKS.items():
        seconds = ring_all_reduce_seconds(processes, gradient, link)
        shares = ", ".join(f"{efficiency(step, seconds):.0%} at {step * 1e3:g} ms" for step in STEP_SECONDS)
        print(f"{name}: all-reduce {seconds * 1e3:.2g} ms; efficiency {shares} a step")
    for processes in (8, 64):
        seconds = ring_all_reduce_seconds(processes, gradient, Link(MEASURED_RATE))
        share = efficiency(MEASURED_STEP, seconds)
        print(
            f"{processes} processes, measured link and step: all-reduce {seconds * 1e3:.0f} ms; efficiency {share:.0%}"
        )
    for side in SIDES:
        diffusion, autoencoder = training_operations(networks_64(1, 1, 1), side)
        print(f"{side} px: operations an image {diffusion:.1e} (diffusion model), {autoencoder:.1e} (autoencoder)")


if __name__ == "__main__":
    main()
