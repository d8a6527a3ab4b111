"""Train the classifier whose features measure samples."""

from __future__ import annotations

from latentdiff.command_line import command, parse, run_stage
from latentdiff.config.training_stages import ClassifierStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(ClassifierStage, argv)
    from latentdiff.training.train_classifier import train_classifier  # torch: --help does not wait for it

    train_classifier(settings, command("classifier", argv))


if __name__ == "__main__":
    run_stage(main)
