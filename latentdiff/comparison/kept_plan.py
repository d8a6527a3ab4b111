"""``plan.json``: the share of its length that each run of a reproduction gets, kept for the calls that go on with it.

A budget in hours would give another share at each measurement of the machine, but a run can only be resumed with its
own length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentdiff.comparison.cached_runs import effective_settings
from latentdiff.comparison.training_plan import PlannedRun, measure_rates, parse_budget
from latentdiff.errors import FolderError
from latentdiff.folder_mark import write_files
from latentdiff.runs.run_folder import MODEL_FILES, RUN_FILES

PLAN = "plan.json"


def keep_plan(
    budget: str, runs: Sequence[PlannedRun], chosen: Sequence[PlannedRun], folder: Path
) -> tuple[float, dict[str, float]]:
    """Return the share of its full length that each run gets, and the images a second that this machine trains.

    Both are measured where ``folder`` does not know them yet, and kept there.

    Args:
        budget: A time, or a share of the runs' length.
        runs: All runs of the recipe, which share a time.
        chosen: Those of them that are made.
        folder: The folder of the reproduction.

    Raises:
        FolderError: The folder was begun with another budget, or shared its hours among other runs.
    """
    amount, is_seconds = parse_budget(budget)
    before = _read(folder / PLAN)
    if before and before["budget"] != budget:
        raise FolderError(
            f"{folder} was begun with --budget {before['budget']}: give the same budget, or another folder with "
            "--folder"
        )
    settings = {run.name: effective_settings(run.settings) for run in runs}
    if before and is_seconds and before["runs"] not in (None, settings):
        if _has_runs(folder, [*before["runs"], *settings]):
            raise FolderError(
                f"{folder} has shared its {budget} among other runs, or among runs with other settings: give the same "
                "recipe and settings, or another folder with --folder"
            )
        before = {}
    known = (before["runs"] or settings) if before else {}
    rates = {name: rate for name, rate in before.get("rates", {}).items() if known.get(name) == settings.get(name)}
    needed = runs if is_seconds else chosen
    missing = [run for run in needed if run.settings.trainer.max_images and run.name not in rates]
    if before and not missing:
        return before["share"], rates
    if missing:
        print(f"measuring how fast this machine trains: {', '.join(run.name for run in missing)}", flush=True)
        rates |= measure_rates(missing, runs)
    share = amount
    if before:
        share = before["share"]
    elif is_seconds:
        share = amount / sum(run.seconds(rates.get(run.name)) for run in runs)
    record = {"budget": budget, "share": share, "rates": rates, "runs": settings}
    write_files(folder, {PLAN: json.dumps(record, indent=1).encode()}, "reproduce")
    return share, rates


def _has_runs(folder: Path, names: Sequence[str]) -> bool:
    """Whether a run among ``names`` has trained already."""
    return any((folder / name / file).exists() for name in names for file in (*RUN_FILES, *MODEL_FILES))


def _read(path: Path) -> dict[str, Any]:
    """What an earlier call has planned; empty where there was none."""
    if not path.is_file():
        return {}
    try:
        plan = json.loads(path.read_text())
        rates = {str(name): float(rate) for name, rate in plan["rates"].items()}
        runs = plan.get("runs")  # a plan of an earlier version has none
        runs = runs and {str(name): dict(settings) for name, settings in runs.items()}
        return {"budget": str(plan["budget"]), "share": float(plan["share"]), "rates": rates, "runs": runs}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FolderError(
            f"{path} is damaged ({error}). With a budget that is a share, remove the file and repeat the command. With "
            "one in hours, begin anew in another --folder"
        ) from None
