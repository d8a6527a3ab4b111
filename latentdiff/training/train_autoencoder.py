"""Stage one: train the autoencoder, which is also the VAE baseline."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch

from latentdiff import checkpoint, distributed
from latentdiff.config import plain
from latentdiff.config.training_stages import AutoencoderStage
from latentdiff.data import load_data, load_held_out
from latentdiff.errors import ConfigError
from latentdiff.models.lpips import Perceptual, find_trunk
from latentdiff.report.grids import save_grid
from latentdiff.runs import folder as folders
from latentdiff.runs.lock import released_after
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.callbacks import EpochEnd
from latentdiff.training.fine_tune import warm_start
from latentdiff.training.provenance import provenance
from latentdiff.training.trainer import check_settings, fit


@released_after
def train_autoencoder(config: AutoencoderStage, command: str = "") -> Path:
    """Train as ``config`` says and return the path of the run's ``model.safetensors``."""
    with distributed.main_process_first():
        train = load_data(config.data, "train")
        held_out = load_held_out(config.data)
    print(train.describe())
    check_settings(config.trainer)
    if config.loss.frozen_encoder and not config.init:
        raise ConfigError("loss.frozen_encoder keeps the encoder of another model: name that one with --init")
    perceptual = None
    if config.loss.perceptual_weight:
        with distributed.main_process_first():
            trunk = find_trunk(config.loss.perceptual_net, config.loss.perceptual_weights)
        if trunk is None:
            more = ", and with it the discriminator of its features" if config.loss.feature_adversarial_weight else ""
            print(f"perceptual loss off: the LPIPS trunk is not here and could not be downloaded{more}")
        else:
            perceptual = Perceptual(trunk, config.loss.perceptual_net, config.loss.perceptual_min_side)
    distributed.check_same(
        "the images or the LPIPS trunk", (train.fingerprint, held_out.fingerprint, perceptual is None)
    )
    lightning.seed_everything(config.trainer.seed, verbose=False)
    module = AutoencoderModule(train.image_shape, config.model, config.loss, config.trainer, perceptual)
    module.commands = [command] if command else []
    parameters = sum(p.numel() for p in module.network.parameters())
    print(
        f"autoencoder: {parameters:,} parameters, {'x'.join(map(str, train.image_shape))} -> "
        f"{'x'.join(map(str, module.network.latent_shape))}, {module.network.compression:.1f}x fewer numbers"
    )
    name = f"{config.data.name}-{config.name}"
    # A run that was killed before its first checkpoint begins anew, from where it had begun.
    if config.init and not folders.goes_on(config.run, "autoencoder", name):
        warm_start(module, config.init, "autoencoder")
    folder = folders.prepare_once(config, "autoencoder", name)
    images = torch.cat([train.images, train.images.flip(-1)]) if config.data.hflip else train.images
    validation = held_out.images[: config.validation_images]
    fit(
        module,
        (images,),
        folder,
        [
            EpochEnd(
                folder,
                validate=lambda: module.validate(validation),
                draw=lambda path: save_grid(module.preview(validation[:16]).flatten(0, 1), path, columns=16),
            )
        ],
        resume=config.run.resume,
    )
    codec = module.codec(images)
    path = folder / "model.safetensors"
    header = {
        "codec": codec.header(),
        "provenance": provenance(module, train, plain(config), perceptual=perceptual is not None),
    }
    if distributed.is_main_process():
        checkpoint.save(path, "autoencoder", codec.state(), header)
    print(f"latent mean {_list(codec.mean)}, std {_list(codec.std)} per channel over the training set\n{path}")
    return path


def _list(values) -> str:
    return ", ".join(f"{value:.3f}" for value in values.tolist())
