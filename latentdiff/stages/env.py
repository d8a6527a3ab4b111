"""Print versions, devices and caches, for a bug report."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.tool_stages import EnvStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(EnvStage, argv)
    from latentdiff.environment import print_environment  # torch: --help does not wait for it

    print_environment(settings)


if __name__ == "__main__":
    run_stage(main)
