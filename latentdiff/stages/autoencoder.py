"""Stage one: train the autoencoder, which is also the VAE baseline."""

from __future__ import annotations

from latentdiff.command_line import command, parse, run_stage
from latentdiff.config.training_stages import AutoencoderStage
from latentdiff.runs.launch import start_processes


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(AutoencoderStage, argv)
    trainer, folder = settings.trainer, settings.run.path("autoencoder", f"{settings.data.name}-{settings.name}")
    if start_processes("autoencoder", argv, trainer.devices, trainer.num_nodes, "trainer.", trainer.batch_size, folder):
        return
    from latentdiff.data import load_dataset  # torch: --help does not wait for it
    from latentdiff.training.train_autoencoder import train_autoencoder

    train_autoencoder(
        load_dataset(settings.data),
        folder=folder,
        resume=settings.run.resume,
        overwrite=settings.run.overwrite,
        command=command("autoencoder", argv),
        **settings.to_kwargs("data", "run"),
    )


if __name__ == "__main__":
    run_stage(main, several_processes=True)
