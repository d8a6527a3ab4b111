"""Settings of the stages that train or encode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from latentdiff.config.autoencoder import AutoencoderConfig, AutoencoderLossConfig, PhaseConfig
from latentdiff.config.base import Settings
from latentdiff.config.data import DataConfig
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.network import NetworkConfig
from latentdiff.config.ranges import (
    BatchSize,
    Epochs,
    HeldImagesOrNone,
    LearningRate,
    Name,
    NoneMeans,
    PathSetting,
    Range,
    Seed,
    Threads,
    Widths,
)
from latentdiff.config.run import RunConfig
from latentdiff.config.trainer import Precision, TrainerConfig


@dataclass(frozen=True, kw_only=True)
class AutoencoderStage(Settings):
    """Train a convolutional VAE that compresses images 8 to 24 times.

    Args:
        name: Name of the run: its folder under stages/autoencoder/, after the data set.
        data: The training images.
        network: Size of the encoder and the decoder.
        loss: The loss terms and their weights.
        phases: Later parts of the run with other losses, in the order of their ``start``.
        trainer: Budget, optimiser and devices.
        validation_images: Number of held-out images whose reconstructions are measured each epoch, equally many of each
            class. They come from the validation split, or from the test split where there is no validation split.
        init: Start from trained weights: a model file, a run's folder or its last.ckpt.
        dry_run: Print what the run needs, in memory, arithmetic and time, and end. Nothing is written.
        run: The folder that the run writes to.
    """

    name: Name = "autoencoder"
    data: DataConfig = field(default_factory=DataConfig)
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loss: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    phases: tuple[PhaseConfig, ...] = ()
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    validation_images: HeldImagesOrNone = 1000
    init: PathSetting | None = None
    dry_run: bool = False
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class LatentsStage(Settings):
    """Encode the training images once to the moments of their latents, for stage two.

    Args:
        autoencoder: Stage one's model file; ``auto`` is the data set's own run under stages/, else the released one;
            ``diffusers:PATH_OR_ID`` is an autoencoder of diffusers.
        data: The training images.
        folder: Folder of the caches.
    """

    autoencoder: PathSetting = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    folder: PathSetting = "stages/latents"


@dataclass(frozen=True, kw_only=True)
class DiffusionStage(Settings):
    """Train a denoising network on an autoencoder's cached latents, or on pixels.

    Args:
        name: Name of the run: its folder under stages/diffusion/, after the data set.
        autoencoder: Stage one's model file; ``auto`` takes the data set's own run under stages/, else the released
            one; ``none`` trains on pixels; ``diffusers:PATH_OR_ID`` is an AutoencoderKL or AutoencoderTiny of
            diffusers.
        data: The training images.
        network: The denoising network.
        diffusion: The noising process, and the target and loss of the network.
        trainer: Budget, optimiser and devices.
        sample_every: Number of epochs between two sample grids, with the same seeds and classes each time, and between
            two quality metrics.
        quality_images: Number of samples for each quality metric in training; 0 leaves the metric out.
        quality_net: Network whose features the quality metric uses. ``classifier`` gives a Fréchet ``distance``,
            ``inception`` gives ``kid``. ``auto`` is the classifier where the data set has one, else Inception where its
            weights are present.
        validation_images: Number of held-out images for ``val_loss``, measured each epoch, equally many of each class;
            0 leaves it out. They come from the validation split, or from the test split where there is no validation
            split.
        features_folder: Folder where Inception's features of the held-out images are cached.
        latents_folder: Folder of the latent caches.
        init: Start from trained weights: a model file, a run's folder or its last.ckpt; or ``diffusers:PATH_OR_ID``, a
            UNet2DModel of diffusers, which then replaces the network.
        dry_run: Print what the run needs, in memory, arithmetic and time, and end. Nothing is written.
        run: The folder that the run writes to.
    """

    name: Name = "latent"
    autoencoder: Annotated[PathSetting, NoneMeans("none")] = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(monitor="auto"))
    sample_every: Epochs = 1
    quality_images: HeldImagesOrNone = 500
    quality_net: Literal["auto", "classifier", "inception"] = "auto"
    validation_images: HeldImagesOrNone = 1000
    features_folder: PathSetting | None = "stages/features"
    latents_folder: PathSetting | None = "stages/latents"
    init: PathSetting | None = None
    dry_run: bool = False
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class ClassifierStage(Settings):
    """Train a small residual classifier, the feature network of the quick evaluation.

    Args:
        data: The training images. ``data.hflip`` mirrors them at random.
        channels: Width at each resolution, finest first; the last one is the number of features.
        epochs: Passes over the training images.
        batch_size: Number of images in a step.
        lr: Peak learning rate.
        seed: Seed of the weights, the batches and the shifts.
        precision: ``bf16`` is autocast. ``auto`` is bf16 where it is faster, else fp32.
        accelerator: Kind of device. ``auto`` uses a GPU where there is one.
        num_threads: Number of CPU threads. Default: torch's choice.
        run: The folder that the run writes to.
    """

    data: DataConfig = field(default_factory=DataConfig)
    channels: Widths = (32, 64, 128)
    epochs: Annotated[int, Range(1, 10**6)] = 12
    batch_size: BatchSize = 128
    lr: LearningRate = 0.1
    seed: Seed = 0
    precision: Precision = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    num_threads: Threads | None = None
    run: RunConfig = field(default_factory=RunConfig)
