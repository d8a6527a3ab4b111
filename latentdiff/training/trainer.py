"""One call that trains either stage: device, precision, logging, resuming."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from latentdiff import distributed
from latentdiff.config import RunConfig, TrainerConfig
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.errors import ConfigError
from latentdiff.precision import (
    check_default_dtype,
    disable_tf32,
    num_threads,
    resolve_device,
)
from latentdiff.run_checkpoint import LAST
from latentdiff.runs import run_folder
from latentdiff.runs.run_folder import resumed_folder, training_folder
from latentdiff.training import learning_rate
from latentdiff.training.base_module import StageModule
from latentdiff.training.callbacks import Progress
from latentdiff.training.checkpoint_files import CheckpointFiles
from latentdiff.training.chosen_precision import choose_precision
from latentdiff.training.memory import keep_freed_memory
from latentdiff.training.run_data import RunData
from latentdiff.training.sharded_strategy import ShardedStrategy
from latentdiff.training.trackers.guarded import GuardedLogger

# Images of an epoch, unless the settings say otherwise. Each epoch ends with samples and a checkpoint: after every pass
# over a hundred images they would take longer than the training.
SMALLEST_EPOCH = 5000


def check_settings(settings: TrainerConfig) -> torch.device:
    """The training device. Raises ConfigError for settings that no run can have, before anything is touched."""
    if not settings.max_images and not settings.max_seconds:
        raise ConfigError("a run needs an end: set --trainer.max_images or --trainer.max_seconds")
    check_default_dtype()
    learning_rate.check(settings)
    if settings.batch_size % distributed.world_size():
        raise ConfigError(
            f"--trainer.batch_size {settings.batch_size} cannot be shared by {distributed.world_size()} processes"
        )
    share = settings.batch_size // distributed.world_size()
    if settings.gradient_accumulation_steps > share:
        whose = " that each process has" if distributed.world_size() > 1 else ""
        raise ConfigError(
            f"--trainer.gradient_accumulation_steps {settings.gradient_accumulation_steps} splits the {share} "
            f"images of a batch{whose} into more parts than there are images"
        )
    device = resolve_device(settings.accelerator)
    if device.type == "cuda" and distributed.local_world_size() > torch.cuda.device_count():
        raise ConfigError(
            f"{distributed.local_world_size()} processes on this machine see {torch.cuda.device_count()} GPUs: "
            "start one process for each GPU, let each process see all GPUs, or use --trainer.accelerator cpu"
        )
    return device


def check_folder(run: RunConfig, stage: str, name: str) -> None:
    """Raise FolderError where :func:`training_run` would, before the images are loaded."""
    if run.folder and distributed.is_main_process():
        run_folder.check(run, stage, name, resumable=True)


@contextmanager
def training_run(settings: AutoencoderStage | DiffusionStage, stage: str, data: RunData) -> Iterator[Path | None]:
    """A run's folder, made ready and held, and its number of threads, until the run ends.

    Args:
        settings: The stage's settings. Without ``run.folder`` the run leaves no files, and the folder is None.
        stage: The name of the stage.
        data: What the run is trained on, which its folder keeps a record of.

    Raises:
        FolderError: The folder holds an earlier run or other files, or another process writes into it.
    """
    resumed = resumed_folder(settings.run)
    with num_threads(settings.trainer.num_threads), training_folder(settings, stage, settings.name) as folder:
        if folder and not resumed and distributed.is_main_process():
            data.save(folder)
        yield folder


def fit(
    module: StageModule,
    tensors: tuple[Tensor, ...],
    folder: Path | None,
    callbacks: Sequence[lightning.Callback],
    resume: bool = False,
    loggers: Sequence[Logger] = (),
) -> StageModule:
    """Train ``module`` on ``tensors`` until its budget is spent; return it, on the training device.

    Args:
        module: The training step; its settings say how long.
        tensors: What a batch is drawn from, of equal length; moved to the training device whole, or batch by batch
            where they are too large for it.
        folder: The run's folder, for TensorBoard (where ``loggers`` in the settings has it) and ``last.ckpt``; None
            writes neither.
        callbacks: What happens at the end of an epoch.
        resume: Go on from ``folder/last.ckpt`` where there is one.
        loggers: More of Lightning's loggers. One that fails does not end the training.
    """
    settings = module.settings
    device = check_settings(settings)
    if settings.max_images and learning_rate.is_long_warmup(settings.lr_warmup_images, settings.max_images):
        print(
            f"the learning rate rises over {settings.lr_warmup_images:,} images, but the run has only "
            f"{settings.max_images:,}: it will learn little. Lower lr_warmup_images, or raise max_images."
        )
    if device.type == "cpu":
        keep_freed_memory()
    last = folder / LAST if folder else None
    checkpoint = last if last and resume and last.is_file() else None
    distributed.check_same(f"whether {last} is there", checkpoint is not None)
    module.dtype_of_run = choose_precision(settings, device, checkpoint.parent if checkpoint else None)
    with quiet_lightning():
        trainer = lightning.Trainer(
            accelerator="cuda" if device.type == "cuda" else "cpu",
            devices=distributed.local_world_size(),
            num_nodes=distributed.world_size() // distributed.local_world_size(),
            precision="bf16-mixed" if module.dtype_of_run == torch.bfloat16 else "32-true",
            max_epochs=-1,
            limit_val_batches=0,
            logger=_loggers(settings, folder, loggers),
            log_every_n_steps=10**9,
            callbacks=[Progress(), *callbacks],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **_strategy(module),
        )
        module.data = tensors
        per_epoch = settings.images_per_epoch or max(len(tensors[0]), SMALLEST_EPOCH)
        per_epoch = min(per_epoch, settings.max_images or per_epoch)
        try:
            # What is left in fp32 under bf16 autocast is meant to be, and "fp32" must not become TF32 on a GPU.
            with disable_tf32():
                trainer.fit(
                    module,
                    # The steps of an epoch. The batches themselves follow from the images seen (base_module.py).
                    range(-(-per_epoch // settings.batch_size)),
                    ckpt_path=os.fspath(checkpoint) if checkpoint else None,
                    weights_only=True,
                )
            if module.resumed_at == module.images_seen:
                print(_finished_already(module))
        except SystemExit as stop:
            raise KeyboardInterrupt from stop  # Lightning turns the user's Ctrl-C into an exit without a word
    return module.to(device)


def _loggers(settings: TrainerConfig, folder: Path | None, others: Sequence[Logger]) -> list[Logger]:
    """TensorBoard, whose file is one of the run's own, and other loggers, which may fail."""
    own = [TensorBoardLogger(folder, name="", version="")] if folder and "tensorboard" in settings.loggers else []
    return [*own, *(other if isinstance(other, GuardedLogger) else GuardedLogger(other) for other in others)]


