"""Stage one: train the autoencoder, which is also the VAE baseline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from latentdiff import distributed
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, PhaseConfig, RunConfig, TrainerConfig, to_dict
from latentdiff.config.training_stages import AutoencoderStage
from latentdiff.data import DatasetSplits
from latentdiff.data.identity import identity
from latentdiff.data.mapped import with_mirrored
from latentdiff.errors import ConfigError
from latentdiff.evaluation.reference_subset import representative
from latentdiff.models.lpips import LPIPS, load_trunk_weights
from latentdiff.precision import resolve_device
from latentdiff.runs.run_folder import resumed_folder
from latentdiff.training.autoencoder_epoch_end import AutoencoderEpochEnd
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.chosen_precision import choose_precision
from latentdiff.training.dry_run import print_dry_run
from latentdiff.training.fine_tune import check_initial_weights, load_initial_weights
from latentdiff.training.memory_limit import fit_memory
from latentdiff.training.phases import check_phases, losses_of_phases
from latentdiff.training.provenance import finished_before, provenance
from latentdiff.training.run_data import RunData
from latentdiff.training.trackers.tracked import check as check_trackers
from latentdiff.training.trackers.tracked import tracked
from latentdiff.training.trainer import check_folder, check_settings, fit, training_run
from latentdiff.training.training_data import load_training_data, splits_of


@isolate_rng()
def train_autoencoder(
    data: DatasetSplits | str | Path,
    *,
    network: AutoencoderConfig | None = None,
    loss: AutoencoderLossConfig | None = None,
    phases: Sequence[PhaseConfig] = (),
    trainer: TrainerConfig | None = None,
    name: str = "autoencoder",
    init: Path | str | None = None,
    validation_images: int = 1000,
    folder: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Logger] = (),
    command: str = "",
) -> AutoencoderCodec:
    """Train a convolutional VAE that compresses images 8 to 24 times, and return it with its averaged weights.

    Args:
        data: A data set, or what :func:`~latentdiff.load_dataset` takes.
        network: The encoder and the decoder. Default: ``AutoencoderConfig()``.
        loss: What it is trained for. Default: ``AutoencoderLossConfig()``.
        phases: Later parts of the run with other losses, a frozen encoder or another learning rate.
        trainer: How long and on what. Default: ``TrainerConfig()``.
        name: Name of the run in its records.
        init: Fine-tune: start from the weights of this run (its folder or ``last.ckpt``) or model file.
        validation_images: Held-out images whose reconstructions are measured at the end of each epoch; 0 for none.
        folder: The run's folder, which makes the run resumable. Default: nothing is written.
        resume: Go on from ``folder/last.ckpt``.
        overwrite: Start anew over an earlier run in ``folder``.
        dry_run: Print what the run needs, in memory, arithmetic and time, and return the model untrained.
        callbacks, loggers: More of Lightning's. A logger that fails is left out from then on.
        command: The command line that asked for it, for the model's record.

    Returns:
        The autoencoder, on the training device, with ``metrics`` (a row an epoch), ``settings`` and ``folder``.

    Raises:
        ConfigError: Settings that contradict each other.
        DataError: A data set that is missing or damaged.
        CheckpointError: A file that is missing or damaged, or a run that was trained on other images.
        DivergenceError: A gradient that is NaN or infinite.
        FolderError: A folder that holds an earlier run or other files.

    Example:
        >>> from latentdiff import load_dataset, train_autoencoder
        >>> from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DataConfig, TrainerConfig
        >>> autoencoder = train_autoencoder(
        ...     load_dataset(DataConfig(source="embedded")),
        ...     network=AutoencoderConfig(channels=(8, 8, 8), attention=False),
        ...     loss=AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0),
        ...     trainer=TrainerConfig(max_images=32, batch_size=16, accelerator="cpu"),
        ...     validation_images=16,
        ... )  # doctest: +ELLIPSIS
        fashion-mnist train split ...
        >>> autoencoder.latent_shape
        (2, 7, 7)
    """
    AutoencoderStage.check_given(
        name=name, network=network, loss=loss, trainer=trainer, validation_images=validation_images
    )
    trainer, loss = trainer or TrainerConfig(), loss or AutoencoderLossConfig()
    _check(trainer, loss, phases, init)
    run = RunConfig(folder=str(folder) if folder else None, resume=resume, overwrite=overwrite)
    if not dry_run:
        check_folder(run, "autoencoder", name)
        check_trackers(trainer or TrainerConfig(), run)

    # Load the network whose features the perceptual loss compares, and then the images, which may take minutes.
    if init and not resumed_folder(run):
        check_initial_weights(init, "autoencoder")
    perceptual = _perceptual(loss, phases)
    splits = load_training_data(splits_of(data))
    train, held_out = splits.train, splits.held_out
    settings = AutoencoderStage(
        name=name,
        data=splits.config,
        network=network or AutoencoderConfig(),
        loss=loss,
        phases=tuple(phases),
        trainer=trainer,
        validation_images=validation_images,
        init=str(init) if init else None,
        run=run,
    )

    # Build the networks and their training step.
    lightning.seed_everything(settings.trainer.seed, verbose=False)
    module = AutoencoderModule(train.image_shape, settings.network, settings.loss, settings.trainer, perceptual, phases)
    module.commands, module.data_identity = [command] if command else [], identity(train)
    print(module.describe())
    count = len(train.images) * (2 if settings.data.hflip else 1)
    module.dtype_of_run = choose_precision(trainer, resolve_device(trainer.accelerator), resumed_folder(run))
    fit_memory(module, (train.images[:1],), count)
    if dry_run:
        print_dry_run(module, (train.images[:1],), count)
        unknown = torch.zeros(settings.network.latent_channels)  # the latents' statistics
        return AutoencoderCodec(module.ema.network, settings.network, unknown, unknown + 1.0)
    # A run that goes on does so with its own images. Without a checkpoint of its own it starts from ``init`` again.
    run_data = RunData(train, held_out, perceptual=None if perceptual is None else perceptual.weights_sha256)
    if earlier := resumed_folder(settings.run):
        run_data.check(earlier)
    elif settings.init:
        load_initial_weights(module, settings.init, "autoencoder", train)

    with (
        training_run(settings, "autoencoder", run_data) as run_folder,
        tracked(settings, run_folder, earlier is not None) as trackers,
    ):
        # Train on images, mirrored too where that was asked for.
        images = with_mirrored(train.images) if settings.data.hflip else train.images
        record = partial(provenance, module, train, to_dict(settings), perceptual=perceptual is not None)
        measured = representative(held_out, validation_images).images
        epoch_end = AutoencoderEpochEnd(run_folder, module, images, measured, record)
        fit(module, (images,), run_folder, [epoch_end, *callbacks], resume, [*trackers, *loggers])

        # Measure the latents' statistics over the training set (a frozen encoder keeps its own), and save the averaged
        # network with them.
        codec = module.build_codec(images)
        before = finished_before(module, run_folder / "model.safetensors", "autoencoder") if run_folder else None
        codec.provenance, codec.folder = before or record(), run_folder
        print(f"latent mean {_listed(codec.mean)}, std {_listed(codec.std)} per channel over the training set")
        if run_folder and distributed.is_main_process():
            if before is None:
                codec.write(run_folder / "model.safetensors")
            (run_folder / "last.safetensors").unlink(missing_ok=True)
            print(run_folder / "model.safetensors")
    return codec


def _check(
    trainer: TrainerConfig, loss: AutoencoderLossConfig, phases: Sequence[PhaseConfig], init: Path | str | None
) -> None:
    """Raise ConfigError for settings that no run can have, before anything is read or written."""
    check_settings(trainer)
    check_phases(loss, phases, trainer)
    if trainer.monitor == "auto":
        raise ConfigError("--trainer.monitor auto is for the diffusion stage: name a column, such as psnr")
    if trainer.strategy == "fsdp" and any(phase.frozen_encoder for phase in phases):
        raise ConfigError("a phase that freezes the encoder needs it whole: use --trainer.strategy ddp")
    if loss.frozen_encoder and not init:
        raise ConfigError("loss.frozen_encoder keeps the encoder of another model: name that one with --init")


def _perceptual(loss: AutoencoderLossConfig, phases: Sequence[PhaseConfig]) -> LPIPS | None:
    """The LPIPS loss; None where it is off, or where its trunk cannot be had, which a line then says."""
    losses = losses_of_phases(loss, phases)
    if not any(each.perceptual_weight for each in losses):
        return None
    with distributed.main_process_first():
        trunk = load_trunk_weights(loss.perceptual_net, loss.perceptual_weights)
    distributed.check_same("whether the LPIPS trunk is there", trunk is None)
    if trunk is None:
        judged = any(each.feature_adversarial_weight for each in losses)
        more = ", and with it the discriminator of its features" if judged else ""
        print(
            f"perceptual loss off{more}: the weights of {loss.perceptual_net} were not found and could not be "
            "downloaded. Set LATENTDIFF_LPIPS to their folder."
        )
        return None
    return LPIPS(trunk, loss.perceptual_net, loss.perceptual_min_side)


def _listed(values: Tensor) -> str:
    return ", ".join(f"{float(value):.3f}" for value in values)
