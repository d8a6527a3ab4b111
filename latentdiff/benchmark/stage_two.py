"""Stage two: training the denoising network, on latents and on pixels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from latentdiff.benchmark.bench import Bench, random_images
from latentdiff.benchmark.limits import training_work
from latentdiff.benchmark.loops import TrainerTurn, best_layout, ddp_steps, diffusers_steps
from latentdiff.benchmark.peers import CLASSES, DDP, DIFFUSERS, equal_ddp_unet, equal_diffusers_unet, parameters
from latentdiff.benchmark.rows import Figure, Row, Target
from latentdiff.benchmark.scale import Setting
from latentdiff.benchmark.timing import Turn, timed
from latentdiff.codec import AutoencoderCodec, Codec, IdentityCodec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.evaluation.flops import counted, training_flops
from latentdiff.inference.model import DiffusionModel
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.training.diffusion_module import DiffusionModule

PART = "stage-two training"
LATENTS_FASTER, PIXELS_FASTER = 1.5, 1.2
CLASS_NAMES = tuple(map(str, range(CLASSES)))


def untrained_codec(side: int, config: AutoencoderConfig | None) -> Codec:
    """An autoencoder of random weights, or the identity: how long it takes depends on their number alone."""
    if config is None:
        return IdentityCodec((3, side, side))
    channels = config.latent_channels
    return AutoencoderCodec(Autoencoder((3, side, side), config), config, torch.zeros(channels), torch.ones(channels))


def our_turn(
    side: int,
    autoencoder: AutoencoderConfig | None,
    network: NetworkConfig,
    settings: TrainerConfig,
    steps: int,
    device: torch.device,
) -> TrainerTurn:
    """Turns of our trainer on an autoencoder's latents, or without one on pixels."""
    codec = untrained_codec(side, autoencoder).to(device)
    module = DiffusionModule(codec, CLASSES, network, DiffusionConfig(), settings)
    count = 4 * settings.batch_size
    if autoencoder is None:
        moments = random_images(count, side, device)
    else:
        channels, *sides = codec.latent_shape
        moments = torch.randn(count, 2 * channels, *sides, device=device)
    return TrainerTurn(module, (moments, torch.arange(count, device=device) % CLASSES), steps)


def model_of(turn: TrainerTurn, network: NetworkConfig) -> DiffusionModel:
    """The model that a trainer trains, of that ``network``."""
    module = turn.module
    return DiffusionModel(module.ema.network, network, module.diffusion, module.codec, CLASS_NAMES)


def spaces(setting: Setting) -> Iterator[tuple[str, AutoencoderConfig | None, NetworkConfig, int, float]]:
    """Name, autoencoder, network, batch and target of the two paths."""
    yield "latents", setting.autoencoder, setting.latent, setting.latent_batch, LATENTS_FASTER
    yield "pixels", None, setting.pixel, setting.pixel_batch, PIXELS_FASTER


def rivals(
    bench: Bench, shape: tuple[int, int, int], network: NetworkConfig, wanted: int, settings: TrainerConfig
) -> Iterator[tuple[str, Turn, dict[str, Any]]]:
    """The peers that are here: name, turn, and what is known of the network.

    Args:
        bench: Whose peers and device.
        shape: Of what is denoised.
        network: Ours.
        wanted: Its number of parameters.
        settings: Batch size and optimiser.
    """
    channels, side, _ = shape
    count = 4 * settings.batch_size
    data = (torch.randn(count, *shape, device=bench.device), torch.arange(count, device=bench.device) % CLASSES)
    few = (torch.zeros(2, *shape, device=bench.device), torch.zeros(2, dtype=torch.long, device=bench.device))
    steps = bench.scale.training_steps
    if bench.peers.get(DIFFUSERS):
        unet = equal_diffusers_unet(channels, side, network, wanted).to(bench.device)
        flops = counted(lambda: unet(few[0], few[1], few[1]).sample.sum().backward()) / 2
        step, _ = best_layout(partial(diffusers_steps, unet, data, settings, bench.dtype), bench.device)
        yield DIFFUSERS, timed(step, bench.device, steps), {"parameters": parameters(unet), "flops": flops}
    if bench.peers.get(DDP):
        unet = equal_ddp_unet(channels, network, wanted).to(bench.device)
        flops = counted(lambda: unet(few[0], few[1].float()).sum().backward()) / 2
        step, _ = best_layout(partial(ddp_steps, unet, data, settings, bench.dtype), bench.device)
        yield DDP, timed(step, bench.device, steps), {"parameters": parameters(unet), "flops": flops}


def training(bench: Bench) -> Iterator[Row]:
    """Images/s in latents and in pixels at each side, the peers' networks as large as ours."""
    steps = bench.scale.training_steps
    for setting in bench.scale.settings:
        for name, autoencoder, network, batch, target in spaces(setting):
            settings = bench.trainer(batch)
            ours = our_turn(setting.side, autoencoder, network, settings, steps, bench.device)
            shape, wanted = ours.module.codec.latent_shape, parameters(ours.module.network)
            flops = training_flops(model_of(ours, network))
            turns: dict[str, Turn] = {"latentdiff": ours}
            known = {"latentdiff": {"parameters": wanted, "flops": flops}}
            for peer, turn, details in rivals(bench, shape, network, wanted, settings):
                turns[peer], known[peer] = turn, details
            timings = bench.race(turns)
            work = training_work(batch * flops, ours.module.network, [torch.empty(batch, *shape)])
            yield Row(
                part=PART,
                what=f"{name}, {setting.side} px ({'x'.join(map(str, shape))}), batch {batch}",
                unit="images/s",
                figures={key: Figure.rate(timing, steps * batch, **known[key]) for key, timing in timings.items()},
                floor=batch / bench.limits.seconds(work, bench.dtype),
                target=Target(at_least=target),
                note="equal parameters; ours averages the weights, theirs do not",
            )
