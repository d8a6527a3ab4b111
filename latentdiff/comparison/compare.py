"""Several evaluations side by side, as one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentdiff import resources as shelf
from latentdiff.comparison.equal_budget import BASELINES, run_budgets
from latentdiff.comparison.released_models import evaluate_released
from latentdiff.comparison.source_projects import results, run_sources, run_third
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import BudgetConfig, CompareStage
from latentdiff.config.run import default_folder
from latentdiff.errors import ConfigError, ReportError
from latentdiff.files import write_atomically
from latentdiff.report.evaluation import Evaluation, check_comparable, in_order, read_evaluation
from latentdiff.report.missing import lacking_baselines
from latentdiff.report.page import write_report
from latentdiff.report.table import build_table
from latentdiff.report.verdict import verdict
from latentdiff.runs import folder as folders


def compare_evaluations(config: CompareStage) -> Path:
    """Write the report and return the path of its page."""
    found = gather(config)
    read = {path: read_evaluation(path) for group in found.values() for path in group}
    evaluations = list(read.values())
    check_comparable(evaluations)
    groups = {words: [read[path] for path in group] for words, group in found.items()}
    samplers = sampler_records(evaluations)
    # Before the page's folder, so that the same command goes on where this was interrupted.
    thirds = (
        run_third(config.data, config.budget.seconds, config.num_images, config.budget.flags) if config.preset else {}
    )
    others = {name: [read_evaluation(path) for path in paths] for name, paths in thirds.items()}
    # The sources' models had minutes each: only the released ones are judged.
    judged = {"": groups["released"]} if config.preset else {key: groups[key] for key in groups if key != BASELINES}
    data_name = evaluations[0].values["data"]["name"]
    name = f"{data_name}-{config.preset}" if config.preset else data_name
    folder = folders.prepare(config.run, "compare", name, inputs=list(read))
    page = write_report(evaluations, folder, config.title, judged, samplers)
    print(f"\n{build_table(evaluations).text()}\n")
    for lack in lacking_baselines(evaluations):
        print(lack)
    for words, group in judged.items():
        print(f"{words and f'At {words}. '}{verdict(group)}\n")
    if config.preset:
        text, path = results(groups, config.data, others), page.with_name("results.md")
        write_atomically(path, lambda name: name.write_text(text))
        print(f"{text}\n{path}")
    print(page)
    return page


def gather(config: CompareStage) -> dict[str, list[Path]]:
    """The folders of the evaluations, those that are judged together under one key; made now where need be."""
    # A folder that is named twice is one row.
    named = list(dict.fromkeys(Path(folder) for folder in config.evaluations))
    if named and (config.preset or config.budget.is_set):
        raise ConfigError("what is compared are evaluations that are named, or a preset, or runs at a budget: not both")
    if config.preset and config.budget != BudgetConfig(seconds=config.budget.seconds, flags=config.budget.flags):
        raise ConfigError(f"the preset {config.preset} takes budget.seconds and budget.flags alone")
    if config.budget.is_set:
        config.budget.check(amount_needed=not config.preset)
    if named and config.data != DataConfig(name=config.data.name):
        raise ConfigError(
            "the evaluations that are named say which images they were measured against: leave out --data"
        )
    found = named or evaluated(config.data)
    if found and not config.preset and not config.budget.is_set:
        if config.num_images is not None:
            raise ConfigError("num_images is of what is made now; those under stages/evaluate are there already")
        return {"": found}
    name = f"{config.data.name}-{config.preset}" if config.preset else config.data.name
    folders.check(config.run, "compare", name)  # before the work, not after
    if config.preset:
        return run_sources(config.data, config.budget.seconds, config.num_images, config.budget.flags)
    if config.budget.is_set:
        return run_budgets(config.budget, config.data, config.num_images)
    return {"": evaluate_released(config.data, config.num_images)}


def sampler_records(evaluations: list[Evaluation]) -> dict[str, dict[str, Any]]:
    """What stages.samplers has measured of the very models that are compared, by their names: what came with them
    (``latent.samplers.json`` beside ``latent.safetensors``), or what lies under stages/samplers."""
    # By the names that the report gives them, so that two of one name are two figures.
    names = {item.get("model", "sha256"): item.name for item in in_order(evaluations) if item.get("model", "sha256")}
    found = {}
    files = {(item.get("data", "name"), Path(item.get("model", "path") or "").stem) for item in evaluations}
    released = (shelf.find_checkpoint(f"{data}/{model}.samplers.json") for data, model in sorted(files))
    own = sorted(default_folder("samplers", "").glob("*/samplers.json"))
    for path in [*(path for path in released if path), *own]:
        try:
            record = json.loads(path.read_text())
            rows, model = record["rows"], record["model"]["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            print(f"{path} is no table of samplers and left out; remove it, or measure again")
            continue
        if rows and model in names:
            found[names[model]] = record
    return found


def evaluated(data: DataConfig) -> list[Path]:
    """The folders under stages/evaluate whose evaluation is on this data set, and on its ``source`` where one is asked
    for.

    Raises :class:`~latentdiff.errors.ReportError` for one of them that cannot be read; one of another data
    set, or of none that is known, is left out with a line.
    """
    found = []
    for folder in sorted(path.parent for path in default_folder("evaluate", "").glob("*/evaluation.json")):
        try:
            about = read_evaluation(folder).values["data"]
        except ReportError as error:
            if _data_name(folder) == data.name:
                raise
            print(f"left out: {error}")
            continue
        if about["name"] == data.name and data.source in ("auto", about["source"]):
            found.append(folder)
    return found


def _data_name(folder: Path) -> str | None:
    """The data set of an evaluation that is not whole."""
    try:
        return json.loads((folder / "evaluation.json").read_text())["data"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
