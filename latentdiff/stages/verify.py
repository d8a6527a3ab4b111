"""Check the diffusion core or the metrics against reference code."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.tool_stages import VerifyStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(VerifyStage, argv)
    from latentdiff.verify.run_proofs import run_proofs  # torch: --help does not wait for it

    if not run_proofs(settings):
        raise SystemExit(1)


if __name__ == "__main__":
    run_stage(main)
