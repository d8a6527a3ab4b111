"""Stage two: train the diffusion model, on cached latents or on pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch

from latentdiff import checkpoint, distributed
from latentdiff.codec import ENCODE_BATCH, IdentityCodec, load_codec
from latentdiff.config import TrainerConfig, plain
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.data import load_data, load_held_out
from latentdiff.errors import ConfigError
from latentdiff.inference.model import DiffusionModel
from latentdiff.latents import cached_moments
from latentdiff.report.grids import save_grid
from latentdiff.runs import folder as folders
from latentdiff.runs.find import find_autoencoder
from latentdiff.runs.lock import released_after
from latentdiff.training.callbacks import EpochEnd
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.fine_tune import warm_start
from latentdiff.training.provenance import provenance
from latentdiff.training.quality_probe import QualityProbe
from latentdiff.training.trainer import check_settings, fit

# Rows, and columns, of a run's sample grid.
GRID = 10


def shown_classes(count: int) -> list[int] | None:
    """The class of each image of a run's grid, a column a class; of more than ten classes, ten spread over all."""
    if not count:
        return None
    return [column * count // GRID if count > GRID else column % count for column in range(GRID)] * GRID


def _watching(settings: TrainerConfig, quality: str | None) -> TrainerConfig:
    """The settings with what ``monitor`` auto stands for in this run: the column of its quality figure, or nothing."""
    if settings.monitor != "auto":
        return settings
    if quality:
        print(f"the best model by {quality} on the validation images will be kept as best.safetensors")
    return replace(settings, monitor=quality)


@released_after
def train_diffusion(config: DiffusionStage, command: str = "") -> Path:
    """Train as ``config`` says and return the path of the run's ``model.safetensors``."""
    with distributed.main_process_first():
        train = load_data(config.data, "train")
        held_out = load_held_out(config.data)
    distributed.check_same("the images", (train.fingerprint, held_out.fingerprint))
    print(train.describe())
    if config.network.class_conditional and not train.num_classes:
        config = replace(config, network=replace(config.network, class_conditional=False))
        print(f"{train.name} has no classes here: the model is unconditional")
    stage_one = {}
    if config.autoencoder == "none":
        codec = IdentityCodec(train.image_shape)
        print("codec: none, the model works on pixels")
    else:
        path = find_autoencoder(config.autoencoder, config.data)
        codec = load_codec(path)
        if codec.image_shape != train.image_shape:
            raise ConfigError(f"{path} is for images of {codec.image_shape}, the data set has {train.image_shape}")
        before = checkpoint.read_header(path)["provenance"]
        stage_one = {
            "stage_one_seconds": before["seconds"],
            "stage_one_device": before.get("device"),
            "stage_one_sha256": checkpoint.file_sha256(path),
        }
        print(f"codec: {path}, {codec.compression:.1f}x fewer numbers")
    device = check_settings(config.trainer)
    codec.to(device)
    with distributed.main_process_first():
        probe = QualityProbe.build(
            held_out, config.quality_images, device, config.quality_net, Path(config.features_folder)
        )
    trainer = _watching(config.trainer, probe.metric if probe and held_out.split == "val" else None)
    check_settings(trainer)  # again, before a folder is touched: auto may have come to nothing
    lightning.seed_everything(config.trainer.seed, verbose=False)
    module = DiffusionModule(codec, train.num_classes, config.network, config.diffusion, trainer)
    module.commands = [command] if command else []
    parameters = sum(p.numel() for p in module.network.parameters())
    print(f"{config.network.architecture}: {parameters:,} parameters on {codec.latent_shape}")
    class_names = train.class_names if config.network.class_conditional else ()
    model = DiffusionModel(module.ema.network, config.network, config.diffusion, codec, class_names)
    name = f"{config.data.name}-{config.name}"
    # A run that was killed before its first checkpoint begins anew, from where it had begun.
    if config.init and not folders.goes_on(config.run, "diffusion", name):
        warm_start(module, config.init, "diffusion")
    folder = folders.prepare_once(config, "diffusion", name)
    cache = cached_moments(codec, train, Path(config.latents_folder), config.data.hflip)
    if stage_one:
        stage_one["encode_seconds"] = cache.seconds
    steps = min(20, config.diffusion.num_train_steps or 20)

    few = held_out.take(torch.arange(min(config.validation_images, len(held_out))))
    few_moments = torch.cat([codec.encode(chunk) for chunk in few.images.split(ENCODE_BATCH)]) if len(few) else None

    def validate() -> dict[str, float]:
        return {} if few_moments is None else {"val_loss": module.validation_loss(few_moments, few.labels)}

    def record() -> dict[str, Any]:
        return provenance(module, train, plain(config), **stage_one)

    def draw(path: Path) -> None:
        images = model.sample(GRID * GRID, labels=shown_classes(len(class_names)), batch_size=GRID * GRID, steps=steps)
        save_grid(images, path, columns=GRID)

    fit(
        module,
        (cache.moments, cache.labels),
        folder,
        [
            EpochEnd(
                folder,
                validate,
                draw,
                every=config.sample_every,
                keep=lambda: model.save(folder / "best.safetensors", record()),
                look=lambda: probe(model) if probe else {},
            )
        ],
        resume=config.run.resume,
    )
    path = folder / "model.safetensors"
    if distributed.is_main_process():
        model.save(path, record())
    print(path)
    return path
