"""Training speed of the autoencoder, and of the diffusion model in latents and in pixels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import lightning
import torch
from torch import Tensor

from latentdiff.benchmark.context import BenchmarkContext, no_competitors, random_images
from latentdiff.benchmark.machine_limits import training_work
from latentdiff.benchmark.networks import CLASS_NAMES, NUM_CLASSES, count_parameters, untrained_codec
from latentdiff.benchmark.results import OURS, Contender, Measurement, rates
from latentdiff.benchmark.timing import synchronise
from latentdiff.config import (
    AutoencoderConfig,
    AutoencoderLossConfig,
    DiffusionConfig,
    NetworkConfig,
    TrainerConfig,
)
from latentdiff.evaluation.flops import count_flops, training_flops
from latentdiff.files import scratch_folder
from latentdiff.inference.model import DiffusionModel
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.base_module import StageModule
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.trainer import fit

AUTOENCODER_PART, DIFFUSION_PART = "training the autoencoder", "training the diffusion model"
# L1 and KL alone.
AUTOENCODER_LOSS = AutoencoderLossConfig(perceptual_weight=0.0, adversarial_weight=0.0)
DISTINCT_BATCHES = 4  # Batches of data in memory.

# Other implementations that train the same autoencoder: of the context, the side of the images, the autoencoder's
# settings and the trainer's.
AutoencoderCompetitors = Callable[[BenchmarkContext, int, AutoencoderConfig, TrainerConfig], Iterable[Contender]]
# Other implementations that train as large a network: of the context, the shape [c, h, w] of what is denoised, our
# network's settings, its number of parameters and the trainer's settings.
DiffusionCompetitors = Callable[
    [BenchmarkContext, tuple[int, int, int], NetworkConfig, int, TrainerConfig], Iterable[Contender]
]


class TimedTrainer:
    """A timed call that trains for some steps, as the stages do: :func:`~latentdiff.training.trainer.fit`.

    Each call goes on where the last one stopped. It takes one step more than it times: the first step pays for setting
    up.

    Args:
        module: The Lightning module.
        tensors: The data that batches are drawn from.
        steps: Optimiser steps that are timed.
    """

    def __init__(self, module: StageModule, tensors: tuple[Tensor, ...], steps: int):
        self.module, self.tensors, self.steps = module, tensors, steps

    def __call__(self, *callbacks: lightning.Callback) -> float:
        """Train, with more of Lightning's callbacks, and return the seconds of the timed steps."""
        module, settings = self.module, self.module.settings
        images = (self.steps + 1) * settings.batch_size
        module.settings = replace(settings, max_images=module.images_seen + images, max_seconds=None)
        step_times = _StepTimes()
        with scratch_folder() as folder:
            fit(module, self.tensors, folder, [*callbacks, step_times], resume=False)
        return step_times.seconds[-1] - step_times.seconds[0]


