"""Every setting of every part, as frozen dataclasses.

Nothing here imports torch, so that a command line can be parsed, and its help printed, without waiting for it.
The defaults are the Fashion-MNIST setting; a file under ``configs/`` holds only what differs from them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from latentdiff.settings import Settings

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """Which images.

    Args:
        name: The data set. ``folder`` is a directory or zip of one's own images, ``mixed`` several data sets as one.
        root: Folder that holds it in torchvision's layout, or where it is downloaded to. Default: the environment
            variable LATENTDIFF_DATA, else ``data``.
        path: A directory or zip of images: of a ``folder``, or of CelebA or the pets where they lie elsewhere. Of a
            ``mix`` with a folder it is the folder's.
        source: Of Fashion-MNIST: ``full`` needs the whole set, ``embedded`` takes the slice inside the package (10,000
            training and 2,000 test images), ``auto`` takes the whole set where it is present or can be downloaded,
            else the slice.
        size: Side of the squares that images become. Default: 28 or 32 where that is what they are, else 64.
        colour: ``rgb``, ``grey``, or ``auto``: as they are (files: RGB).
        crop: What is cut from the shorter side's square: the ``center``, or a ``random`` place by (seed, file).
        hflip: Mirror training images at random. Right for photographs, wrong for shoes that all point left.
        split: ``official`` is that of the data set's authors, ``fractions`` pools all images; ``default`` is the
            official one where there is one, but pools Flowers-102, whose own training split has 1,020 images.
        fractions: Shares of training, validation and test images, the same in every class; refused where the official
            split is taken.
        split_seed: Seed of the split, of random crops and of ``max_images``.
        max_images: Train on no more than this many images.
        classes: ``labels``, ``none``, an attribute of CelebA (such as ``Smiling``), or a column of ``table``.
        table: Of a ``folder``: a CSV with a header, file names in its first column and classes in its second. Without
            one the sub-folders are the classes.
        mix: The data sets of ``mixed``.
        mix_share: ``balanced`` takes as many images of each as the smallest has, ``proportional`` all.
        on_bad_image: Files that cannot be used are listed by name: as an error, or as a note while they are left out
            (``skip``).
        cache_folder: Where decoded images are kept.
    """

    name: Literal[
        "fashion-mnist", "mnist", "cifar-10", "flowers-102", "celeba", "oxford-iiit-pet", "folder", "mixed"
    ] = "fashion-mnist"
    root: str | None = None
    path: str | None = None
    source: Literal["auto", "full", "embedded"] = "auto"
    size: int | None = None
    colour: Literal["auto", "rgb", "grey"] = "auto"
    crop: Literal["center", "random"] = "center"
    hflip: bool = False
    split: Literal["default", "official", "fractions"] = "default"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    max_images: int | None = None
    classes: str = "labels"
    table: str | None = None
    mix: tuple[str, ...] = ()
    mix_share: Literal["balanced", "proportional"] = "balanced"
    on_bad_image: Literal["error", "skip"] = "error"
    cache_folder: str = "stages/data"


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


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Settings):
    """The denoising network.

    Args:
        architecture: ``unet``, or ``resnet``: residual blocks at one resolution.
        channels: Width at each resolution, finest first; each further entry halves the side (rounded up).
        num_res_blocks: Residual blocks at each resolution.
        attention_levels: Resolutions that have self-attention, counted from the finest, 0.
        middle_attention: Self-attention between the way down and the way up.
        head_channels: Channels of one attention head.
        dropout: Dropout inside the residual blocks.
        time_embedding: ``sinusoidal`` (DDPM), or ``fourier``: fixed random frequencies, for ``edm`` and ``ve``.
        fourier_scale: Standard deviation of those frequencies, in turns per unit of time.
        conditioning: How blocks are told time and class: ``scale_shift`` of the second group norm, ``additive`` before
            it (DDPM), conditional ``batch_norm``, or ``none``: not at all.
        embedding_channels: Width of the embedding of time and class; none takes four times the first width.
        class_conditional: Give the network the class; false trains an unconditional model.
    """

    architecture: Literal["unet", "resnet"] = "unet"
    channels: tuple[int, ...] = (64, 96)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1)
    middle_attention: bool = True
    head_channels: int = 32
    dropout: float = 0.0
    time_embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"
    fourier_scale: float = 2.0
    conditioning: Literal["scale_shift", "additive", "batch_norm", "none"] = "scale_shift"
    embedding_channels: int | None = None
    class_conditional: bool = True


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Settings):
    """The noising process and what the network learns of it.

    Args:
        schedule: The process. Keeping the variance: ``linear`` (DDPM), ``scaled_linear`` (Stable Diffusion),
            ``cosine`` (Improved DDPM), ``sigmoid`` (Jabri et al.). Exploding, x = x0 + sigma eps: ``edm`` (Karras et
            al., log-normal training sigmas), ``ve`` (Song et al., uniform in log sigma).
        num_train_steps: Steps T of a discrete process; none is continuous time, which ``edm`` and ``ve`` always have.
        beta_range: First and last beta of a discrete ``linear`` or ``scaled_linear`` process, whatever its number of
            steps. Default: the papers', of 1,000 steps, scaled to another number so that it ends with as much noise.
        zero_terminal_snr: Rescale the schedule so that its last step is pure noise (Lin et al.).
        sigma_min: Least noise of ``edm`` and ``ve``.
        sigma_max: Most noise of ``edm`` and ``ve``.
        log_sigma_normal: Mean and standard deviation of log sigma in ``edm`` training.
        sigma_data: Standard deviation of the data: 1 for latents, which are standardised; about 0.5 for photographs in
            [-1, 1]. It scales the network's input and the ``edm`` target and weight.
        target: What the network predicts.
        learn_variance: Let the network predict the reverse process's variance too (Improved DDPM): twice the output
            channels, and the variational bound beside the loss.
        variance_weight: Weight of that bound, in nats per dimension summed over the steps.
        loss_weight: ``simple``, ``min_snr``, ``truncated_snr`` or ``edm``; all but the first are given on the error of
            x0 and converted to the target's.
        min_snr_gamma: Cap of the signal-to-noise ratio in ``min_snr``.
        class_dropout: Share of training images whose class is hidden, which classifier-free guidance needs.
    """

    schedule: Literal["linear", "scaled_linear", "cosine", "sigmoid", "edm", "ve"] = "cosine"
    num_train_steps: int | None = 1000
    beta_range: tuple[float, float] | None = None
    zero_terminal_snr: bool = False
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    log_sigma_normal: tuple[float, float] = (-1.2, 1.2)
    sigma_data: float = 1.0
    target: Literal["eps", "x0", "v", "edm", "score"] = "v"
    learn_variance: bool = False
    variance_weight: float = 0.001
    loss_weight: Literal["simple", "min_snr", "truncated_snr", "edm"] = "min_snr"
    min_snr_gamma: float = 5.0
    class_dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Settings):
    """How long, how fast and on what; the same for both stages.

    Args:
        max_images: Stop after this many training images; none leaves it to ``max_seconds``.
        max_seconds: Stop after this many seconds of training (validation and sampling not counted).
        images_per_epoch: Images between two validations and checkpoints; none takes the training set's size.
        batch_size: Number of images in a step.
        accumulate: Parts that a batch is computed in, one after the other: the gradient of the whole batch in the
            memory of a part.
        lr: Peak learning rate of AdamW.
        lr_warmup_images: Images over which the learning rate rises from zero.
        lr_schedule: The learning rate after its warm-up: ``cosine`` over the whole budget, ``constant``,
            ``cosine_then_constant``, ``step`` (times ``lr_step_factor`` every ``lr_step_images``), or ``plateau``
            (times that factor whenever ``monitor`` has not improved for ``lr_patience`` epochs).
        lr_final: Share of the peak that a cosine decay ends at.
        lr_decay_share: Share of the budget over which cosine_then_constant decays.
        lr_step_images: Images between two steps.
        lr_step_factor: What a step or a plateau multiplies the rate by.
        lr_patience: Epochs without a new best that make a plateau.
        monitor: A column of metrics.csv to watch, such as ``distance``, ``kid``, ``val_loss`` or ``psnr``. A diffusion
            model is kept as best.safetensors, beside the last one, whenever it has a new best. ``auto``, there the
            default, watches the quality figure where the held-out images are a validation split's, and else nothing:
            a model that was chosen by the test images could not be judged by them.
        monitor_mode: Whether less of it is better (``min``) or more (``max``).
        stop_patience: End the run after this many epochs without a new best; none never does.
        weight_decay: Decoupled weight decay.
        betas: AdamW's two momenta.
        grad_clip: Largest gradient norm; larger ones are scaled down to it.
        ema_half_life: Images after which a weight's share in the moving average has halved.
        ema_warmup: Largest half-life as a share of the images seen so far, so that the start is forgotten.
        precision: ``bf16`` is autocast; ``auto`` is bf16 where the GPU or CPU multiplies in it, else fp32.
        seed: Seed of the weights, the batches and the noise.
        accelerator: ``auto`` takes a GPU where there is one.
        devices: GPUs to train on at once, or processes on a CPU, which share ``batch_size``. More than one are begun by
            torchrun; under torchrun or srun their number is that of the processes that were begun.
        num_nodes: Machines, each of ``devices``; on each of them torchrun or srun must begin the command.
        strategy: What several processes share. ``ddp``: the images, each with the whole network. ``fsdp``: the weights,
            gradients and optimiser's state of it too, which leaves its average alone whole; slower for a small one.
        num_threads: CPU threads; none leaves torch's choice.
    """

    max_images: int | None = 600_000
    max_seconds: float | None = None
    images_per_epoch: int | None = None
    batch_size: int = 64
    accumulate: int = 1
    lr: float = 1e-3
    lr_warmup_images: int = 10_000
    lr_schedule: Literal["cosine", "constant", "cosine_then_constant", "step", "plateau"] = "cosine"
    lr_final: float = 0.01
    lr_decay_share: float = 0.5
    lr_step_images: int = 100_000
    lr_step_factor: float = 0.5
    lr_patience: int = 5
    monitor: str | None = None
    monitor_mode: Literal["min", "max"] = "min"
    stop_patience: int | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    grad_clip: float = 1.0
    ema_half_life: int = 20_000
    ema_warmup: float = 0.05
    precision: Precision = "auto"
    seed: int = 0
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    num_threads: int | None = None


SamplerName = Literal[
    "ddpm",
    "ddim",
    "euler",
    "euler_ancestral",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "unipc",
    "euler_maruyama",
    "predictor_corrector",
]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Settings):
    """How to go from noise to images.

    Args:
        steps: Sampling steps, each one network pass; heun and predictor_corrector take two.
        sampler: The solver that walks from noise to image.
        spacing: Where the steps are; default: trailing, for exploding processes karras.
        rho: Exponent of the karras spacing (Karras et al. 2022, equation 5), default 7: larger puts more steps near the
            image.
        guidance_scale: Classifier-free guidance: 1 is off, 0 ignores the class, larger exaggerates it; with a guide,
            autoguidance.
        guidance_interval: Guide only where noise over signal, sigma / alpha, lies between these two.
        guide: Model file of a weaker model of the same kind, to be guided away from (autoguidance).
        thresholding: How x0 is kept within the bounds of pixels: static clamps, dynamic scales it first (Imagen). In a
            latent space nothing is ever clamped.
        variance: What ddpm adds: small (beta-tilde), large (beta) or learned; default: learned where the model has it,
            else small.
        eta: Noise of ddim (default 0; 1 is as much as ddpm), euler_ancestral and dpmpp_2m_sde (default 1).
        churn: Karras's S_churn for heun: noise added and taken away again on the way.
        churn_min: Least sigma / alpha that churn acts at.
        churn_max: Most sigma / alpha that churn acts at.
        churn_noise: Standard deviation of churn's noise.
        corrector_steps: Langevin steps of predictor_corrector after each step.
        corrector_snr: Size of those Langevin steps (the paper's r, 0.16).
        precision: Of the denoising network; the decoder's is always fp32. ``bf16`` is autocast, faster for more than
            a few images where the GPU or CPU multiplies in it, and moves the images a little.
        seed: Image i depends on (seed, i) alone.
        batch_size: Images at a time; changes memory, not images.
    """

    steps: int = 20
    sampler: SamplerName = "dpmpp_2m"
    spacing: Literal["trailing", "leading", "linspace", "quadratic", "karras"] | None = None
    rho: float | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guide: str | None = None
    thresholding: Literal["none", "static", "dynamic"] = "static"
    variance: Literal["small", "large", "learned"] | None = None
    eta: float | None = None
    churn: float | None = None
    churn_min: float | None = None
    churn_max: float | None = None
    churn_noise: float | None = None
    corrector_steps: int | None = None
    corrector_snr: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
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
