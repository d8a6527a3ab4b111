"""How large everything is: networks, batches, repetitions. The whole benchmark, and --quick."""

from __future__ import annotations

from dataclasses import dataclass, replace

from latentdiff.config import AutoencoderConfig, NetworkConfig


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Networks for images of one side, and the batches that they are trained in.

    Attributes:
        side: Of the RGB images, in pixels.
        autoencoder: Stage one.
        latent: The denoising network on its latents.
        pixel: The denoising network on pixels.
        stage_one_batch, latent_batch, pixel_batch: Images a step.
    """

    side: int
    autoencoder: AutoencoderConfig
    latent: NetworkConfig
    pixel: NetworkConfig
    stage_one_batch: int
    latent_batch: int
    pixel_batch: int

    def divided(self, divisor: int) -> Setting:
        """The same with smaller batches, of two images at least."""
        batches = ("stage_one_batch", "latent_batch", "pixel_batch")
        return replace(self, **{name: _divided(getattr(self, name), divisor, 2) for name in batches})


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The benchmark's sizes.

    Attributes:
        settings: What stages one and two are measured on; sampling takes the first.
        seconds: No new round of a measurement begins after so many.
        least: Rounds of a measurement at least.
        most_seconds: But none of those begins after so many, other than the first.
        training_steps: Optimiser steps in one turn of training; where costs grow with the side it is one.
        encoded: Images in one turn of encoding.
        sampling_batches: Images at a time.
        steps: Sampling steps.
        large_batch: From this batch on a sampling is extrapolated from ``few_steps``.
        few_steps: Two numbers of steps, also of pixels.
        ddpm_batch: Images at a time of the 1,000 steps.
        ddpm_steps: Two numbers of steps to extrapolate the 1,000 from.
        inception_images: In one turn of Inception.
        frechet_features: Dimensions.
        growth: Sides in pixels.
        growth_setting: The networks that grow; its pixel network gives the shape, its latent one the parameters.
        growth_batch: Images a step of training, at every side.
        judged_batch: Images a step of training where latents and pixels are judged.
        grown_sampling: Images at a time in sampling at every side; fewer than 16 are computed as 16.
        growth_steps: Two numbers of sampling steps that ``steps`` are extrapolated from.
        loader_images, loader_batch: Of the data path.
        peak_seconds: What finding each of the machine's limits may take.
        process_runs: Runs of each whole process.
        several: Measure several processes too.
    """

    settings: tuple[Setting, ...]
    seconds: float
    least: int
    most_seconds: float
    training_steps: int
    encoded: int
    sampling_batches: tuple[int, ...]
    steps: int
    large_batch: int
    few_steps: tuple[int, int]
    ddpm_batch: int
    ddpm_steps: tuple[int, int]
    inception_images: int
    frechet_features: int
    growth: tuple[int, ...]
    growth_setting: Setting
    growth_batch: int
    judged_batch: int
    grown_sampling: int
    growth_steps: tuple[int, int]
    loader_images: int
    loader_batch: int
    peak_seconds: float
    process_runs: int
    several: bool

    def divided(self, divisor: int) -> Scale:
        """The same for a slow machine: smaller batches, but for those that sampling is judged in."""
        if divisor == 1:
            return self
        return replace(
            self,
            settings=tuple(setting.divided(divisor) for setting in self.settings),
            growth_setting=self.growth_setting.divided(divisor),
            encoded=_divided(self.encoded, divisor, 16),
            inception_images=_divided(self.inception_images, divisor, 16),
            growth_batch=_divided(self.growth_batch, divisor, 1),
            judged_batch=_divided(self.judged_batch, divisor, 4),
        )


def _divided(count: int, divisor: int, least: int) -> int:
    return max(count // divisor, min(count, least))


def setting_32(stage_one: int, latent: int, pixel: int) -> Setting:
    """The networks of configs/fashion-mnist, on 32x32 RGB: latents of 2x8x8, which the peers can halve too.

    Args: batches.
    """
    return Setting(
        side=32,
        autoencoder=AutoencoderConfig(),
        latent=NetworkConfig(),
        pixel=NetworkConfig(channels=(32, 64, 96), attention_levels=(2,)),
        stage_one_batch=stage_one,
        latent_batch=latent,
        pixel_batch=pixel,
    )


def setting_64(stage_one: int, latent: int, pixel: int) -> Setting:
    """The networks of configs/celeba: 64x64 RGB, latents of 4x16x16.

    Args: batches.
    """
    return Setting(
        side=64,
        autoencoder=AutoencoderConfig(latent_channels=4, patch=2, channels=(64, 128)),
        latent=NetworkConfig(channels=(64, 96), num_res_blocks=1, attention_levels=(1,)),
        pixel=NetworkConfig(channels=(32, 64, 96, 128), attention_levels=(3,)),
        stage_one_batch=stage_one,
        latent_batch=latent,
        pixel_batch=pixel,
    )


FULL = Scale(
    settings=(setting_32(64, 128, 64), setting_64(32, 64, 16)),
    seconds=4.0,
    least=3,
    most_seconds=10.0,
    training_steps=2,
    encoded=256,
    sampling_batches=(1, 16, 256),
    steps=20,
    large_batch=256,
    few_steps=(2, 8),
    ddpm_batch=16,
    ddpm_steps=(20, 120),
    inception_images=64,
    frechet_features=2048,
    growth=(32, 64, 128, 256),
    growth_setting=setting_64(32, 64, 16),
    growth_batch=8,
    judged_batch=16,
    grown_sampling=16,
    growth_steps=(1, 2),
    loader_images=20_000,
    loader_batch=128,
    peak_seconds=2.0,
    process_runs=3,
    several=True,
)

QUICK = Scale(
    settings=(setting_32(16, 32, 16), setting_64(8, 16, 4)),
    seconds=0.5,
    least=3,
    most_seconds=2.0,
    training_steps=1,
    encoded=64,
    sampling_batches=(1, 16),
    steps=20,
    large_batch=16,
    few_steps=(1, 3),
    ddpm_batch=16,
    ddpm_steps=(5, 20),
    inception_images=8,
    frechet_features=512,
    growth=(),
    growth_setting=setting_64(8, 16, 4),
    growth_batch=4,
    judged_batch=8,
    grown_sampling=16,
    growth_steps=(1, 2),
    loader_images=10_000,
    loader_batch=128,
    peak_seconds=0.5,
    process_runs=1,
    several=False,
)
