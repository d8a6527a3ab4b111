"""All released models of a data set from one command: trained, released, measured, compared."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from latentdiff import checkpoint
from latentdiff.command_line import PACKAGE
from latentdiff.comparison.cached_runs import EvaluationConditions, evaluate_once, find_finished_model, train_once
from latentdiff.comparison.compare import compare
from latentdiff.comparison.kept_plan import PLAN, keep_plan
from latentdiff.comparison.presets import (
    complete_data_settings,
    gpu_runs,
    preset_evaluations,
    preset_runs,
    read_facts,
)
from latentdiff.comparison.recipe import Recipe, read_recipe, shipped_recipe
from latentdiff.comparison.released_models import RANDOM
from latentdiff.comparison.training_plan import PlannedRun, clock, describe_plan, parse_budget, share_left
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import ReproduceStage
from latentdiff.config.data import data_flags
from latentdiff.config.model_stages import ReleaseStage
from latentdiff.config.run import default_folder
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.folder_mark import claim, is_new_or_empty, read_mark
from latentdiff.runs.release import release_model
from latentdiff.training.ema_choice import validation_images, write_ema_model

# A released file and the model of its run agree in these. No two trainings take exactly the same time.
SIGNATURE = ("images_seen", "seconds", "command")
# Data that a path names, and that have no name of their own.
NAMED_BY_PATH = ("folder", "parquet", "datasets", "webdataset")


def reproduce(settings: ReproduceStage) -> Path:
    """Train, release, measure and compare the models of a recipe; return the path of the page.

    Everything is in one folder. Finished runs are kept, and an interrupted run is resumed. So the same command
    completes what an earlier one began.

    Args:
        settings: Those of the reproduce stage.

    Raises:
        ConfigError: The recipe is invalid, or does not have a name in ``only``. Nothing has been run.
        FolderError: The folder cannot be used, holds other things, or was begun with another budget; a run in it was
            begun with other settings; or ``release_folder`` has other models of these names.
        StageError: A training run ended with an error, which it has printed.
    """
    settings = _with_preset(settings)
    whole = read_recipe(settings)
    parse_budget(settings.budget)
    recipe = whole.chosen(settings.only)
    folder = Path(settings.folder) if settings.folder else default_folder("reproduce", _name(settings.data))
    released = Path(settings.release_folder) if settings.release_folder else folder / "release"

    for run in recipe.runs:
        if run.settings.trainer.ema_snapshots:
            validation_images(run.settings.data)
        if settings.release_folder:
            _check_release(released / f"{run.name}.safetensors", folder / run.name / "model.safetensors")

    # Before hours of training it is known whether anything can measure the models.
    here = EvaluationConditions.on_this_machine(settings.data, settings.num_images)
    _claim(folder)
    share, rates = keep_plan(settings.budget, whole.runs, recipe.runs, folder)
    runs = [run.scaled(share) for run in recipe.runs]
    models = _train(runs, rates, folder)
    for run in runs:
        _release(run, models[run.name], released, settings)
    evaluations = _evaluate(recipe, folder, released, here)
    for run in runs:  # once more, with what was measured on the card
        own = [each.name for each in recipe.evaluations if each.run == run.name]
        measured = [evaluations[name] for name in own if name in evaluations]
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


def _name(data: DataConfig) -> str:
    """The name for what is made from a data set: that of its folder or file if it has a path."""
    if not data.path or data.name not in NAMED_BY_PATH:
        return data.name
    path = Path(data.path).resolve()
    return (path if path.exists() else path.parent).stem


def _check_release(target: Path, model: Path) -> None:
    """Raise FolderError for a file at ``target`` that is not the release of the run's ``model``, or for one that would
    be taken for its card or its samples."""
    if not target.exists():
        for beside in (target.with_suffix(".md"), target.with_suffix(".jpg")):
            if beside.exists():
                raise FolderError(
                    f"{beside} is there without a model, and would be overwritten: move it, or name another folder "
                    "with --release_folder"
                )
        return
    try:
        made, own = (checkpoint.read_header(path).get("provenance") or {} for path in (target, model))
    except CheckpointError:  # the run has not finished, so that it cannot have been released
        made, own = {}, {}
    if not own or any(made.get(key) != own.get(key) for key in SIGNATURE):
        raise FolderError(
            f"{target} is another model, and would be overwritten: move it, or name another folder with "
            "--release_folder"
        )


def _claim(folder: Path) -> None:
    """Mark a folder that is new, and refuse one that cannot be used, before time is spent on measuring the machine."""
    mark = read_mark(folder)
    if mark is None and not is_new_or_empty(folder):
        raise FolderError(f"{folder} holds other things than a reproduction: name another folder with --folder")
    if mark is not None and mark.stage not in (None, "reproduce"):
        raise FolderError(f"{folder} was made by the stage {mark.stage}: name another folder with --folder")
    claim(folder, [PLAN], "reproduce")


def _train(runs: Sequence[PlannedRun], rates: Mapping[str, float], folder: Path) -> dict[str, Path]:
    """The model files of the runs by their names, those that are not there made now."""
    models: dict[str, Path] = {}
    for run in runs:
        # Without the autoencoder no model on its latents can be finished.
        if run.is_latent and "autoencoder" not in models:
            continue
        flags = _flags_in(run, folder, models)
        if found := find_finished_model(run.stage, flags, folder / run.name, at_any_speed=True):
            models[run.name] = _with_best_average(run, found, folder)
    done = list(models)
    shares = {run.name: share_left(run, folder / run.name) for run in runs}
    print(describe_plan(runs, rates, done, shares), flush=True)
    for place, run in enumerate(runs, 1):
        if run.name in done:
            continue
        start = time.perf_counter()
        trained = train_once(run.stage, _flags_in(run, folder, models), folder / run.name)
        models[run.name] = _with_best_average(run, trained, folder)
        others = [other for other in runs[place:] if other.name not in done]
        left = sum(other.seconds(rates.get(other.name)) * shares[other.name] for other in others)
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
    release_model(release, made_by=_command(settings, run.name))


def _command(settings: ReproduceStage, name: str) -> str | None:
    """The command that makes the model ``name``; None for a recipe of the user's own, which has no name here."""
    shipped = shipped_recipe(settings.data.name)
    usual = shipped or ReproduceStage()
    if not settings.preset and (shipped is None or settings.runs != usual.runs):
        return None
    preset = ["--preset", settings.preset] if settings.preset else []
    budget = [] if settings.budget == ReproduceStage.budget else ["--budget", settings.budget]
    # Not where this machine keeps its files.
    here = {"root": None, "cache_folder": DataConfig.cache_folder}
    here |= {} if settings.data.name in NAMED_BY_PATH else {"path": None}
    before_it = DataConfig(name=settings.data.name) if settings.preset else replace(usual.data, **here)
    data = data_flags(replace(settings.data, **here), before_it)
    given = {"flags": settings.flags, "int8": settings.int8}
    before = {"flags": (), "int8": () if settings.preset else usual.int8}
    more = [word for key, value in given.items() if value != before[key] for word in (f"--{key}", json.dumps(value))]
    return shlex.join(
        ["python", "-m", f"{PACKAGE}.reproduce", settings.data.name, *data, *preset, *budget, *more, "--only", name]
    )


def _evaluate(recipe: Recipe, folder: Path, released: Path, here: EvaluationConditions) -> dict[str, Path]:
    """The folders of the evaluations by their names: of noise, and of each released model."""
    features = ["--features_folder", str(folder / "features")]
    asked = {name: (name, None, []) for name in RANDOM}
    for each in recipe.evaluations:
        model = released / f"{each.run}.safetensors"
        if each.needs_classes and not _can_be_guided(model):
            print(f"{each.name} is left out: {each.run} cannot be guided by classes")
            continue
        asked[each.name] = (str(model), model, each.flags_with(released))
    return {
        name: evaluate_once(
            ["--model", model, "--name", name, *flags, *features], folder / "evaluate" / here.folder / name, file, here
        )
        for name, (model, file, flags) in asked.items()
    }


def _can_be_guided(model: Path) -> bool:
    """Whether a diffusion model's file has learned both with and without classes or captions."""
    header = checkpoint.read_header(model)
    network, process = header["network"], header["diffusion"]
    knows = network.get("class_conditional", True) or network.get("text", "none") != "none"
    return knows and process.get("class_dropout", 0.0) > 0
