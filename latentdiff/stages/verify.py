"""Prove the diffusion core and, on demand, the metrics: against others' code, closed forms, and its invariants."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdiff.config import DataConfig

if TYPE_CHECKING:
    import torch

    from latentdiff.verify import Check

ODD = 40  # Images of the smaller comparison.


@dataclass(frozen=True, kw_only=True)
class VerifyStage:
    """Measure every schedule, target and sampler against what is known to be right; a table, and verify.json.

    With ``metrics`` it is FID, KID, precision and recall that are measured instead, into metrics.json.

    Ends with an error where anything is out of its limit.

    Args:
        folder: Where verify.json or metrics.json goes. It replaces an earlier one, which the same command makes again,
            and touches nothing else there.
        threads: CPU threads: the core's tensors are tiny, and more than one is slower.
        metrics: Compare the metrics with torch-fidelity's instead, on so many real test images against half as many
            training images, which needs the FID Inception's weights; 0 leaves them out and proves the core.
        data: Whose images.
        inception_weights: The weights' file, else the environment variable LATENTDIFF_INCEPTION, else the download.
    """

    folder: str = "stages/verify"
    threads: int | None = None
    metrics: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    inception_weights: str | None = None


def run(config: VerifyStage) -> bool:
    """Measure everything, print the table and write it; whether all of it passed."""
    import json
    from dataclasses import asdict

    import torch

    from latentdiff.checkpoint import environment, write_atomically

    versions = environment()
    parts = metric_proofs(config, versions) if config.metrics else core_proofs(versions)
    # The core's tensors are tiny: a second thread makes it slower.
    torch.set_num_threads(config.threads or (torch.get_num_threads() if config.metrics else 1))
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
    path = Path(config.folder) / ("metrics.json" if config.metrics else "verify.json")
    write_atomically(path, lambda name: name.write_text(json.dumps(record, indent=1)))
    measured = sum(check.value is not None for check in checks)
    print(f"{measured - len(failed)} of {measured} measurements within their limits\n{path}")
    for check in failed:
        print(f"out of its limit: {check.section}: {check.name}: {check.value:.3g}, limit {check.limit:g}")
    return not failed


def core_proofs(versions: dict[str, str]) -> list[Callable[[], list[Check]]]:
    """What proves the diffusion core; notes in ``versions`` whom it is compared with."""
    from latentdiff.verify import against_diffusers, schedules_of_diffusers
    from latentdiff.verify.proofs import PROOFS

    try:
        import diffusers
    except ImportError:
        return [*PROOFS, against_diffusers.left_out]
    versions["diffusers"] = diffusers.__version__
    return [
        *PROOFS,
        schedules_of_diffusers.check_schedules,
        against_diffusers.check_spacings,
        against_diffusers.check_states,
    ]


def metric_proofs(config: VerifyStage, versions: dict[str, str]) -> list[Callable[[], list[Check]]]:
    """What proves the metrics on real images; notes in ``versions`` whom they are compared with.

    Raises ValueError for too few images or no weights.
    """
    import torch_fidelity
    import torchmetrics

    from latentdiff.data import load_data
    from latentdiff.evaluation.feature_nets import find_inception
    from latentdiff.verify.against_torch_fidelity import check_features, check_metrics

    weights = find_inception(config.inception_weights)
    if weights is None:
        raise ValueError(
            "the FID Inception's weights are not here and could not be downloaded: name a file with "
            "--inception_weights or LATENTDIFF_INCEPTION"
        )
    test, train = load_data(config.data, "test"), load_data(config.data, "train")
    if not 20 <= config.metrics <= len(test):
        raise ValueError(f"metrics must be from 20 to the {len(test):,} test images, not {config.metrics}")
    versions["torch-fidelity"] = torch_fidelity.__version__
    versions["torchmetrics"] = torchmetrics.__version__
    first, second = test.images[: config.metrics], train.images[: config.metrics // 2]
    few = min(config.metrics, ODD)
    # Colour images of odd sides, each pair's sides its own.
    odd = [_odd(test.images[:few], 3, 1), _odd(train.images[: few // 2], 7, 5)]
    return [
        lambda: check_features(weights, first),
        lambda: check_metrics(weights, first, second),
        lambda: check_metrics(weights, *odd),
    ]


def _odd(images: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """RGB images, so much narrower and lower, made of what is there: uint8 [n, c, h, w] -> [n, 3, h', w']."""
    import torch

    grey = images[:, :1, :-height, :-width]
    return torch.cat([grey, grey.flip(-1), 255 - grey], dim=1)


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
