"""Run the whole pipeline in minutes on the images inside the package."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.comparison_stages import DemoStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(DemoStage, argv)
    from latentdiff.comparison.demo import run_demo  # torch: --help does not wait for it

    run_demo(settings)


if __name__ == "__main__":
    run_stage(main)
