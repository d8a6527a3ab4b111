"""Settings of training: budget, optimiser, precision and devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.ranges import (
    BatchSize,
    Devices,
    Epochs,
    Fraction,
    Images,
    ImagesOrNone,
    LearningRate,
    Range,
    Seconds,
    Seed,
    Threads,
)

Precision = Literal["auto", "fp32", "bf16"]

LoggerName = Literal["csv", "tensorboard", "wandb", "mlflow", "trackio"]

AdamBeta = Annotated[float, Range(0, 1, below=True)]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Settings):
    """Budget, optimiser, precision and devices of a training, for both stages.

    Args:
        max_images: Stop after this many training images. None means no limit but ``max_seconds``.
        max_seconds: Stop after this many seconds of training (validation and sampling not counted).
        images_per_epoch: Number of images between two validations and checkpoints. Default: size of the training set,
            mirrored images included, but at least 5,000.
        batch_size: Number of images in a step.
        gradient_accumulation_steps: Number of micro-batches that a batch is split into. The gradient is that of the
            whole batch, and the memory that of one micro-batch.
        lr: Peak learning rate of AdamW.
        lr_warmup_images: Number of images over which the learning rate rises from 0.
        lr_schedule: Learning rate after the warm-up. ``cosine`` decays over the whole budget. ``constant`` keeps it.
            ``cosine_then_constant`` decays first and then stays constant. ``step`` multiplies the rate by
            ``lr_step_factor`` every ``lr_step_images``. ``plateau`` does so when ``monitor`` has not improved for
            ``lr_patience`` measurements.
        lr_final: Final learning rate of a cosine decay, as a fraction of ``lr``.
        lr_decay_share: Fraction of the budget over which cosine_then_constant decays.
        lr_step_images: Number of images between two steps of the ``step`` schedule.
        lr_step_factor: Factor on the learning rate at a step or a plateau.
        lr_patience: Number of measurements of ``monitor`` without a new best value that make a plateau.
        monitor: Column of metrics.csv to watch, such as ``distance``, ``kid``, ``val_loss`` or ``psnr``. A diffusion
            model with a new best value is saved as best.safetensors, next to the last model. ``auto`` (the diffusion
            stage's default) watches the quality metric if the data set has a validation split. Otherwise it watches
            nothing, since a model chosen by the test images could not be evaluated on them.
        monitor_mode: ``min`` where a smaller value of ``monitor`` is better, ``max`` where a larger one is.
        stop_patience: Stop after this many measurements of ``monitor`` without a new best value. Quality is measured
            every ``sample_every`` epochs, other metrics every epoch. None never stops early.
        weight_decay: Decoupled weight decay of AdamW.
        betas: The two betas of AdamW.
        grad_clip: Largest gradient norm. A larger gradient is scaled down to it.
        ema_half_life: Half-life of the moving average of the weights (EMA), in training images.
        ema_warmup: Largest half-life as a fraction of the images seen so far. With a smaller fraction the EMA forgets
            the start of the training sooner.
        ema_snapshots: Number of snapshots of two more averages, spread evenly over the budget. They are kept in ema/ in
            the run's folder. An average of any length can be made from them after the run (post-hoc EMA, Karras et al.
            2024). 0 keeps none.
        precision: Precision of the network. ``bf16`` is autocast. ``auto`` is bf16 where it is faster, else fp32.
        compile: Whether to compile the trained networks with torch.compile, which takes minutes at the start. ``auto``
            compiles runs of at least 15 minutes and 10,000 steps on a GPU. If the compiler fails, such a run continues
            without it. Results differ by rounding.
        memory: Memory that a training may take on a device: a number of bytes, or ``auto`` for what is free there. A
            batch that needs more is computed in more parts (``gradient_accumulation_steps``). Batch size and learning
            rate do not change. Default: batches are not split.
        seed: Seed of the weights, the batches and the noise.
        accelerator: Kind of device. ``auto`` uses a GPU where there is one.
        devices: Number of GPUs, or of processes on a CPU, that share ``batch_size``. With more than one, the command
            starts torchrun. Under torchrun or srun the number must be that of the processes on a node.
        num_nodes: Number of machines, each with ``devices``. Start the command on each of them with torchrun or srun.
        strategy: How several processes share the work. ``ddp`` shares the images; each process has the whole network.
            ``fsdp`` also shares weights, gradients and optimiser state, which saves memory and is slower for a small
            network. Each process holds the whole EMA.
        num_threads: Number of CPU threads. Default: torch's choice.
        loggers: Where the numbers of each epoch go. ``csv`` is metrics.csv in the run's folder, and ``tensorboard`` a
            file next to it. ``wandb``, ``mlflow`` and ``trackio`` (extras of these names) also get the settings, the
            grids of samples and the model. Without a key or a server they keep everything on this machine. If a tracker
            fails, the training continues.
    """

    max_images: Images | None = 600_000
    max_seconds: Seconds | None = None
    images_per_epoch: Images | None = None
    batch_size: BatchSize = 64
    gradient_accumulation_steps: BatchSize = 1
    lr: LearningRate = 1e-3
    lr_warmup_images: ImagesOrNone = 10_000
    lr_schedule: Literal["cosine", "constant", "cosine_then_constant", "step", "plateau"] = "cosine"
    lr_final: Fraction = 0.01
    lr_decay_share: Annotated[float, Range(0, 1, above=True)] = 0.5
    lr_step_images: Images = 100_000
    lr_step_factor: Annotated[float, Range(0, 1, above=True, below=True)] = 0.5
    lr_patience: Epochs = 5
    monitor: str | None = None
    monitor_mode: Literal["min", "max"] = "min"
    stop_patience: Epochs | None = None
    weight_decay: Annotated[float, Range(0, 100)] = 0.01
    betas: tuple[AdamBeta, AdamBeta] = (0.9, 0.99)
    grad_clip: Annotated[float, Range(0, 10**9, above=True)] = 1.0
    ema_half_life: ImagesOrNone = 20_000
    ema_warmup: Annotated[float, Range(0, 1000)] = 0.05
    ema_snapshots: Annotated[int, Range(0, 1000)] = 0
    precision: Precision = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    memory: Literal["auto"] | Annotated[int, Range(1, 10**15)] | None = None
    seed: Seed = 0
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Devices = 1
    num_nodes: Devices = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    num_threads: Threads | None = None
    loggers: tuple[LoggerName, ...] = ("csv", "tensorboard")
