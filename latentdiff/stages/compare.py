"""Put several evaluations side by side, as one page."""

from __future__ import annotations

import sys

from latentdiff.command_line import parse, run_stage
from latentdiff.config.comparison_stages import EQUAL_BUDGETS, CompareStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(CompareStage, _expand_arguments(sys.argv[1:] if argv is None else argv))
    from latentdiff.comparison.compare import compare_with_settings  # torch: --help does not wait for it

    compare_with_settings(settings)


def _expand_arguments(arguments: list[str]) -> list[str]:
    """Write folders before the first flag as ``--evaluations``, and ``--budget`` alone as its three amounts."""
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    folders = [f"--evaluations={arguments[:count]}"] if count else []
    flags = [argument for argument in arguments[count:] if argument != "--budget"]
    return [*folders, *(EQUAL_BUDGETS if "--budget" in arguments else ()), *flags]


if __name__ == "__main__":
    run_stage(main)
