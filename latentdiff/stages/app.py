"""Serve a page that samples and edits images with models."""

from __future__ import annotations

import sys

from latentdiff.command_line import parse, run_stage
from latentdiff.config.model_stages import AppStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(AppStage, _expand_arguments(sys.argv[1:] if argv is None else argv))
    from latentdiff.app.serve import serve  # torch and gradio: --help does not wait for them

    serve(settings)


def _expand_arguments(arguments: list[str]) -> list[str]:
    """Write models before the first flag as ``--models``."""
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    return [*([f"--models={arguments[:count]}"] if count else []), *arguments[count:]]


if __name__ == "__main__":
    run_stage(main)
