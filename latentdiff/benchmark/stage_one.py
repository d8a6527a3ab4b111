"""Stage one: training the autoencoder, and encoding to the cache."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from latentdiff.benchmark.bench import Bench, random_images
from latentdiff.benchmark.limits import passes_work, training_work
from latentdiff.benchmark.loops import Step, TrainerTurn, best_layout, diffusers_autoencoder_steps
from latentdiff.benchmark.memory import Case, peak_memories
from latentdiff.benchmark.peers import DIFFUSERS, diffusers_autoencoder, parameters
from latentdiff.benchmark.rows import Figure, Row, Target
from latentdiff.benchmark.timing import timed
from latentdiff.codec import ENCODE_BATCH, AutoencoderCodec, to_float
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, TrainerConfig
from latentdiff.data import ImageDataset
from latentdiff.evaluation.flops import counted
from latentdiff.latents import cached_moments
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.training.autoencoder_module import AutoencoderModule

TRAINING, ENCODING = "stage-one training", "encoding to the cache"
LOSSES = AutoencoderLossConfig(perceptual_weight=0.0, adversarial_weight=0.0)
FASTER = 1.3


def our_turn(
    side: int, config: AutoencoderConfig, settings: TrainerConfig, steps: int, device: torch.device
) -> TrainerTurn:
    """Turns of our trainer on L1 and KL alone."""
    module = AutoencoderModule((3, side, side), config, LOSSES, settings, None)
    return TrainerTurn(module, (random_images(4 * settings.batch_size, side, device),), steps)


def their_steps(
    side: int, config: AutoencoderConfig, settings: TrainerConfig, dtype: torch.dtype, device: torch.device
) -> Callable[[torch.memory_format], Step]:
    """Steps of an AutoencoderKL of the same channels and blocks, in any memory layout."""
    vae = diffusers_autoencoder((3, side, side), config).to(device)
    images = to_float(random_images(4 * settings.batch_size, side, device))
    return partial(diffusers_autoencoder_steps, vae, images, LOSSES, settings, dtype)


def their_contiguous_steps(*arguments: Any) -> Step:
    """:func:`their_steps` in the one layout: to try both would leave its memory behind."""
    return their_steps(*arguments)(torch.contiguous_format)


def training(bench: Bench) -> Iterator[Row]:
    """Images/s at each side, and the peak memory at the last."""
    scale, diffusers = bench.scale, bench.peers.get(DIFFUSERS)
    config = scale.settings[0].autoencoder  # Without patches, which diffusers' has not.
    for setting in scale.settings:
        settings, side = bench.trainer(setting.stage_one_batch), setting.side
        ours = our_turn(side, config, settings, scale.training_steps, bench.device)
        turns = {"latentdiff": ours}
        size = {"latentdiff": parameters(ours.module.network)}
        if diffusers:
            build = their_steps(side, config, settings, bench.dtype, bench.device)
            turns[DIFFUSERS] = timed(best_layout(build, bench.device)[0], bench.device, scale.training_steps)
            size[DIFFUSERS] = parameters(diffusers_autoencoder((3, side, side), config))
        batch = settings.batch_size
        images = scale.training_steps * batch
        rates = {name: Figure.rate(timing, images, parameters=size[name]) for name, timing in bench.race(turns).items()}
        work = training_work(batch * _training_flops(side, config), ours.module.network, ours.tensors[0][:batch])
        yield Row(
            part=TRAINING,
            what=f"{side} px, batch {batch}",
            unit="images/s",
            figures=rates,
            floor=batch / bench.limits.seconds(work, bench.dtype),
            target=Target(at_least=FASTER),
            note="same channels and blocks, L1 + KL; ours averages the weights, theirs does not",
        )
    cases = [Case(our_turn, (side, config, settings, 1, bench.device))]
    if diffusers:
        cases.append(Case(their_contiguous_steps, (side, config, settings, bench.dtype, bench.device)))
    peaks = peak_memories(cases)
    yield Row(
        part=TRAINING,
        what=f"peak memory, {side} px, batch {batch}",
        unit="MB",
        figures={
            name: Figure.single(peak.peak / 1e6) for name, peak in zip(("latentdiff", DIFFUSERS), peaks, strict=False)
        },
        more_is_better=False,
        note="of a process of its own, everything that it imports included",
    )


def _training_flops(side: int, config: AutoencoderConfig) -> float:
    """Of one image, forward and backward."""
    network = Autoencoder((3, side, side), config)
    latents = torch.zeros(1, *network.latent_shape)

    def both() -> None:
        (
            network.encode(torch.zeros(1, 3, side, side)).sum() + network.decode(latents.requires_grad_()).sum()
        ).backward()

    return counted(both)


def our_encoding(codec: AutoencoderCodec, data: ImageDataset) -> Callable[[], None]:
    """Encoding ``data`` to a new cache, its file included."""

    def encode() -> None:
        silence = io.StringIO()
        with (
            tempfile.TemporaryDirectory(prefix="latentdiff-benchmark-") as folder,
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            cached_moments(codec, data, Path(folder))

    return encode


def their_encoding(
    vae: torch.nn.Module, images: torch.Tensor, layout: torch.memory_format
) -> Callable[[], torch.Tensor]:
    """The moments of the same images by an AutoencoderKL, in equal batches, which stay in memory."""
    vae = vae.eval().to(memory_format=layout)
    chunks = [chunk.contiguous(memory_format=layout) for chunk in images.split(ENCODE_BATCH)]

    @torch.no_grad()
    def encode() -> torch.Tensor:
        return torch.cat([vae.encode(chunk).latent_dist.parameters.cpu() for chunk in chunks])

    return encode


def encoding(bench: Bench) -> Iterator[Row]:
    """Images/s at each side, ours with everything up to the file."""
    config, count = bench.scale.settings[0].autoencoder, bench.scale.encoded
    for setting in bench.scale.settings:
        side = setting.side
        network = Autoencoder((3, side, side), config).to(bench.device)
        channels = config.latent_channels
        codec = AutoencoderCodec(network, config, torch.zeros(channels), torch.ones(channels)).to(bench.device)
        images = random_images(count, side, torch.device("cpu"))
        data = ImageDataset(images, torch.zeros(count, dtype=torch.long), "random", "train", "full", ())
        turns = {"latentdiff": timed(our_encoding(codec, data), bench.device)}
        if bench.peers.get(DIFFUSERS):
            vae = diffusers_autoencoder((3, side, side), config).to(bench.device)
            build = partial(their_encoding, vae, to_float(images).to(bench.device))
            turns[DIFFUSERS] = timed(best_layout(build, bench.device)[0], bench.device)
        flops = count * counted(lambda network=network, side=side: network.encode(torch.zeros(1, 3, side, side)))
        work = passes_work(flops, network.encoder, 1)
        yield Row(
            part=ENCODING,
            what=f"{side} px, {count:,} images",
            unit="images/s",
            figures={name: Figure.rate(timing, count) for name, timing in bench.race(turns).items()},
            floor=count / bench.limits.seconds(work, torch.float32),
            note="ours hashes, checks and writes the cache's file; theirs stays in memory",
        )
