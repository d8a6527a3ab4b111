"""All released models of a data set from one command: trained, released, measured, compared."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from latentdiff.command_line import PACKAGE, parse
from latentdiff.comparison.cached_runs import EvaluationConditions, evaluate_once, find_finished_model, train_once
from latentdiff.comparison.compare import compare
from latentdiff.comparison.presets import (
    complete_data_settings,
    gpu_runs,
    preset_evaluations,
    preset_runs,
    read_facts,
)
from latentdiff.comparison.released_models import RANDOM
from latentdiff.comparison.training_plan import (
    PlannedRun,
    clock,
    describe_plan,
    measure_rates,
    parse_budget,
    read_runs,
)
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import ReproduceStage
from latentdiff.config.data import data_flags
from latentdiff.config.model_stages import EvaluateStage, ReleaseStage
from latentdiff.config.run import default_folder
from latentdiff.errors import ConfigError, FolderError
from latentdiff.folder_mark import claim, is_new_or_empty, read_mark, write_files
from latentdiff.runs.release import release_model
from latentdiff.training.ema_choice import validation_images, write_ema_model

PLAN = "plan.json"


def reproduce(settings: ReproduceStage) -> Path:
    """Train, release, measure and compare the models of a recipe; return the path of the page.

    Everything is in one folder. Finished runs are kept, and an interrupted run is resumed. So the same command
    completes what an earlier one began.

    Args:
        settings: Those of the reproduce stage.

    Raises:
        ConfigError: The recipe is invalid, or does not have a name in ``only``. Nothing has been run.
        FolderError: The folder cannot be used, holds other things, or was begun with another budget; or a run in it
            was begun with other settings.
        StageError: A training run ended with an error, which it has printed.
    """
    settings = _with_preset(settings)
    recipe = read_runs(settings.runs, [*data_flags(settings.data), *settings.flags])
    _check_evaluations(settings.evaluations, recipe)
    _check_names("int8", settings.int8, recipe)
    parse_budget(settings.budget)
    chosen = _chosen(recipe, settings.only)
    folder = Path(settings.folder) if settings.folder else default_folder("reproduce", _name(settings.data))
    released = Path(settings.release_folder) if settings.release_folder else folder / "release"

    for run in recipe:
        if run.name in chosen and run.settings.trainer.ema_snapshots:
            validation_images(run.settings.data)

    # Before hours of training it is known whether anything can measure the models.
    here = EvaluationConditions.on_this_machine(settings.data, settings.num_images)
    _claim(folder)
    share, rates = _make_plan(settings, recipe, chosen, folder)
    runs = [run.scaled(share) for run in recipe if run.name in chosen]
    models = _train(runs, rates, folder)
    for run in runs:
        _release(run, models[run.name], released, settings)
    evaluations = _evaluate(settings, runs, folder, released, here)
    for run in runs:  # once more, with what was measured on the card
        measured = [path for name, path in evaluations.items() if _model_of(name, recipe) == run.name]
        _release(run, models[run.name], released, settings, measured)
    title = f"{_name(settings.data)}: pixel against latent"
    report = compare(list(evaluations.values()), title=title, folder=folder / "report", overwrite=True)
    page = folder / "report" / "index.html"
    print(f"\n{report}\n{page}")
    return page


def _with_preset(settings: ReproduceStage) -> ReproduceStage:
    """The settings, with runs by rules where they have no recipe, or where a preset is asked for."""
    if settings.runs:
        if settings.preset:
            raise ConfigError(
                "preset and runs cannot be combined, since a preset chooses the runs: leave one of them out"
            )
        return settings
    if settings.preset is None:
        return settings
    data = complete_data_settings(settings.data)
    facts = read_facts(data)
    shape = f"{facts.channels}x{facts.side}x{facts.side}"
    print(f"preset {settings.preset} for {facts.num_images:,} training images of {shape}", flush=True)
    runs = gpu_runs(data.name) if settings.preset == "gpu" else None
    if runs is None:
        amount, is_seconds = parse_budget(settings.budget)
        runs = preset_runs(settings.preset, facts, amount if is_seconds else None)
    evaluations = settings.evaluations or {name: own for name, own in preset_evaluations().items() if name in runs}
    return replace(settings, data=data, runs=runs, evaluations=evaluations)


def _data_words(data: DataConfig) -> list[str]:
    """The flags of the data on a card: all but the name, and where this machine keeps its data sets."""
    usual = DataConfig()
    return data_flags(replace(data, name=usual.name, root=usual.root, source=usual.source))


def _name(data: DataConfig) -> str:
    """The name for what is made from a data set: that of its folder or file if it has a path."""
    if not data.path or data.name not in ("folder", "parquet", "datasets", "webdataset"):
        return data.name
    path = Path(data.path).resolve()
    return (path if path.exists() else path.parent).stem


def _chosen(runs: Sequence[PlannedRun], only: Sequence[str]) -> set[str]:
    """The names of the runs to be made: all, or those of ``only`` with the autoencoder that they need."""
    _check_names("only", only, runs)
    chosen = set(only or [run.name for run in runs])
    if any(run.is_latent for run in runs if run.name in chosen):
        chosen.add("autoencoder")
    return chosen


def _check_names(setting: str, given: Sequence[str], runs: Sequence[PlannedRun]) -> None:
    names = [run.name for run in runs]
    if unknown := [name for name in given if name not in names]:
        raise ConfigError(f"{setting} names {', '.join(unknown)}, but the recipe has {', '.join(names)}")


def _claim(folder: Path) -> None:
    """Mark a folder that is new, and refuse one that cannot be used, before time is spent on measuring the machine."""
    mark = read_mark(folder)
    if mark is None and not is_new_or_empty(folder):
        raise FolderError(f"{folder} holds other things than a reproduction: name another folder with --folder")
    if mark is not None and mark.stage not in (None, "reproduce"):
        raise FolderError(f"{folder} was made by the stage {mark.stage}: name another folder with --folder")
    claim(folder, [PLAN], "reproduce")


def _check_evaluations(evaluations: Mapping[str, Sequence[str]], runs: Sequence[PlannedRun]) -> None:
    names = [run.name for run in runs]
    for name, flags in evaluations.items():
        if _model_of(name, runs) is None:
            raise ConfigError(
                f"evaluations.{name}: its name must be a run's name, or begin with a run's name and a dash"
            )
        parse(EvaluateStage, list(flags))
        for flag, value in pairwise(flags):
            if flag == "--guide" and value not in names:
                raise ConfigError(f"evaluations.{name}: --guide {value} is not a run of the recipe")


def _model_of(evaluation: str, runs: Sequence[PlannedRun]) -> str | None:
    """The run whose model an evaluation measures: ``latent`` for ``latent`` and ``latent-guided``."""
    fitting = [run.name for run in runs if evaluation == run.name or evaluation.startswith(f"{run.name}-")]
    return max(fitting, key=len, default=None)


def _make_plan(
    settings: ReproduceStage, runs: Sequence[PlannedRun], chosen: set[str], folder: Path
) -> tuple[float, dict[str, float]]:
    """The share of its full length that each run gets, and the speeds of this machine; both are kept in the folder.

    A budget in hours would give another share at each measurement, but a run can only be resumed with its own length.
    """
    amount, is_seconds = parse_budget(settings.budget)
    before = _read_plan(folder / PLAN)
    if before and before["budget"] != settings.budget:
        raise FolderError(
            f"{folder} was begun with --budget {before['budget']}: give the same budget, or another folder with "
            "--folder"
        )
    rates: dict[str, float] = before.get("rates", {})
    needed = runs if is_seconds else [run for run in runs if run.name in chosen]
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
    record = {"budget": settings.budget, "share": share, "rates": rates}
    write_files(folder, {PLAN: json.dumps(record, indent=1).encode()}, "reproduce")
    return share, rates


def _read_plan(path: Path) -> dict[str, Any]:
    """What an earlier call has planned; empty where there was none."""
    if not path.is_file():
        return {}
    try:
        plan = json.loads(path.read_text())
        rates = {str(name): float(rate) for name, rate in plan["rates"].items()}
        return {"budget": str(plan["budget"]), "share": float(plan["share"]), "rates": rates}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FolderError(f"{path} is damaged ({error}): remove it, and give the same --budget as before") from None


def _train(runs: Sequence[PlannedRun], rates: Mapping[str, float], folder: Path) -> dict[str, Path]:
    """The model files of the runs by their names, those that are not there made now."""
    models: dict[str, Path] = {}
    for run in runs:
        # Without the autoencoder no model on its latents can be finished.
        if run.is_latent and "autoencoder" not in models:
            continue
        if found := find_finished_model(run.stage, _flags_in(run, folder, models), folder / run.name):
            models[run.name] = _with_best_average(run, found, folder)
    done = list(models)
    print(describe_plan(runs, rates, done), flush=True)
    for place, run in enumerate(runs, 1):
        if run.name in done:
            continue
        start = time.perf_counter()
        trained = train_once(run.stage, _flags_in(run, folder, models), folder / run.name)
        models[run.name] = _with_best_average(run, trained, folder)
        left = sum(other.seconds(rates.get(other.name)) for other in runs[place:] if other.name not in done)
        rest = f"; about {clock(left)} of training left" if left else ""
        print(f"{run.name}: trained in {clock(time.perf_counter() - start)}{rest}", flush=True)
    return models


def _with_best_average(run: PlannedRun, model: Path, folder: Path) -> Path:
    """The run's model. If the run kept snapshots of its averages, the average is chosen by validation images."""
    if not run.settings.trainer.ema_snapshots:
        return model
    return write_ema_model(model, "auto", features_folder=folder / "features")