def _finished_already(module: StageModule) -> str:
    """What is said of a run that was resumed and had nothing left to do."""
    settings = module.settings
    spent = f"{module.images_seen:,} images and {module.seconds:,.0f} seconds"
    limits = {"max_images": settings.max_images, "max_seconds": settings.max_seconds}
    budgets = [f"trainer.{name} (now {value:,g})" for name, value in limits.items() if value]
    if module.progress() < 1.0:
        budgets = [f"trainer.stop_patience (now {settings.stop_patience})"]
    return f"the run had finished already, after {spent}: to continue it, raise {' and '.join(budgets)}"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice about loaders and loggers, which does not apply to these runs."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        # A decoder returns a view of its image, and nothing writes into it.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _strategy(module: StageModule) -> dict[str, Any]:
    """How Lightning writes checkpoints, and how several processes train ``module``: ``distributed`` joined them."""
    if distributed.world_size() == 1:
        # Said, or Lightning would take a job of Slurm's for several processes, and a RANK left behind for one of them.
        alone = LightningEnvironment()
        alone.set_global_rank(0)
        return {"plugins": [CheckpointFiles(), alone]}
    if module.sharded:
        strategy = ShardedStrategy(distributed.world_size())
    else:
        strategy = DDPStrategy(find_unused_parameters=module.has_unused_parameters, gradient_as_bucket_view=False)
    return {"strategy": strategy, "plugins": [CheckpointFiles(), TorchElasticEnvironment()]}
