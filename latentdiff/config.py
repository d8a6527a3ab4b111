"""Every setting of every part, as frozen dataclasses.

Nothing here imports torch, so that a command line can be parsed, and its help printed, without waiting for it.
The defaults are the Fashion-MNIST setting; a file under ``configs/`` holds only what differs from them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images.

    Args:
        name: The data set.
        root: Folder that holds it in torchvision's layout, or where it is downloaded to. Default: the environment
            variable LATENTDIFF_DATA, else ``data``.
        source: ``full`` needs the whole set, ``embedded`` takes the slice inside the package (10,000 training and
            2,000 test images), ``auto`` takes the whole set where it is present or can be downloaded, else the slice.
        hflip: Mirror training images at random. Right for photographs, wrong for shoes that all point left.
    """

    name: Literal["fashion-mnist"] = "fashion-mnist"
    root: str | None = None
    source: Literal["auto", "full", "embedded"] = "auto"
    hflip: bool = False


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The convolutional VAE's network.

    Args:
        latent_channels: Channels of the latent.
        channels: Width at each resolution, finest first; each further entry halves the side (rounded up).
        encoder_blocks: Residual blocks at each resolution of the encoder.
        decoder_blocks: Residual blocks at each resolution of the decoder.
        attention: Self-attention at the coarsest resolution, in the encoder and the decoder.
    """

    latent_channels: int = 2
    channels: tuple[int, ...] = (32, 64, 128)
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    attention: bool = True


@dataclass(frozen=True, kw_only=True)
class AutoencoderLossConfig:
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


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The denoising U-Net's network.

    Args:
        channels: Width at each resolution, finest first; each further entry halves the side (rounded up).
        num_res_blocks: Residual blocks at each resolution.
        attention_levels: Resolutions that have self-attention, counted from the finest, 0.
        head_channels: Channels of one attention head.
        dropout: Dropout inside the residual blocks.
        class_conditional: Give the network the class; false trains an unconditional model.
    """

    channels: tuple[int, ...] = (64, 96)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1)
    head_channels: int = 32
    dropout: float = 0.0
    class_conditional: bool = True


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """The noising process and what the network learns of it.

    Args:
        schedule: Noise schedule over the training steps: ``linear`` (DDPM) or ``cosine`` (Improved DDPM).
        num_train_steps: Steps T of the discrete process.
        target: What the network predicts.
        min_snr_gamma: Cap of the signal-to-noise ratio in the loss weight (min-SNR); none weighs every step alike.
        class_dropout: Share of training images whose class is hidden, which classifier-free guidance needs.
    """

    schedule: Literal["linear", "cosine"] = "cosine"
    num_train_steps: int = 1000
    target: Literal["eps", "x0", "v"] = "v"
    min_snr_gamma: float | None = 5.0
    class_dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long, how fast and on what; the same for both stages.

    Args:
        max_images: Stop after this many training images; none leaves it to ``max_seconds``.
        max_seconds: Stop after this many seconds of training (validation and sampling not counted).
        images_per_epoch: Images between two validations and checkpoints; none takes the training set's size.
        batch_size: Number of images in a step.
        lr: Peak learning rate of AdamW.
        lr_warmup_images: Images over which the learning rate rises from zero.
        lr_final: Share of the peak that a cosine decay ends at; 1 keeps the rate constant.
        weight_decay: Decoupled weight decay.
        betas: AdamW's two momenta.
        grad_clip: Largest gradient norm; larger ones are scaled down to it.
        ema_half_life: Images after which a weight's share in the moving average has halved.
        ema_warmup: Largest half-life as a share of the images seen so far, so that the start is forgotten.
        precision: ``bf16`` is autocast; ``auto`` is bf16 where the GPU or CPU multiplies in it, else fp32.
        seed: Seed of the weights, the batches and the noise.
        accelerator: ``auto`` takes a GPU where there is one.
        num_threads: CPU threads; none leaves torch's choice.
    """

    max_images: int | None = 600_000
    max_seconds: float | None = None
    images_per_epoch: int | None = None
    batch_size: int = 64
    lr: float = 1e-3
    lr_warmup_images: int = 10_000
    lr_final: float = 0.01
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    grad_clip: float = 1.0
    ema_half_life: int = 20_000
    ema_warmup: float = 0.05
    precision: Precision = "auto"
    seed: int = 0
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    num_threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run's files go.

    Args:
        folder: The run's folder. Default: ``stages/<stage>/<name>``, named after the data set and the model.
        resume: Go on with the run in that folder from its last checkpoint.
        overwrite: Start anew over whatever is in that folder.
    """

    folder: str | None = None
    resume: bool = False
    overwrite: bool = False


def plain(config: Any) -> dict[str, Any]:
    """A config as the nested plain dict that YAML, JSON and checkpoints hold (tuples as lists)."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        return [convert(item) for item in value] if isinstance(value, tuple | list) else value

    return convert(asdict(config))


def rebuild(cls: type, values: dict[str, Any]) -> Any:
    """The flat dataclass ``cls`` from a dict that :func:`plain` made; unknown keys raise TypeError."""
    return cls(**{key: tuple(item) if isinstance(item, list) else item for key, item in values.items()})
