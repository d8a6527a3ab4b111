"""Several evaluations side by side, as one page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentdiff.config import DataConfig, RunConfig
from latentdiff.settings import Settings
from latentdiff.stages.budget import BASELINES, USUAL, BudgetConfig
from latentdiff.stages.folders import default_folder

if TYPE_CHECKING:
    from latentdiff.report.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class CompareStage(Settings):
    """Write index.html, report.json and report.md from evaluated models.

    Args:
        evaluations: Folders that hold an evaluation.json. Default: every one of the data set under stages/evaluate;
            where there is none yet, its released models are evaluated first, under stages/released.
        title: Title of the page.
        num_images: Images of each released model. Default: 10,000 on a GPU, 1,000 on a CPU with Inception and 2,000
            with the classifier alone.
        budget: Train both paths at equal budgets first, under stages/budget, and compare those; what was interrupted
            goes on. ``--budget`` alone compares them at 20,480 images seen, at 160 optimiser steps and at 300 seconds.
        preset: ``sources``: train the models of five class projects on image generation for ``budget.seconds`` each
            (300 without) under stages/sources, evaluate them and the released models, and write the projects' tables
            to results.md beside the page; what was interrupted goes on.
        data: The data set whose models are compared, and the real images that released models and budgets are measured
            against.
        run: Where the files go.
    """

    evaluations: tuple[str, ...] = ()
    title: str = "Pixel against latent"
    num_images: int | None = None
    preset: Literal["sources"] | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)


def run(config: CompareStage) -> Path:
    """Write the report and return the path of its page."""
    from latentdiff.checkpoint import write_atomically
    from latentdiff.report.evaluation import check_comparable, read_evaluation
    from latentdiff.report.lacking import lacking_baselines
    from latentdiff.report.page import write_report
    from latentdiff.report.table import build_table
    from latentdiff.report.verdict import verdict
    from latentdiff.stages import folders
    from latentdiff.stages.sources import results, run_third

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
    from latentdiff.stages import folders
    from latentdiff.stages.budget import run_budgets
    from latentdiff.stages.released import evaluate_released
    from latentdiff.stages.sources import run_sources

    # A folder that is named twice is one row.
    named = list(dict.fromkeys(Path(folder) for folder in config.evaluations))
    if named and (config.preset or config.budget.asked):
        raise ValueError("what is compared are evaluations that are named, or a preset, or runs at a budget: not both")
    if config.preset and config.budget != BudgetConfig(seconds=config.budget.seconds, flags=config.budget.flags):
        raise ValueError(f"the preset {config.preset} takes budget.seconds and budget.flags alone")
    if config.budget.asked:
        config.budget.check(amount_needed=not config.preset)
    if named and config.data != DataConfig(name=config.data.name):
        raise ValueError("the evaluations that are named say which images they were measured against: leave out --data")
    found = named or evaluated(config.data)
    if found and not config.preset and not config.budget.asked:
        if config.num_images is not None:
            raise ValueError("num_images is of what is made now; those under stages/evaluate are there already")
        return {"": found}
    name = f"{config.data.name}-{config.preset}" if config.preset else config.data.name
    folders.check(config.run, "compare", name)  # before the work, not after
    if config.preset:
        return run_sources(config.data, config.budget.seconds, config.num_images, config.budget.flags)
    if config.budget.asked:
        return run_budgets(config.budget, config.data, config.num_images)
    return {"": evaluate_released(config.data, config.num_images)}


def sampler_records(evaluations: list[Evaluation]) -> dict[str, dict[str, Any]]:
    """What stages.samplers has measured of the very models that are compared, by their names: what came with them
    (``latent.samplers.json`` beside ``latent.safetensors``), or what lies under stages/samplers."""
    from latentdiff import shelf
    from latentdiff.report.evaluation import in_order

    # By the names that the report gives them, so that two of one name are two figures.
    names = {item.get("model", "sha256"): item.name for item in in_order(evaluations) if item.get("model", "sha256")}
    found = {}
    files = {(item.get("data", "name"), Path(item.get("model", "path") or "").stem) for item in evaluations}
    released = (shelf.find(f"{data}/{model}.samplers.json") for data, model in sorted(files))
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

    Raises :class:`~latentdiff.report.evaluation.ReportError` for one of them that cannot be read; one of another data
    set, or of none that is known, is left out with a line.
    """
    from latentdiff.report.evaluation import ReportError, read_evaluation

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


def main(argv: list[str] | None = None) -> None:
    import sys

    from latentdiff.stages import cli

    arguments = sys.argv[1:] if argv is None else argv
    # `compare A B C` reads better than a list in brackets: folders before the first flag are the evaluations.
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    positional = [f"--evaluations={arguments[:count]}"] if count else []
    run(cli.parse(CompareStage, [*positional, *_spelt_out(arguments[count:])]))


def _spelt_out(arguments: list[str]) -> list[str]:
    """``--budget`` alone as the amounts that it means, before those that are given."""
    if "--budget" not in arguments:
        return arguments
    return [*USUAL, *(argument for argument in arguments if argument != "--budget")]


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main)
