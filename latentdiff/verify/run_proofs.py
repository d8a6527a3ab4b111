"""Run the proofs of the diffusion core, or those of the metrics, and write their results."""

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
from latentdiff.folder_mark import claim
from latentdiff.verify import (
    closed_form,
    invariants,
    sample_distribution,
    samplers_against_diffusers,
    schedules_against_diffusers,
    targets,
)
from latentdiff.verify.check import Check
from latentdiff.verify.metrics_against_torch_fidelity import check_features, check_metrics

Proof = Callable[[], list[Check]]

# Proofs that need no other package.
PROOFS: tuple[Proof, ...] = (
    targets.check_targets,
    invariants.check_guidance,
    invariants.check_determinism,
    closed_form.check_orders,
    closed_form.check_own_spacing,
    sample_distribution.check_distribution,
    closed_form.check_likelihood,
    closed_form.check_variational_bound,
)
ODD_SIDED_IMAGES = 40  # Images of odd sides in the second comparison of the metrics.


def run_proofs(config: VerifyStage) -> bool:
    """Run all proofs, print their table and write it to the folder.

    Returns:
        Whether every measurement is within its limit.
    """
    path = Path(config.folder) / ("metrics.json" if config.metrics else "verify.json")
    claim(path.parent, [path.name], "verify")
    versions = environment()
    proofs = metric_proofs(config, versions) if config.metrics else core_proofs(versions)
    # The core's tensors are tiny: a second thread makes it slower.
    torch.set_num_threads(config.threads or (torch.get_num_threads() if config.metrics else 1))
    checks = []
    for proof in proofs:
        found = proof()
        _print(found)
        checks += found
    failed = [check for check in checks if not check.passed]
    record: dict[str, Any] = {
        "schema": 1,
        "environment": versions,
        "passed": not failed,
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
    }
    write_atomically(path, lambda name: name.write_text(json.dumps(record, indent=1)))
    measured = sum(check.value is not None for check in checks)
    print(f"{measured - len(failed)} of {measured} measurements within their limits\n{path}")
    for check in failed:
        print(f"out of its limit: {check.section}: {check.name}: {check.value:.3g}, limit {check.limit:g}")
    return not failed


def core_proofs(versions: dict[str, str]) -> list[Proof]:
    """Return the proofs of the diffusion core, and add the version of diffusers to ``versions``."""
    try:
        import diffusers
    except ImportError:
        return [*PROOFS, samplers_against_diffusers.diffusers_is_missing]
    versions["diffusers"] = diffusers.__version__
    return [
        *PROOFS,
        schedules_against_diffusers.check_schedules,
        samplers_against_diffusers.check_spacings,
        samplers_against_diffusers.check_states,
    ]


def metric_proofs(config: VerifyStage, versions: dict[str, str]) -> list[Proof]:
    """Return the proofs of the metrics on real images, and add the other packages to ``versions``.

    Raises:
        ConfigError: if there are too few images or no weights of the Inception network.
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
    few = min(config.metrics, ODD_SIDED_IMAGES)
    # Colour images of odd sides, which differ between the two sets.
    odd_sided = [_odd_sided(test.images[:few], 3, 1), _odd_sided(train.images[: few // 2], 7, 5)]
    return [
        lambda: check_features(weights, first),
        lambda: check_metrics(weights, first, second),
        lambda: check_metrics(weights, *odd_sided),
    ]


def _odd_sided(images: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Make RGB images [n, 3, h - height, w - width] from uint8 images [n, c, h, w]."""
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
