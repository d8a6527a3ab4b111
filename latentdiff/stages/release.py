"""Release a trained model: write it at half the size, with a model card."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.model_stages import ReleaseStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(ReleaseStage, argv)
    from latentdiff.runs.release import release_model  # torch: --help does not wait for it
    from latentdiff.training.ema_choice import with_ema

    release_model(with_ema(settings))


if __name__ == "__main__":
    run_stage(main)
