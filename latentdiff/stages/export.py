"""Write a model in a form that other programs read."""

from __future__ import annotations

import sys

from latentdiff.command_line import parse, run_stage
from latentdiff.config.model_stages import ExportStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(ExportStage, _expand_arguments(sys.argv[1:] if argv is None else argv))
    from latentdiff.export.export import export_models  # torch: --help does not wait for it

    export_models(settings)


def _expand_arguments(arguments: list[str]) -> list[str]:
    """Write models before the first flag as ``--model`` and ``--beside``, a name after ``--to hub`` as ``--repo``."""
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    first, more, flags = arguments[:1], arguments[1:count], arguments[count:]
    for i, (flag, form, name) in enumerate(zip(flags, flags[1:], flags[2:], strict=False)):
        if (flag, form) == ("--to", "hub") and not name.startswith("-"):
            flags[i + 2] = f"--repo={name}"
            break
    model = [f"--model={first[0]}"] if count else []
    return [*model, *([f"--beside={more}"] if more else []), *flags]


if __name__ == "__main__":
    run_stage(main)
