"""Stage two: train a diffusion model, on an autoencoder's cached latents or on pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng

from latentdiff import distributed
from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import DiffusionConfig, NetworkConfig, RunConfig, TrainerConfig, to_dict
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.data import DatasetSplits, ImageDataset
from latentdiff.data.identity import identity
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.errors import ConfigError
from latentdiff.files import check_cache_folder, file_sha256
from latentdiff.inference.model import DiffusionModel
from latentdiff.latents import CachedLatents, cache_latents, check_autoencoder, find_codec
from latentdiff.models.network import check_network, check_patch
from latentdiff.runs.run_folder import resumed_folder
from latentdiff.training.chosen_precision import choose_precision
from latentdiff.training.conditions import conditions_of, example_captions, tokenizer_of
from latentdiff.training.diffusers_init import read_origin
from latentdiff.training.diffusion_epoch_end import DiffusionEpochEnd
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.dry_run import print_dry_run
from latentdiff.training.fine_tune import check_initial_weights, load_initial_weights
from latentdiff.training.memory_limit import fit_memory
from latentdiff.training.provenance import finished_before, provenance
from latentdiff.training.quality_probe import QualityNet, QualityProbe, choose_monitor, net_of_run
from latentdiff.training.run_data import RunData
from latentdiff.training.trackers.tracked import check as check_trackers
from latentdiff.training.trackers.tracked import tracked
from latentdiff.training.trainer import check_folder, check_settings, fit, training_run
from latentdiff.training.training_data import load_training_data, splits_of


@isolate_rng()
def train_diffusion(
    data: CachedLatents | DatasetSplits | str | Path,
    *,
    autoencoder: AutoencoderCodec | Path | str | None = None,
    network: NetworkConfig | None = None,
    diffusion: DiffusionConfig | None = None,
    trainer: TrainerConfig | None = None,
    name: str = "diffusion",
    init: Path | str | None = None,
    validation_images: int = 1000,
    sample_every: int = 1,
    quality_images: int = 500,
    quality_net: QualityNet = "auto",
    latents_folder: Path | str | None = None,
    features_folder: Path | str | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Logger] = (),
    command: str = "",
) -> DiffusionModel:
    """Train a DDPM (Ho et al. 2020) on latents (Rombach et al. 2022) or on pixels, and return it with averaged weights.

    Args:
        data: Cached latents (:func:`~latentdiff.cache_latents`), a data set, or what
            :func:`~latentdiff.load_dataset` takes.
        autoencoder: What encodes a data set: an autoencoder, its file, or ``auto`` for the data set's own. Without one,
            or with ``none``, the model works on pixels. Cached latents bring their own.
        network: The denoising network. Default: ``NetworkConfig()``.
        diffusion: The noising process and its target. Default: ``DiffusionConfig()``.
        trainer: How long and on what. Default: ``TrainerConfig(monitor="auto")``: a run with a folder also keeps its
            best model by quality on validation images.
        name: Name of the run in its records.
        init: Fine-tune: start from the weights of this run (its folder or ``last.ckpt``) or model file, or of the
            UNet2DModel at ``diffusers:PATH_OR_ID``, which then is the network.
        validation_images: Held-out images that the loss is measured on at the end of each epoch; 0 for none.
        sample_every: Epochs between two sample grids (always the same seeds and classes) and quality figures.
        quality_images: Samples for each quality figure; 0 for none.
        quality_net: Whose features the quality is measured in: the data set's ``classifier``, ``inception``, or
            ``auto``: the classifier where there is one.
        latents_folder: Where latents are cached. Default: in memory.
        features_folder: Where Inception's features of held-out images are cached. Default: in memory.
        folder: The run's folder, which makes the run resumable. Default: nothing is written.
        resume: Go on from ``folder/last.ckpt``.
        overwrite: Start anew over an earlier run in ``folder``.
        dry_run: Print what the run needs, in memory, arithmetic and time, and return the model untrained.
        callbacks, loggers: More of Lightning's. A logger that fails is left out from then on.
        command: The command line that asked for it, for the model's record.

    Returns:
        The model, on the training device, with ``metrics`` (a row an epoch), ``settings`` and ``folder``.

    Raises:
        ConfigError: Settings that contradict each other, or an autoencoder for images of another shape.
        DataError: A data set that is missing or damaged.
        CheckpointError: A file that is missing or damaged, or a run that was trained on other images or latents.
        DivergenceError: A gradient that is NaN or infinite.
        FolderError: A folder that holds an earlier run or other files.

    Example:
        >>> from latentdiff import load_dataset, train_diffusion
        >>> from latentdiff.config import DataConfig, NetworkConfig, TrainerConfig
        >>> model = train_diffusion(
        ...     load_dataset(DataConfig(source="embedded")),
        ...     network=NetworkConfig(channels=(8, 8), num_res_blocks=1, attention_levels=(), head_channels=8),
        ...     trainer=TrainerConfig(max_images=32, batch_size=16, accelerator="cpu"),
        ...     validation_images=16,
        ...     quality_images=0,
        ... )  # doctest: +ELLIPSIS
        fashion-mnist train split ...
        >>> model.sample(num_images=2, steps=2).shape
        torch.Size([2, 1, 28, 28])
    """
    DiffusionStage.check_given(
        name=name, network=network, diffusion=diffusion, trainer=trainer, validation_images=validation_images
    )
    run = RunConfig(folder=str(folder) if folder else None, resume=resume, overwrite=overwrite)
    if not dry_run:
        check_folder(run, "diffusion", name)
        check_trackers(trainer or TrainerConfig(), run)
    # What a file's header, or its place, is enough to refuse: reading the images may take minutes.
    check_cache_folder(latents_folder, "latents_folder")
    check_cache_folder(features_folder, "features_folder")
    splits = splits_of(data)
    if not isinstance(data, CachedLatents) or autoencoder is not None:
        check_autoencoder(autoencoder, splits.config)
    QualityProbe.check(splits.name, quality_images, quality_net)
    origin = read_origin(init)
    if not origin:  # a pipeline of diffusers brings its own
        check_network(network or NetworkConfig())
    if init and not origin and not resumed_folder(run):
        check_initial_weights(init, "diffusion", network or NetworkConfig())

    # Load the images, and the codec whose latents the model is trained on. A pixel model's codec is the identity.
    splits = load_training_data(splits)
    train, held_out = splits.train, splits.held_out
    made = data.codec if isinstance(data, CachedLatents) else None
    device = check_settings(trainer or TrainerConfig(monitor="auto"))
    codec = (made if made and autoencoder is None else find_codec(autoencoder, splits)).to(device)
    if made and made.fingerprint != codec.fingerprint:
        raise ConfigError("autoencoder= names another autoencoder than that of the cached latents: leave it out")
    if isinstance(codec, AutoencoderCodec) and codec.provisional and not dry_run:
        data = cache_latents(codec, splits, folder=latents_folder)  # its statistics are of the training set
        codec = data.codec
    print(codec.describe())

    settings = DiffusionStage(
        name=name,
        autoencoder=str(autoencoder) if isinstance(autoencoder, str | Path) else codec.setting,
        data=splits.config,
        network=_without_missing_classes(network or NetworkConfig(), train),
        diffusion=diffusion or DiffusionConfig(),
        trainer=trainer or TrainerConfig(monitor="auto"),
        sample_every=sample_every,
        quality_images=quality_images,
        quality_net=quality_net,
        validation_images=validation_images,
        features_folder=None if features_folder is None else str(features_folder),
        latents_folder=None if latents_folder is None else str(latents_folder),
        init=str(init) if init else None,
        run=run,
    )
    codec.to(device)
    net = quality_net if quality_net != "auto" else net_of_run(resumed_folder(settings.run), splits.name)
    probe = QualityProbe.build(held_out, quality_images, device, net, settings.features_folder)
    # ``auto`` stands for a metric of this run. config.yaml keeps ``auto``.
    trainer = choose_monitor(settings.trainer, probe, held_out)
    check_settings(trainer)

    tokenizer = tokenizer_of(settings.network, train)

    # Build the network and its training step. The model samples from the average of the network's weights.
    lightning.seed_everything(trainer.seed, verbose=False)
    network = settings.network
    if origin:
        network = origin.network_for(codec.latent_shape, train.num_classes, network, settings.diffusion)
    check_patch(network, codec.latent_shape)
    module = DiffusionModule(codec, train.num_classes, network, settings.diffusion, trainer, tokenizer)
    module.commands, module.data_identity = [command] if command else [], identity(train)
    print(module.describe())
    # diffusers samples from noise of unit variance, and a pipeline of it draws what this model draws.
    is_unit = origin is not None and build_schedule(settings.diffusion).variance_preserving
    header = {"sampling": {"unit_noise": True}} if is_unit else {}
    model = DiffusionModel(
        module.ema.network, network, settings.diffusion, codec, _class_names(settings, train), header
    )
    model.captions = () if tokenizer is None else example_captions(train.captions)
    conditions = conditions_of(module.ema.network, train)
    sample = (codec.encode(train.images[:1]), conditions[:1])
    module.dtype_of_run = choose_precision(trainer, device, resumed_folder(settings.run))
    count = len(train.images) * (2 if splits.config.hflip else 1)  # mirrored images are kept too
    fit_memory(module, sample, count)
    if dry_run:
        print_dry_run(module, sample, count)
        return model
    # A run that goes on does so with its own images. Without a checkpoint of its own it starts from ``init`` again.
    run_data = RunData(train, held_out, codec.fingerprint)
    if earlier := resumed_folder(settings.run):
        run_data.check(earlier)
    elif origin:
        origin.load_into(module, train)
    elif settings.init:
        load_initial_weights(module, settings.init, "diffusion", train)

    with (
        training_run(settings, "diffusion", run_data) as run_folder,
        tracked(settings, run_folder, earlier is not None) as trackers,
    ):
        # Encode the images once, unless that was done.
        latents = (
            data if isinstance(data, CachedLatents) else cache_latents(codec, splits, folder=settings.latents_folder)
        )

        # Train, with samples and their quality at the end of each epoch.
        record = partial(provenance, module, train, to_dict(settings), **_stage_one(latents))
        save = partial(_save, model, record)
        epoch_end = DiffusionEpochEnd(
            run_folder,
            module,
            model,
            held_out=held_out,
            validation_images=validation_images,
            probe=probe,
            sample_every=sample_every,
            save=save,
        )
        fit(
            module,
            (latents.moments, conditions.repeat(len(latents) // len(train), *[1] * (conditions.ndim - 1))),
            run_folder,
            [epoch_end, *callbacks],
            resume,
            [*trackers, *loggers],
        )

        # Save the averaged network with its codec, in one file.
        before = finished_before(module, run_folder / "model.safetensors", "diffusion") if run_folder else None
        model.provenance, model.folder = before or record(), run_folder
        if run_folder and distributed.is_main_process():
            if before is None:
                save(run_folder / "model.safetensors")
            (run_folder / "last.safetensors").unlink(missing_ok=True)
            print(run_folder / "model.safetensors")
    return model


def _save(model: DiffusionModel, record: Callable[[], dict[str, Any]], path: Path) -> None:
    """Write the model with the record of its training so far."""
    model.provenance = record()
    model.write(path)


def _without_missing_classes(network: NetworkConfig, train: ImageDataset) -> NetworkConfig:
    """The network's settings, unconditional where the data set has no classes, which a line then says."""
    if not network.class_conditional or train.num_classes or network.text != "none":
        return network
    print(f"{train.name} has no classes here: the model is unconditional")
    return replace(network, class_conditional=False)


def _class_names(settings: DiffusionStage, train: ImageDataset) -> tuple[str, ...]:
    """The names that the model knows; none where it is unconditional, or reads captions."""
    return train.class_names if settings.network.class_conditional and settings.network.text == "none" else ()


def _stage_one(latents: CachedLatents) -> dict[str, Any]:
    """What the record says of stage one, whose time belongs to a latent model's; nothing for pixels."""
    codec = latents.codec
    if not isinstance(codec, TrainedModel):
        return {}
    return {
        "stage_one_seconds": codec.provenance.get("seconds"),
        "stage_one_flops": codec.provenance.get("flops"),
        "stage_one_device": codec.provenance.get("device"),
        "stage_one_sha256": file_sha256(codec.path) if codec.path else None,
        "codec_fingerprint": codec.fingerprint,
        "encode_seconds": latents.seconds,
    }
