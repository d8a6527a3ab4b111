"""Other projects' training and encoding, as contenders beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from latentdiff.benchmark.context import BenchmarkContext, random_images
from latentdiff.benchmark.networks import NUM_CLASSES, count_parameters
from latentdiff.benchmark.peer_loops import (
    Step,
    ddp_steps,
    diffusers_autoencoder_steps,
    diffusers_steps,
    fastest_layout,
)
from latentdiff.benchmark.peers import (
    DDP,
    DIFFUSERS,
    diffusers_autoencoder,
    find_peer,
    match_ddp_unet,
    match_diffusers_unet,
)
from latentdiff.benchmark.results import Contender
from latentdiff.benchmark.timing import timed_call
from latentdiff.benchmark.training_speed import AUTOENCODER_LOSS, DISTINCT_BATCHES
from latentdiff.codec import ENCODE_BATCH, to_float
from latentdiff.config import AutoencoderConfig, NetworkConfig, TrainerConfig
from latentdiff.evaluation.flops import count_flops


def build_autoencoder_steps(
    side: int, config: AutoencoderConfig, trainer: TrainerConfig, dtype: torch.dtype, device: torch.device
) -> Callable[[torch.memory_format], Step]:
    """Return a function that builds the training step of diffusers' AutoencoderKL in a memory layout."""
    vae = diffusers_autoencoder((3, side, side), config).to(device)
    images = to_float(random_images(DISTINCT_BATCHES * trainer.batch_size, side, device))
    return partial(diffusers_autoencoder_steps, vae, images, AUTOENCODER_LOSS, trainer, dtype)


def diffusers_autoencoder_training(
    context: BenchmarkContext, side: int, config: AutoencoderConfig, trainer: TrainerConfig
) -> Iterator[Contender]:
    """Yield the training of an AutoencoderKL with our channels and blocks."""
    if find_peer(context, DIFFUSERS):
        step = fastest_layout(
            build_autoencoder_steps(side, config, trainer, context.dtype, context.device), context.device
        )
        yield Contender(
            name=DIFFUSERS,
            call=timed_call(step, context.device, context.sizes.training_steps),
            parameters=count_parameters(diffusers_autoencoder((3, side, side), config)),
        )


def diffusers_encoding(context: BenchmarkContext, config: AutoencoderConfig, images: Tensor) -> Iterator[Contender]:
    """Yield the encoding of the same images by an AutoencoderKL, in as large batches; moments stay in memory."""
    if find_peer(context, DIFFUSERS):
        vae = diffusers_autoencoder(tuple(images.shape[1:]), config).to(context.device)
        step = fastest_layout(partial(_encoding, vae, to_float(images).to(context.device)), context.device)
        yield Contender(name=DIFFUSERS, call=timed_call(step, context.device))


def _encoding(vae: nn.Module, images: Tensor, layout: torch.memory_format) -> Callable[[], Tensor]:
    vae = vae.eval().to(memory_format=layout)
    chunks = [chunk.contiguous(memory_format=layout) for chunk in images.split(ENCODE_BATCH)]

    @torch.no_grad()
    def encode() -> Tensor:
        return torch.cat([vae.encode(chunk).latent_dist.parameters.cpu() for chunk in chunks])

    return encode


def diffusion_training(
    context: BenchmarkContext,
    shape: tuple[int, int, int],
    network: NetworkConfig,
    parameters: int,
    trainer: TrainerConfig,
) -> Iterator[Contender]:
    """Yield the training of diffusers' and denoising-diffusion-pytorch's networks of ``parameters`` parameters.

    Args:
        context: The benchmark's context.
        shape: Shape [c, h, w] of the images or latents.
        network: Our network's settings.
        parameters: Our network's number of parameters.
        trainer: Batch size and optimiser.
    """
    (channels, side, _), device = shape, context.device
    count = DISTINCT_BATCHES * trainer.batch_size
    data = (torch.randn(count, *shape, device=device), torch.arange(count, device=device) % NUM_CLASSES)
    two, labels = torch.zeros(2, *shape, device=device), torch.zeros(2, dtype=torch.long, device=device)

    def contender(name: str, unet: nn.Module, steps: Callable[..., Step], run_two: Callable[[], Tensor]) -> Contender:
        flops = count_flops(lambda: run_two().sum().backward()) / 2
        step = fastest_layout(partial(steps, unet, data, trainer, context.dtype), device)
        call = timed_call(step, device, context.sizes.training_steps)
        return Contender(name=name, call=call, parameters=count_parameters(unet), flops=flops)

    if find_peer(context, DIFFUSERS):
        unet = match_diffusers_unet(channels, side, network, parameters).to(device)
        yield contender(DIFFUSERS, unet, diffusers_steps, lambda unet=unet: unet(two, labels, labels).sample)
    if find_peer(context, DDP):
        unet = match_ddp_unet(channels, network, parameters).to(device)
        yield contender(DDP, unet, ddp_steps, lambda unet=unet: unet(two, labels.float()))
