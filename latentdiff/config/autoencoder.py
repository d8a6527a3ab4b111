"""Settings of the autoencoder's network and of its losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.ranges import BlocksOrNone, ImagesOrNone, LearningRate, PathSetting, Range, Weight, Widths


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Settings):
    """The convolutional VAE's network.

    Args:
        latent_channels: Channels of the latent.
        patch: Side of the patches in pixels. The encoder first folds each patch into channels, and the decoder unfolds
            it last (space-to-depth, Shi et al. 2016). Larger patches save the costly layers at full resolution.
        channels: Width at each resolution, finest first; each further entry halves the side (rounded up).
        encoder_blocks: Residual blocks at each resolution of the encoder.
        decoder_blocks: Residual blocks at each resolution of the decoder.
        attention: Whether encoder and decoder have self-attention at the coarsest resolution.
        refine_channels: Width of a small residual network on the decoded pixels; 0 leaves the network out. It removes
            the grid of the patches from the finest detail.
        smooth_colours: Whether to blur the colour of decoded RGB images and keep the brightness sharp, about as JPEG
            does (4:2:0 chroma subsampling). The blur has no weights, so it can be switched on after training.
    """

    latent_channels: Annotated[int, Range(1, 4096)] = 2
    patch: Annotated[int, Range(1, 64)] = 1
    channels: Widths = (32, 64, 128)
    encoder_blocks: BlocksOrNone = 1
    decoder_blocks: BlocksOrNone = 2
    attention: bool = True
    refine_channels: Annotated[int, Range(0, 4096)] = 0
    smooth_colours: bool = False


@dataclass(frozen=True, kw_only=True)
class AutoencoderLossConfig(Settings):
    """The autoencoder's loss: reconstruction + KL + perceptual + adversarial.

    Args:
        reconstruction: Reconstruction loss, per pixel. ``l1`` is the absolute error. ``gaussian`` is a negative
            log-likelihood with one learned variance (sigma-VAE).
        kl_weight: Weight of the KL divergence to N(0, I), per latent dimension.
        perceptual_weight: Weight of LPIPS; 0 turns LPIPS off.
        perceptual_net: Pretrained network whose features LPIPS compares. AlexNet takes about a twentieth of VGG-16's
            time.
        perceptual_weights: File with the convolutions of ``perceptual_net`` in torchvision's names (``.pth`` or
            ``.safetensors``). Default: the environment variable LATENTDIFF_LPIPS (a folder holding
            ``vgg16_features.safetensors`` or ``alexnet_features.safetensors``), else torchvision's download. With
            neither, LPIPS is off.
        perceptual_share: Fraction of each batch that LPIPS is computed on, to save time. The gradient stays unbiased.
        perceptual_min_side: Smallest side for LPIPS in pixels. Smaller images are enlarged by a whole factor first,
            since these networks were trained on 224 pixels.
        adversarial_weight: Weight of the patch discriminator's hinge loss; 0 turns the discriminator off.
        adversarial_start: Number of training images before the adversarial loss begins.
        discriminator_warmup: Number of training images before ``adversarial_start`` on which the discriminator trains
            alone. The gradient of an untrained discriminator would be noise.
        adversarial_adaptive: Whether to scale the adversarial gradient to the norm of the other losses' gradient. Then
            ``adversarial_weight`` is the ratio of the two (VQGAN, equation 7, measured at the reconstruction). If a
            batch is computed in parts, each part has its own scale.
        discriminator_channels: Width of the discriminator's first layer.
        discriminator_lr: Learning rate of the discriminator.
        discriminator_bands: Whether the discriminator also sees the two finest bands of brightness detail, at unit
            scale. Photographs and reconstructions differ most there. This is meant for small batches.
        discriminator_gain: Factor on the discriminator's logits. A larger factor lets similar images reach the margins
            of the hinge loss. It also multiplies the effect of ``adversarial_weight``.
        feature_adversarial_weight: Weight of a second discriminator, which sees the features that LPIPS compares; 0
            turns it off. The weight is the ratio of its gradient's norm to that of LPIPS, at the features of each
            layer. The second discriminator begins with the first and needs ``perceptual_weight``. It costs little time,
            since LPIPS computes the features anyway, but it keeps the features of the whole batch in memory.
        feature_discriminator_channels: Width of the second discriminator's heads.
        frozen_encoder: Whether to train the decoder alone, from the weights of ``init``. Latents, and models that were
            trained on them, stay valid.
        degradation: Degradation of the images before encoding; the losses compare with the intact images (a denoising
            autoencoder). ``noise`` is Gaussian, ``mask`` cuts square holes.
        degradation_strength: Standard deviation of the noise in [-1, 1], or of the blur in pixels, or the masked
            fraction.
    """

    reconstruction: Literal["l1", "gaussian"] = "l1"
    kl_weight: Weight = 5e-4
    perceptual_weight: Weight = 1.0
    perceptual_net: Literal["vgg16", "alexnet"] = "vgg16"
    perceptual_weights: PathSetting | None = None
    perceptual_share: Annotated[float, Range(0, 1, above=True)] = 0.25
    perceptual_min_side: Annotated[int, Range(1, 4096)] = 56
    adversarial_weight: Weight = 0.1
    adversarial_start: ImagesOrNone = 30_000
    discriminator_warmup: ImagesOrNone = 5_000
    adversarial_adaptive: bool = False
    discriminator_channels: Annotated[int, Range(1, 4096)] = 48
    discriminator_lr: LearningRate = 1e-3
    discriminator_bands: bool = False
    discriminator_gain: Annotated[float, Range(0, 10**6, above=True)] = 1.0
    feature_adversarial_weight: Weight = 0.0
    feature_discriminator_channels: Annotated[int, Range(1, 4096)] = 32
    frozen_encoder: bool = False
    degradation: Literal["none", "noise", "blur", "mask"] = "none"
    degradation_strength: Annotated[float, Range(0, 100)] = 0.3


@dataclass(frozen=True, kw_only=True)
class PhaseConfig(Settings):
    """A later part of a stage-one run, with other losses, a frozen encoder or another learning rate.

    A setting of a phase that is None stays as in the phase before.

    Args:
        start: Fraction of the budget after which the phase begins.
        kl_weight: Weight of the KL divergence from here on.
        perceptual_weight: Weight of LPIPS from here on.
        perceptual_share: Fraction of each batch that LPIPS is computed on from here on.
        adversarial_weight: Weight of the patch discriminator from here on. A discriminator that begins here first
            trains alone on ``discriminator_warmup`` images.
        feature_adversarial_weight: Weight of the discriminator of LPIPS features from here on.
        frozen_encoder: Whether the decoder alone is trained from here on. The encoder takes its EMA weights, and the
            latents' statistics are measured and kept. A later phase cannot train it again, and
            ``trainer.strategy fsdp`` is refused.
        lr_factor: Factor on the learning rate that the schedule gives.
        lr_restart: Whether the schedule of the learning rate ends where this phase begins, and begins again from its
            peak (cosine annealing with a restart, Loshchilov & Hutter 2017). Each decay ends at the next restart, or at
            the end of the run. It needs the ``lr_schedule`` ``cosine``. The warm-up is not repeated.
    """

    start: Annotated[float, Range(0, 1, above=True, below=True)]
    kl_weight: Weight | None = None
    perceptual_weight: Weight | None = None
    perceptual_share: Annotated[float, Range(0, 1, above=True)] | None = None
    adversarial_weight: Weight | None = None
    feature_adversarial_weight: Weight | None = None
    frozen_encoder: bool | None = None
    lr_factor: Annotated[float, Range(0, 1000, above=True)] | None = None
    lr_restart: bool = False
