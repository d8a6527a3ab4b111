"""Stage one: train the autoencoder, which is also the VAE baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DataConfig, RunConfig, TrainerConfig, plain
from latentdiff.stages.lock import released_after


@dataclass(frozen=True, kw_only=True)
class AutoencoderStage:
    """Train a convolutional VAE that compresses images roughly tenfold.

    Args:
        name: Name of the run: its folder under stages/autoencoder/, after the data set.
        data: Which images.
        model: The network.
        loss: What it is trained for.
        trainer: How long and on what.
        validation_images: Held-out images whose reconstructions are measured each epoch: the validation split's, or the
            test split's where there is none.
        init: Fine-tune: start from the weights of this run (its folder or last.ckpt) or model file.
        run: Where the files go.
    """

    name: str = "autoencoder"
    data: DataConfig = field(default_factory=DataConfig)
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loss: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    validation_images: int = 1000
    init: str | None = None
    run: RunConfig = field(default_factory=RunConfig)


@released_after
def run(config: AutoencoderStage, command: str = "") -> Path:
    """Train as ``config`` says and return the path of the run's ``model.safetensors``."""
    import lightning
    import torch

    from latentdiff import checkpoint, processes
    from latentdiff.data import load_data, load_held_out
    from latentdiff.perceptual import Perceptual, find_trunk
    from latentdiff.report.grids import save_grid
    from latentdiff.stages import folders
    from latentdiff.training.autoencoder import AutoencoderModule
    from latentdiff.training.callbacks import EpochEnd
    from latentdiff.training.fit import check_settings, fit
    from latentdiff.training.provenance import provenance
    from latentdiff.training.warm_start import warm_start

    with processes.first_before_others():
        train = load_data(config.data, "train")
        held_out = load_held_out(config.data)
    print(train.describe())
    check_settings(config.trainer)
    if config.loss.frozen_encoder and not config.init:
        raise ValueError("loss.frozen_encoder keeps the encoder of another model: name that one with --init")
    perceptual = None
    if config.loss.perceptual_weight:
        with processes.first_before_others():
            trunk = find_trunk(config.loss.perceptual_net, config.loss.perceptual_weights)
        if trunk is None:
            more = ", and with it the discriminator of its features" if config.loss.feature_adversarial_weight else ""
            print(f"perceptual loss off: the LPIPS trunk is not here and could not be downloaded{more}")
        else:
            perceptual = Perceptual(trunk, config.loss.perceptual_net, config.loss.perceptual_min_side)
    processes.agree("the images or the LPIPS trunk", (train.fingerprint, held_out.fingerprint, perceptual is None))
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
    if processes.first():
        checkpoint.save(path, "autoencoder", codec.state(), header)
    print(f"latent mean {_list(codec.mean)}, std {_list(codec.std)} per channel over the training set\n{path}")
    return path


def _list(values) -> str:
    return ", ".join(f"{value:.3f}" for value in values.tolist())


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli, launch

    config, module = cli.parse(AutoencoderStage, argv), __spec__.name if __spec__ else __name__
    if not launch.spread(module, argv, config.trainer.devices, config.trainer.num_nodes, "trainer."):
        run(config, cli.command(module, argv))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main, several=True)