def _flags_in(run: PlannedRun, folder: Path, models: Mapping[str, Path]) -> list[str]:
    """The flags of a run whose autoencoder is among ``models``, and whose caches lie in ``folder``."""
    flags = list(run.flags)
    if run.is_latent:
        flags.append(f"--autoencoder={models['autoencoder']}")
    if run.stage == "diffusion":
        flags += [f"--latents_folder={folder / 'latents'}", f"--features_folder={folder / 'features'}"]
    return flags


def _release(
    run: PlannedRun, model: Path, folder: Path, settings: ReproduceStage, evaluations: Sequence[Path] = ()
) -> None:
    """Write the released file of a model, its weights rounded, and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    first, *more = [str(path) for path in evaluations] or [None]
    release = ReleaseStage(
        model=str(model),
        to=str(folder / f"{run.name}.safetensors"),
        precision="int8" if run.name in settings.int8 else "bf16",
        codec_beside=run.is_latent,
        evaluation=first,
        more_evaluations=tuple(path for path in more if path),
        overwrite=True,
    )
    preset = ["--preset", settings.preset] if settings.preset else []
    budget = [] if settings.budget == ReproduceStage.budget else ["--budget", settings.budget]
    only = ["--only", run.name]
    asked = [settings.data.name, *_data_words(settings.data), *preset, *budget, *only]
    command = shlex.join(["python", "-m", f"{PACKAGE}.reproduce", *asked])
    release_model(release, made_by=command)


def _evaluate(
    settings: ReproduceStage, runs: Sequence[PlannedRun], folder: Path, released: Path, here: EvaluationConditions
) -> dict[str, Path]:
    """The folders of the evaluations by their names: of noise, and of each released model."""
    asked = {name: list(flags) for name, flags in settings.evaluations.items() if _model_of(name, runs)}
    found: dict[str, Path] = {}
    for name in [*RANDOM, *asked]:
        model = None if name in RANDOM else released / f"{_model_of(name, runs)}.safetensors"
        flags = asked.get(name, [])
        for place, flag in enumerate(flags[:-1]):
            if flag == "--guide":
                flags[place + 1] = str(released / f"{flags[place + 1]}.safetensors")
        flags = ["--model", str(model or name), "--name", name, *flags, "--features_folder", str(folder / "features")]
        found[name] = evaluate_once(flags, folder / "evaluate" / here.folder / name, model, here)
    return found
