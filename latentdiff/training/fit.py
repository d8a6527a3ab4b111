"""One call that trains either stage: device, precision, logging, resuming."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from latentdiff.training.callbacks import Progress
from latentdiff.training.stage_module import StageModule


def resolve_precision(precision: str, device: torch.device) -> str:
    """Lightning's name of the precision: ``auto`` is bf16 on a GPU that has it and fp32 elsewhere."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return {"fp32": "32-true", "bf16": "bf16-mixed"}[precision]


def resolve_device(accelerator: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``gpu`` means here; RuntimeError where a GPU is asked for and absent."""
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("--trainer.accelerator gpu: torch sees no GPU here (torch.cuda.is_available() is False)")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def fit(
    module: StageModule,
    tensors: tuple[Tensor, ...],
    folder: Path,
    callbacks: list[lightning.Callback],
    resume: bool,
) -> StageModule:
    """Train ``module`` on ``tensors`` until its budget is spent; return it, on the training device.

    Args:
        module: The trainer; its settings say how long.
        tensors: What a batch is drawn from, of equal length; moved to the training device whole.
        folder: The run's folder, for TensorBoard and ``last.ckpt``.
        callbacks: What happens at the end of an epoch.
        resume: Go on from ``folder/last.ckpt`` where there is one.
    """
    settings = module.settings
    device = resolve_device(settings.accelerator)
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    if not settings.max_images and not settings.max_seconds:
        raise ValueError("a run needs an end: set --trainer.max_images or --trainer.max_seconds")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
    trainer = lightning.Trainer(
        accelerator="cuda" if device.type == "cuda" else "cpu",
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=resolve_precision(settings.precision, device),
        max_epochs=-1,
        limit_val_batches=0,
        logger=TensorBoardLogger(folder, name="", version=""),
        log_every_n_steps=10**9,
        callbacks=[Progress(), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    world = settings.devices * settings.num_nodes
    if settings.batch_size % world:
        raise ValueError(f"--trainer.batch_size {settings.batch_size} cannot be shared by {world} devices")
    module.data = tensors
    per_epoch = min(settings.images_per_epoch or len(tensors[0]), settings.max_images or 2**62)
    checkpoint = folder / "last.ckpt"
    trainer.fit(
        module,
        range(-(-per_epoch // settings.batch_size)),
        ckpt_path=os.fspath(checkpoint) if resume and checkpoint.is_file() else None,
    )
    return module.to(device)
