"""Prove the diffusion core: against diffusers, against closed forms, and its invariants."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class VerifyStage:
    """Measure every schedule, target and sampler against what is known to be right; a table, and verify.json.

    Ends with an error where anything is out of its limit.

    Args:
        folder: Where verify.json goes; it replaces an earlier one.
        threads: CPU threads: the tensors are tiny, and more than one is slower.
    """

    folder: str = "stages/verify"
    threads: int = 1


def run(config: VerifyStage) -> bool:
    """Measure everything, print the table and write it; whether all of it passed."""
    import json
    from dataclasses import asdict

    import torch

    from latentdiff.checkpoint import environment, write_atomically
    from latentdiff.verify import against_diffusers
    from latentdiff.verify.proofs import PROOFS

    torch.set_num_threads(config.threads)
    parts = list(PROOFS)
    versions = environment()
    try:
        import diffusers

        versions["diffusers"] = diffusers.__version__
        parts += [against_diffusers.check_spacings, against_diffusers.check_states]
    except ImportError:
        print('diffusers is not installed: the comparison with it is left out (pip install "latentdiff[test]")')
    checks = []
    for part in parts:
        found = part()
        _print(found)
        checks += found
    failed = [check for check in checks if not check.passed]
    record: dict[str, Any] = {
        "schema": 1,
        "environment": versions,
        "passed": not failed,
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
    }
    path = Path(config.folder) / "verify.json"
    write_atomically(path, lambda name: name.write_text(json.dumps(record, indent=1)))
    measured = sum(check.value is not None for check in checks)
    print(f"{measured - len(failed)} of {measured} measurements within their limits\n{path}")
    for check in failed:
        print(f"out of its limit: {check.section}: {check.name}: {check.value:.3g}, limit {check.limit:g}")
    return not failed


def _print(checks: list[Any]) -> None:
    section = None
    for check in checks:
        if check.section != section:
            section = check.section
            print(f"\n{section}")
        if check.value is None:
            print(f"    --                          {check.name}: {check.note}")
            continue
        mark, sign = "ok" if check.passed else "FAILED", ">=" if check.at_least else "<="
        bound = f"{sign} {check.limit:.2g}"
        print(
            f"    {mark:<6} {check.value:>9.3g}  {bound:<9} {check.name}" + (f" ({check.note})" if check.note else "")
        )
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli

    if not run(cli.parse(VerifyStage, argv)):
        raise SystemExit(1)


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main)
