"""The time that Lightning adds to a training step: our trainer beside a plain loop with the same work."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.peer_loops import Step, autocast
from latentdiff.benchmark.results import OURS, Measurement, Target, Value
from latentdiff.benchmark.timing import timed_call
from latentdiff.benchmark.training_speed import diffusion_trainer
from latentdiff.diffusion.loss import diffusion_loss
from latentdiff.diffusion.noise_levels import add_noise
from latentdiff.training.base_module import adamw
from latentdiff.training.diffusion_module import DiffusionModule

PART = "overhead of Lightning"
PLAIN_LOOP = "plain loop"
MAX_PERCENT = 5.0
STEPS = 4  # In a timed call. Few steps, so that both loops see the same load of a shared machine.
MIN_ROUNDS = 7  # A difference of a few per cent is measured on machines whose rounds differ by as much.


def plain_steps(module: DiffusionModule, tensors: tuple[Tensor, Tensor], dtype: torch.dtype) -> Step:
    """Return the training step of ``module`` as a plain loop would do it, on a copy of its network.

    Network, target, weight, optimiser and moving average are the same. There is no Lightning, no seed for each step, no
    schedule of the learning rate, no check and no log.

    Args:
        module: The Lightning module, without a learned variance.
        tensors: Moments [n, ...] and labels [n] on its device.
        dtype: Precision of autocast.
    """
    settings, config, codec = module.settings, module.diffusion, module.codec
    network, ema = copy.deepcopy(module.network).train(), copy.deepcopy(module.ema)
    moments, labels = tensors
    device, size = moments.device, settings.batch_size
    optimizer = adamw(network.parameters(), settings.lr, settings.betas, settings.weight_decay)
    weights = list(network.parameters())
    images_seen = 0

    def step() -> None:
        nonlocal images_seen
        # A batch of latents, and labels that are at times hidden.
        index = torch.randint(0, len(moments), (size,), device=device)
        x0 = codec.sample(moments[index])
        hidden = torch.rand(size, device=device) < config.class_dropout
        classes = None if network.null_label is None else torch.where(hidden, network.null_label, labels[index])
        # Noise.
        levels = module.schedule.training_levels((torch.rand(()) + torch.arange(size) / size) % 1.0)
        noise = torch.randn_like(x0)
        noisy = module.target.scale_input(add_noise(x0, noise, levels), levels)
        # Loss and gradient.
        with autocast(device, dtype):
            output = network(noisy, levels.time.to(device, torch.float32), classes)
            loss = diffusion_loss(output, x0, noise, levels, module.target, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # Weights and their average.
        nn.utils.clip_grad_norm_(weights, settings.grad_clip)
        optimizer.step()
        images_seen += size
        ema.update(network, images_seen, size)

    return step


def measure_lightning_overhead(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure seconds a step of both loops, and the median over the rounds of the share that Lightning adds."""
    networks = context.sizes.networks[0]
    trainer = context.trainer_config(networks.latent_batch)
    ours = diffusion_trainer(
        networks.side, networks.autoencoder, networks.latent_network, trainer, STEPS, context.device
    )
    plain = timed_call(plain_steps(ours.module, ours.tensors, context.dtype), context.device, STEPS)
    timings = context.time({OURS: ours, PLAIN_LOOP: plain}, MIN_ROUNDS)
    name = f"latents, {networks.side} px, batch {trainer.batch_size}"
    yield Measurement(
        part=PART,
        name=f"a step, {name}",
        unit="s",
        values={key: Value.seconds(timing, STEPS) for key, timing in timings.items()},
        more_is_better=False,
    )
    rounds = zip(timings[OURS].seconds, timings[PLAIN_LOOP].seconds, strict=True)
    percent = 100 * (statistics.median(long / short for long, short in rounds) - 1)
    yield Measurement(
        part=PART,
        name=f"more than a plain loop, {name}",
        unit="%",
        values={OURS: Value.single(percent)},
        more_is_better=False,
        target=Target(max_value=MAX_PERCENT),
        note="a step includes seeding, checks, logged losses and the learning rate's schedule",
    )
