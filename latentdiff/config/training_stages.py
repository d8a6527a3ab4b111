"""Settings of the stages that train or encode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from latentdiff.config.autoencoder import AutoencoderConfig, AutoencoderLossConfig
from latentdiff.config.base import Settings
from latentdiff.config.data import DataConfig
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.network import NetworkConfig
from latentdiff.config.run import RunConfig
from latentdiff.config.trainer import Precision, TrainerConfig


@dataclass(frozen=True, kw_only=True)
class AutoencoderStage(Settings):
    """Train a convolutional VAE that compresses images roughly tenfold.

    Args:
        name: Name of the run: its folder under stages/autoencoder/, after the data set.
        data: Which images.
        network: The encoder and the decoder.
        loss: What it is trained for.
        trainer: How long and on what.
        validation_images: Held-out images whose reconstructions are measured each epoch: the validation split's, or the
            test split's where there is none.
        init: Fine-tune: start from the weights of this run (its folder or last.ckpt) or model file.
        run: Where the files go.
    """

    name: str = "autoencoder"
    data: DataConfig = field(default_factory=DataConfig)
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loss: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    validation_images: int = 1000
    init: str | None = None
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class LatentsStage(Settings):
    """Encode the training images to the moments of their latents, once, for stage two.

    Args:
        autoencoder: Stage one's model file; ``auto`` takes the data set's own run under stages/, else the released one.
        data: Which images.
        folder: Where caches are kept.
    """

    autoencoder: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    folder: str = "stages/latents"


@dataclass(frozen=True, kw_only=True)
class DiffusionStage(Settings):
    """Train a denoising network on an autoencoder's cached latents, or on pixels.

    Args:
        name: Name of the run: its folder under stages/diffusion/, after the data set.
        autoencoder: Stage one's model file; ``auto`` takes the data set's own run under stages/, else the released
            one; ``none`` trains on pixels.
        data: Which images.
        network: The denoising network.
        diffusion: The noising process and its target.
        trainer: How long and on what.
        sample_every: Epochs between two sample grids (always the same seeds and classes) and quality figures.
        quality_images: Samples for each in-training quality figure; 0 leaves it out.
        quality_net: Whose features it is measured in: the ``classifier``'s (a Fréchet ``distance``), ``inception``'s
            (``kid``), or ``auto``: the classifier's where the data set has one, else Inception's where its weights are.
        validation_images: Held-out images that the loss is measured on each epoch (``val_loss``); 0 leaves it out.
            Held out are the validation split's, or the test split's where there is none.
        features_folder: Where Inception's features of the held-out images are cached.
        latents_folder: Where latent caches are kept.
        init: Fine-tune: start from the weights of this run (its folder or last.ckpt) or model file.
        run: Where the files go.
    """

    name: str = "latent"
    autoencoder: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(monitor="auto"))
    sample_every: int = 1
    quality_images: int = 500
    quality_net: Literal["auto", "classifier", "inception"] = "auto"
    validation_images: int = 1000
    features_folder: str | None = "stages/features"
    latents_folder: str | None = "stages/latents"
    init: str | None = None
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class ClassifierStage(Settings):
    """A small residual classifier, the feature net of the quick evaluation.

    Args:
        data: Which images. ``data.hflip`` mirrors them at random.
        channels: Width at each resolution, finest first; the last one is the number of features.
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: Peak learning rate.
        seed: Seed of the weights, the batches and the shifts.
        precision: ``bf16`` is autocast; ``auto`` is bf16 where the GPU or CPU multiplies in it.
        accelerator: ``auto`` takes a GPU where there is one.
        num_threads: CPU threads; none leaves torch's choice.
        run: Where the files go.
    """

    data: DataConfig = field(default_factory=DataConfig)
    channels: tuple[int, ...] = (32, 64, 128)
    epochs: int = 12
    batch_size: int = 128
    lr: float = 0.1
    seed: int = 0
    precision: Precision = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    num_threads: int | None = None
    run: RunConfig = field(default_factory=RunConfig)