class _StepTimes(lightning.Callback):
    """Notes the time at the end of every step."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, module: StageModule, *_) -> None:
        synchronise(module.device)
        self.seconds.append(time.perf_counter())


def autoencoder_trainer(
    side: int, config: AutoencoderConfig, trainer: TrainerConfig, steps: int, device: torch.device
) -> TimedTrainer:
    """Build a timed training of an autoencoder, with L1 and KL alone, on random images of ``side`` pixels."""
    module = AutoencoderModule((3, side, side), config, AUTOENCODER_LOSS, trainer, None)
    return TimedTrainer(module, (random_images(DISTINCT_BATCHES * trainer.batch_size, side, device),), steps)


def diffusion_trainer(
    side: int,
    autoencoder: AutoencoderConfig | None,
    network: NetworkConfig,
    trainer: TrainerConfig,
    steps: int,
    device: torch.device,
) -> TimedTrainer:
    """Build a timed training of a denoising network on random data: latents of ``autoencoder``, or pixels for None."""
    codec = untrained_codec(side, autoencoder).to(device)
    module = DiffusionModule(codec, NUM_CLASSES, network, DiffusionConfig(), trainer)
    count = DISTINCT_BATCHES * trainer.batch_size
    if autoencoder is None:
        moments = random_images(count, side, device)
    else:
        channels, *sides = codec.latent_shape
        moments = torch.randn(count, 2 * channels, *sides, device=device)
    return TimedTrainer(module, (moments, torch.arange(count, device=device) % NUM_CLASSES), steps)


def diffusion_contender(
    context: BenchmarkContext,
    name: str,
    side: int,
    autoencoder: AutoencoderConfig | None,
    network: NetworkConfig,
    batch: int,
    steps: int,
    count_flops: bool = True,
) -> Contender:
    """Build our training of the diffusion model; its call is the :class:`TimedTrainer` of :func:`diffusion_trainer`.

    Args:
        context: The benchmark's context.
        name: The contender's name.
        side: Side of the RGB images, in pixels.
        autoencoder: The autoencoder whose latents are denoised, or None for pixels.
        network: The denoising network.
        batch: Images in a training step.
        steps: Optimiser steps that are timed.
        count_flops: Whether to count the operations, which gives the limit too. It needs the memory of a training step
            of 16 images.
    """
    timed = diffusion_trainer(side, autoencoder, network, context.trainer_config(batch), steps, context.device)
    module, parameters = timed.module, count_parameters(timed.module.network)
    if not count_flops:
        return Contender(name=name, call=timed, parameters=parameters)
    model = DiffusionModel(module.ema.network, network, module.diffusion, module.codec, CLASS_NAMES)
    flops = training_flops(model)
    work = training_work(batch * flops, module.network, [torch.empty(batch, *module.codec.latent_shape)])
    return Contender(
        name=name,
        call=timed,
        parameters=parameters,
        flops=flops,
        limit=batch / context.limits.seconds(work, context.dtype),
    )


def measure_autoencoder_training(
    context: BenchmarkContext, competitors: AutoencoderCompetitors = no_competitors
) -> Iterator[Measurement]:
    """Measure images/s of the autoencoder's training at each side."""
    sizes = context.sizes
    config = sizes.networks[0].autoencoder  # The one without patches, which other packages do not have.
    for networks in sizes.networks:
        side, batch = networks.side, networks.autoencoder_batch
        trainer = context.trainer_config(batch)
        timed = autoencoder_trainer(side, config, trainer, sizes.training_steps, context.device)
        network = timed.module.network
        work = training_work(batch * autoencoder_flops(side, config), network, timed.tensors[0][:batch])
        limit = batch / context.limits.seconds(work, context.dtype)
        ours = Contender(name=OURS, call=timed, parameters=count_parameters(network), limit=limit)
        contenders = [ours, *competitors(context, side, config, trainer)]
        timings = context.time_contenders(contenders)
        yield Measurement(
            part=AUTOENCODER_PART,
            name=f"{side} px, batch {batch}",
            unit="images/s",
            values=rates(contenders, timings, sizes.training_steps * batch),
            note="loss: L1 + KL; weights averaged in every step",
        )


def autoencoder_flops(side: int, config: AutoencoderConfig) -> float:
    """Count the operations of one image in a training step of the autoencoder, forward and backward, without LPIPS."""
    network = Autoencoder((3, side, side), config)
    image, latent = torch.zeros(1, 3, side, side), torch.zeros(1, *network.latent_shape, requires_grad=True)
    return count_flops(lambda: (network.encode(image).sum() + network.decode(latent).sum()).backward())


def measure_diffusion_training(
    context: BenchmarkContext, competitors: DiffusionCompetitors = no_competitors
) -> Iterator[Measurement]:
    """Measure images/s of the diffusion model's training at each side, in latents and in pixels."""
    steps = context.sizes.training_steps
    for networks in context.sizes.networks:
        for space, autoencoder, network, batch in (
            ("latents", networks.autoencoder, networks.latent_network, networks.latent_batch),
            ("pixels", None, networks.pixel_network, networks.pixel_batch),
        ):
            ours = diffusion_contender(context, OURS, networks.side, autoencoder, network, batch, steps)
            shape = untrained_codec(networks.side, autoencoder).latent_shape
            others = competitors(context, shape, network, ours.parameters, context.trainer_config(batch))
            contenders = [ours, *others]
            yield Measurement(
                part=DIFFUSION_PART,
                name=f"{space}, {networks.side} px ({'x'.join(map(str, shape))}), batch {batch}",
                unit="images/s",
                values=rates(contenders, context.time_contenders(contenders), steps * batch),
                note="weights averaged in every step",
            )
