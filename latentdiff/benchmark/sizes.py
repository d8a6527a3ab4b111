"""Networks, batches and repetitions of a benchmark: the whole one, and ``--quick``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from latentdiff.config import AutoencoderConfig, NetworkConfig


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Networks for images of one side, and the batches of their training.

    Attributes:
        side: Side of the RGB images, in pixels.
        autoencoder: The autoencoder.
        latent_network: The denoising network on the autoencoder's latents.
        pixel_network: The denoising network on pixels.
        autoencoder_batch: Images in a training step of the autoencoder.
        latent_batch: Images in a training step of the latent network.
        pixel_batch: Images in a training step of the pixel network.
    """

    side: int
    autoencoder: AutoencoderConfig
    latent_network: NetworkConfig
    pixel_network: NetworkConfig
    autoencoder_batch: int
    latent_batch: int
    pixel_batch: int

    def divided(self, divisor: int) -> NetworkSizes:
        """The same networks with batches divided by ``divisor``, of two images at least."""
        batches = ("autoencoder_batch", "latent_batch", "pixel_batch")
        return replace(self, **{name: _divided(getattr(self, name), divisor, 2) for name in batches})


@dataclass(frozen=True, kw_only=True)
class BenchmarkSizes:
    """Networks, batches and repetitions of a benchmark.

    Attributes:
        networks: The networks whose training is measured, by rising side. Sampling measures the first.
        seconds: No new round of a measurement begins after this time.
        min_rounds: Rounds of a measurement at least.
        max_seconds: No round at all begins after this time, but for the first.
        training_steps: Optimiser steps in one timed call of training.
        encoded_images: Images in one timed call of encoding.
        sampling_batches: Images that are sampled at a time.
        sampling_steps: Steps of sampling.
        extrapolated_batch: From this batch on, sampling is extrapolated from ``few_steps``.
        few_steps: Two numbers of steps to extrapolate from; pixels use them too.
        ddpm_batch: Images at a time in DDPM sampling with 1,000 steps, and in sampling of pixels.
        ddpm_steps: Two numbers of steps to extrapolate the 1,000 steps from.
        inception_images: Images in one timed call of the Inception network.
        frechet_features: Dimensions of the Fréchet distance.
        comparison_networks: The networks of latents against pixels. The pixel network gives the shape, the latent
            network the number of parameters.
        comparison_batch: Images in a training step of latents against pixels.
        comparison_sampling_batch: Images at a time in sampling of latents against pixels. Fewer than 16 are computed
            as 16.
        comparison_steps: Two numbers of sampling steps to extrapolate ``sampling_steps`` from.
        loader_images: Images of the loader's data set.
        loader_batch: Images in a batch of the loader.
        limit_seconds: Seconds for measuring each of the machine's limits.
    """

    networks: tuple[NetworkSizes, ...]
    seconds: float
    min_rounds: int
    max_seconds: float
    training_steps: int
    encoded_images: int
    sampling_batches: tuple[int, ...]
    sampling_steps: int
    extrapolated_batch: int
    few_steps: tuple[int, int]
    ddpm_batch: int
    ddpm_steps: tuple[int, int]
    inception_images: int
    frechet_features: int
    comparison_networks: NetworkSizes
    comparison_batch: int
    comparison_sampling_batch: int
    comparison_steps: tuple[int, int]
    loader_images: int
    loader_batch: int
    limit_seconds: float

    def divided(self, divisor: int) -> BenchmarkSizes:
        """The sizes for a slow machine: smaller batches, except those of sampling."""
        if divisor == 1:
            return self
        return replace(
            self,
            networks=tuple(networks.divided(divisor) for networks in self.networks),
            comparison_networks=self.comparison_networks.divided(divisor),
            encoded_images=_divided(self.encoded_images, divisor, 16),
            inception_images=_divided(self.inception_images, divisor, 16),
            comparison_batch=_divided(self.comparison_batch, divisor, 4),
        )


def _divided(count: int, divisor: int, minimum: int) -> int:
    return max(count // divisor, min(count, minimum))


def networks_32(autoencoder_batch: int, latent_batch: int, pixel_batch: int) -> NetworkSizes:
    """The networks of configs/fashion-mnist on 32x32 RGB images, with latents of 2x8x8.

    Other packages can halve these latents too.
    """
    return NetworkSizes(
        side=32,
        autoencoder=AutoencoderConfig(),
        latent_network=NetworkConfig(),
        pixel_network=NetworkConfig(channels=(32, 64, 96), attention_levels=(2,)),
        autoencoder_batch=autoencoder_batch,
        latent_batch=latent_batch,
        pixel_batch=pixel_batch,
    )


def networks_64(autoencoder_batch: int, latent_batch: int, pixel_batch: int) -> NetworkSizes:
    """The networks of configs/celeba on 64x64 RGB images, with latents of 4x16x16."""
    return NetworkSizes(
        side=64,
        autoencoder=AutoencoderConfig(latent_channels=4, patch=2, channels=(64, 128)),
        latent_network=NetworkConfig(channels=(64, 96), num_res_blocks=1, attention_levels=(1,)),
        pixel_network=NetworkConfig(channels=(32, 64, 96, 128), attention_levels=(3,)),
        autoencoder_batch=autoencoder_batch,
        latent_batch=latent_batch,
        pixel_batch=pixel_batch,
    )


FULL = BenchmarkSizes(
    networks=(networks_32(64, 128, 64), networks_64(32, 64, 16)),
    seconds=4.0,
    min_rounds=3,
    max_seconds=10.0,
    training_steps=2,
    encoded_images=256,
    sampling_batches=(1, 16, 256),
    sampling_steps=20,
    extrapolated_batch=256,
    few_steps=(2, 8),
    ddpm_batch=16,
    ddpm_steps=(20, 120),
    inception_images=64,
    frechet_features=2048,
    comparison_networks=networks_64(32, 64, 16),
    comparison_batch=16,
    comparison_sampling_batch=16,
    comparison_steps=(1, 2),
    loader_images=20_000,
    loader_batch=128,
    limit_seconds=2.0,
)

QUICK = BenchmarkSizes(
    networks=(networks_32(16, 32, 16), networks_64(8, 16, 4)),
    seconds=0.5,
    min_rounds=3,
    max_seconds=2.0,
    training_steps=1,
    encoded_images=64,
    sampling_batches=(1, 16),
    sampling_steps=20,
    extrapolated_batch=16,
    few_steps=(1, 3),
    ddpm_batch=16,
    ddpm_steps=(5, 20),
    inception_images=8,
    frechet_features=512,
    comparison_networks=networks_64(8, 16, 4),
    comparison_batch=8,
    comparison_sampling_batch=16,
    comparison_steps=(1, 2),
    loader_images=10_000,
    loader_batch=128,
    limit_seconds=0.5,
)
