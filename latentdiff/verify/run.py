"""Run the proofs and write their table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch_fidelity
import torchmetrics

from latentdiff.checkpoint import environment
from latentdiff.config.tool_stages import VerifyStage
from latentdiff.data import load_split
from latentdiff.errors import ConfigError
from latentdiff.evaluation.feature_nets import find_inception
from latentdiff.files import write_atomically
from latentdiff.verify import Check, against_diffusers, schedules_of_diffusers
from latentdiff.verify.against_torch_fidelity import check_features, check_metrics
from latentdiff.verify.proofs import PROOFS

ODD = 40  # Images of the smaller comparison.


def run_proofs(config: VerifyStage) -> bool:
    """Measure everything, print the table and write it; whether all of it passed."""
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
    weights = find_inception(config.inception_weights)
    if weights is None:
        raise ConfigError(
            "the FID Inception's weights are not here and could not be downloaded: name a file with "
            "--inception_weights or LATENTDIFF_INCEPTION"
        )
    test, train = load_split(config.data, "test"), load_split(config.data, "train")
    if not 20 <= config.metrics <= len(test):
        raise ConfigError(f"metrics must be from 20 to the {len(test):,} test images, not {config.metrics}")
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
