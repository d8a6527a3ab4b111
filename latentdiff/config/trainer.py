"""How long, how fast and on what a run trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentdiff.config.base import Settings

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Settings):
    """How long, how fast and on what; the same for both stages.

    Args:
        max_images: Stop after this many training images; none leaves it to ``max_seconds``.
        max_seconds: Stop after this many seconds of training (validation and sampling not counted).
        images_per_epoch: Images between two validations and checkpoints; none takes the training set's size.
        batch_size: Number of images in a step.
        gradient_accumulation_steps: Parts that a batch is computed in, one after the other. The gradient is that of
            the whole batch, the memory that of a part.
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
    gradient_accumulation_steps: int = 1
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
