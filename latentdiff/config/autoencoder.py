"""The autoencoder's network and what it is trained for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentdiff.config.base import Settings


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Settings):
    """The convolutional VAE's network.

    Args:
        latent_channels: Channels of the latent.
        patch: Side of the squares of pixels that are folded into channels before the first resolution and unfolded
            after the last (space-to-depth, Shi et al. 2016): layers at full resolution are the costliest.
        channels: Width at each resolution, finest first; each further entry halves the side (rounded up).
        encoder_blocks: Residual blocks at each resolution of the encoder.
        decoder_blocks: Residual blocks at each resolution of the decoder.
        attention: Self-attention at the coarsest resolution, in the encoder and the decoder.
        refine_channels: Width of a residual network on the decoded pixels, after the patches are unfolded; 0 is none.
            Layers on patches alone leave the patches' grid in the finest detail.
        smooth_colours: Decode RGB with the finest detail in its luma alone, about as JPEG stores photographs (4:2:0).
            It has no weights: a trained decoder can be given it.
    """

    latent_channels: int = 2
    patch: int = 1
    channels: tuple[int, ...] = (32, 64, 128)
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    attention: bool = True
    refine_channels: int = 0
    smooth_colours: bool = False


@dataclass(frozen=True, kw_only=True)
class AutoencoderLossConfig(Settings):
    """What the autoencoder is trained for: reconstruction + KL + perceptual + adversarial.

    Args:
        reconstruction: ``l1``, or ``gaussian``: a negative log-likelihood whose one variance is learned (sigma-VAE).
        kl_weight: Weight of the KL divergence to N(0, I) *per latent dimension*; the reconstruction is per pixel.
        perceptual_weight: Weight of LPIPS; 0 turns it off.
        perceptual_net: LPIPS trunk. AlexNet costs about a twentieth of VGG-16's time.
        perceptual_weights: File with the trunk's convolutions in torchvision's names (``.pth`` or ``.safetensors``).
            Default: the environment variable LATENTDIFF_LPIPS (a folder holding ``vgg16_features.safetensors`` or
            ``alexnet_features.safetensors``), else torchvision's download; with neither the term is off.
        perceptual_share: Share of each batch that the perceptual loss is taken on; its gradient stays unbiased.
        perceptual_min_side: Images with a smaller side are enlarged by a whole factor to at least this first: the
            trunks were trained on 224 pixels and see little in 28.
        adversarial_weight: Weight of the patch discriminator's hinge loss; 0 turns it off.
        adversarial_start: Images seen before the discriminator's loss enters.
        discriminator_warmup: Images before that on which the discriminator alone learns: the gradient of an untrained
            one is noise.
        adversarial_adaptive: Scale the adversarial gradient at the reconstruction to the norm of the other terms', so
            that ``adversarial_weight`` is their ratio (VQGAN, equation 7, measured one layer further out).
        discriminator_channels: Width of the discriminator's first layer.
        discriminator_lr: Learning rate of the discriminator.
        discriminator_bands: Show it the two finest bands of the luma's detail beside the image, at unit scale: there
            photographs and their reconstructions differ most. For small batches.
        discriminator_gain: What its logits are multiplied by: more lets similar images reach the hinge's margins, and
            makes ``adversarial_weight`` count as much more.
        feature_adversarial_weight: Weight of a second discriminator, which judges by the LPIPS trunk's features: the
            ratio of its gradient's norm to that of LPIPS, at the features of each layer. It enters when the first one
            does; 0 turns it off. It costs little beside LPIPS, which finds the features, and needs perceptual_weight;
            without a trunk both are off. The features of a whole batch are kept, also where that is accumulated.
        feature_discriminator_channels: Width of its heads.
        frozen_encoder: Train the decoder alone, from ``init``: latents, and the models trained on them, stay valid.
        degradation: What is done to the images before they are encoded, while the losses ask for them whole (a
            denoising autoencoder): Gaussian ``noise``, a ``blur``, a ``mask`` of square holes, or ``none``.
        degradation_strength: The noise's standard deviation in [-1, 1], the blur's in pixels, or the share masked.
    """

    reconstruction: Literal["l1", "gaussian"] = "l1"
    kl_weight: float = 5e-4
    perceptual_weight: float = 1.0
    perceptual_net: Literal["vgg16", "alexnet"] = "vgg16"
    perceptual_weights: str | None = None
    perceptual_share: float = 0.25
    perceptual_min_side: int = 56
    adversarial_weight: float = 0.1
    adversarial_start: int = 30_000
    discriminator_warmup: int = 5_000
    adversarial_adaptive: bool = False
    discriminator_channels: int = 48
    discriminator_lr: float = 1e-3
    discriminator_bands: bool = False
    discriminator_gain: float = 1.0
    feature_adversarial_weight: float = 0.0
    feature_discriminator_channels: int = 32
    frozen_encoder: bool = False
    degradation: Literal["none", "noise", "blur", "mask"] = "none"
    degradation_strength: float = 0.3
