"""Encode a data set once into the latent cache."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.training_stages import LatentsStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(LatentsStage, argv)
    from latentdiff.latents import fill_latent_cache  # torch: --help does not wait for it

    fill_latent_cache(settings)


if __name__ == "__main__":
    run_stage(main, several_processes=True)
