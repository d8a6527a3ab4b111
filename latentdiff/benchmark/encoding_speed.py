"""Speed of encoding images to the latent cache."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from latentdiff.benchmark.context import BenchmarkContext, no_competitors, random_images
from latentdiff.benchmark.machine_limits import inference_work
from latentdiff.benchmark.networks import untrained_codec
from latentdiff.benchmark.results import OURS, Contender, Measurement, rates
from latentdiff.benchmark.timing import timed_call
from latentdiff.codec import Codec
from latentdiff.config import AutoencoderConfig
from latentdiff.data import ImageDataset
from latentdiff.evaluation.flops import count_flops
from latentdiff.files import scratch_folder
from latentdiff.latents import cached_moments
from latentdiff.models.autoencoder import Autoencoder

PART = "encoding the latent cache"

# Other implementations that encode the same images: of the context, the autoencoder's settings and uint8 images
# [n, 3, h, w] on the CPU.
EncodingCompetitors = Callable[[BenchmarkContext, AutoencoderConfig, Tensor], Iterable[Contender]]


def encode_to_cache(codec: Codec, data: ImageDataset) -> None:
    """Encode ``data`` to a new cache in a temporary folder, and print nothing."""
    with (
        scratch_folder() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        cached_moments(codec, data, folder)


def measure_encoding(
    context: BenchmarkContext, competitors: EncodingCompetitors = no_competitors
) -> Iterator[Measurement]:
    """Measure images/s of encoding to the cache at each side, the writing of its file included."""
    config, count = context.sizes.networks[0].autoencoder, context.sizes.encoded_images
    for side in (networks.side for networks in context.sizes.networks):
        codec = untrained_codec(side, config).to(context.device)
        images = random_images(count, side, torch.device("cpu"))
        data = ImageDataset(images, torch.zeros(count, dtype=torch.long), "random", "train", "full", ())
        network = Autoencoder((3, side, side), config)
        flops = count * count_flops(lambda network=network, side=side: network.encode(torch.zeros(1, 3, side, side)))
        limit = count / context.limits.seconds(inference_work(flops, network.encoder, 1), torch.float32)
        call = timed_call(lambda codec=codec, data=data: encode_to_cache(codec, data), context.device)
        contenders = [Contender(name=OURS, call=call, limit=limit), *competitors(context, config, images)]
        yield Measurement(
            part=PART,
            name=f"{side} px, {count:,} images",
            unit="images/s",
            values=rates(contenders, context.time_contenders(contenders), count),
            note="ours hashes, checks and writes the cache's file",
        )
