"""Several models side by side, as one report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from latentdiff import resources
from latentdiff.checkpoint import read_header
from latentdiff.comparison.cached_runs import EvaluationConditions, evaluate_once
from latentdiff.comparison.equal_budget import BASELINES, run_budgets
from latentdiff.comparison.released_models import evaluate_released
from latentdiff.comparison.source_projects import results_markdown, run_sources, run_third_project
from latentdiff.config import DataConfig, RunConfig, SamplingConfig
from latentdiff.config.comparison_stages import BudgetConfig, CompareStage
from latentdiff.config.run import default_folder
from latentdiff.data import DatasetSplits, load_dataset
from latentdiff.errors import ConfigError, ReportError
from latentdiff.evaluation.evaluate import Evaluable, evaluate
from latentdiff.evaluation.image_files import holds_images
from latentdiff.files import file_sha256, scratch_folder, write_atomically
from latentdiff.inference.model_file import find_model
from latentdiff.report.evaluation import FILE, Evaluation, in_order, read_evaluation
from latentdiff.report.missing import missing_baselines
from latentdiff.report.page import Report
from latentdiff.report.sampler_record import read_sampler_record
from latentdiff.report.table import build_table
from latentdiff.report.verdict import verdict
from latentdiff.runs import run_folder

TITLE = CompareStage.title


def compare(
    models: Sequence[Evaluation | Evaluable] | Evaluation | Evaluable,
    data: DatasetSplits | str | Path | None = None,
    *,
    num_images: int | None = None,
    real_images: int | None = None,
    inception: Literal["auto", "require", "off"] = "auto",
    lpips: Literal["auto", "off"] = "auto",
    title: str = TITLE,
    sampling: SamplingConfig | None = None,
    folder: Path | str | None = None,
    overwrite: bool = False,
) -> Report:
    """Compare models by their images: whether latent diffusion beats pixel diffusion, by how much, and at which cost.

    Args:
        models: Any mix of models and images that :func:`~latentdiff.evaluate` takes, evaluations that it returned, and
            folders that the evaluate stage has written. Models without an evaluation are evaluated now, under the same
            conditions.
        data: The real images that these are measured against: a data set, or what :func:`~latentdiff.load_dataset`
            takes. It is not needed where all are evaluated.
        num_images: How many images of each model. Default: as many as an evaluation among ``models`` has, or what
            :func:`~latentdiff.evaluate` takes.
        real_images, inception, lpips: What :func:`~latentdiff.evaluate` takes. Default: as an evaluation among
            ``models`` had them.
        title: The report's heading.
        sampling: How the diffusion models sample. Default: that of :func:`~latentdiff.evaluate`.
        folder: Where the report is written, as by :meth:`Report.save`. Default: it stays in memory.
        overwrite: Replace an earlier report in ``folder``.

    Returns:
        The :class:`~latentdiff.report.page.Report`, with ``table``, ``verdict`` and ``save``.

    Raises:
        ConfigError: A model is to be evaluated, but ``data`` is not given.
        ReportError: There is nothing to compare, an evaluation is damaged, or two were made with other images,
            numbers of images or networks.
        FolderError: ``folder`` holds an earlier report or other files.

    Example:
        >>> from latentdiff import load_dataset
        >>> from latentdiff.comparison.compare import compare
        >>> from latentdiff.config import DataConfig
        >>> from latentdiff.evaluation.evaluate import evaluate
        >>> data = load_dataset(DataConfig(source="embedded"))
        >>> settings = dict(num_images=20, real_images=40, inception="off", lpips="off")
        >>> latent = evaluate("checkpoints/fashion-mnist/latent.safetensors", data, **settings)  # doctest: +ELLIPSIS
        fashion-mnist ...
        >>> noise = evaluate("noise", data, **settings)  # doctest: +ELLIPSIS
        fashion-mnist ...
        >>> report = compare([latent, noise])
        >>> [row["name"] for row in report.table]
        ['noise', 'latent', 'real images']
    """
    if isinstance(models, str | Path) or not isinstance(models, Sequence):
        models = [models]
    if not models:
        raise ReportError("there is nothing to compare: name at least one model, evaluation or evaluation's folder")
    # What is named twice is one row.
    models = list(
        {str(Path(model)) if isinstance(model, str | Path) else id(model): model for model in models}.values()
    )
    models = [_read_if_evaluated(model) for model in models]
    missing = sum(not isinstance(model, Evaluation) for model in models)
    if missing and data is None:
        raise ConfigError(
            f"{missing} of the {len(models)} models are not evaluated yet: give data, the images to measure them "
            "against, as in compare(models, data)"
        )
    run = RunConfig(folder=None if folder is None else str(folder), overwrite=overwrite)
    if folder is not None:
        run_folder.check(run, "compare", "")  # before the work, not after
    own = {"num_images": num_images, "real_images": real_images, "inception": inception, "lpips": lpips}
    evaluations = _evaluate_rest(models, data, own | {"sampling": sampling})
    report = Report(evaluations, title, samplers=sampler_records(evaluations))
    if folder is None:
        return report
    with run_folder.opened(run, "compare", "", inputs=[evaluation.folder for evaluation in evaluations]):
        report = replace(report, folder=Path(folder))
        report.save(folder)
    return report


def _read_if_evaluated(model: Evaluation | Evaluable) -> Evaluation | Evaluable:
    """The evaluation in the folder ``model``. A model, or an evaluation that is already read, is returned unchanged.

    Raises :class:`~latentdiff.errors.ReportError` for a path that is neither an evaluation's folder nor a model's file,
    and CheckpointError for a model's file that cannot be read: before any of the others is evaluated.
    """
    if not isinstance(model, str | Path) or model in ("noise", "gaussian"):
        return model
    if (Path(model) / FILE).is_file():
        return read_evaluation(model)
    file = find_model(model)
    if not file.exists():
        raise ReportError(f"there is no model or evaluation at {model}: check the path")
    if not holds_images(file):
        read_header(file)
    return model


def _evaluate_rest(
    models: Sequence[Evaluation | Evaluable], data: DatasetSplits | str | Path | None, settings: dict[str, Any]
) -> list[Evaluation]:
    """All evaluations, in the order of ``models``. The features of the real images are taken once for all of them.

    ``data`` may be None where all are evaluated. ``settings`` are keywords of :func:`~latentdiff.evaluate`.
    """
    done = [model for model in models if isinstance(model, Evaluation)]
    if data is None or len(done) == len(models):
        return done
    splits = data if isinstance(data, DatasetSplits) else load_dataset(data)
    if done:
        # What was not asked for is as in the evaluation that is there.
        settings = settings | {k: v for k, v in _settings_like(done[0]).items() if settings[k] in (None, "auto")}
    with scratch_folder() as features:
        return [
            model if isinstance(model, Evaluation) else evaluate(model, splits, features_folder=features, **settings)
            for model in models
        ]


def _settings_like(evaluation: Evaluation) -> dict[str, Any]:
    """The settings that make further evaluations comparable with one that is there."""
    nets = {net for net in ("inception", "classifier", "lpips") if evaluation.get("features", net)}
    counts = ("test_images", "train_images")
    real = max((evaluation.get("features", net, count) or 0 for net in nets for count in counts), default=0)
    return {
        "num_images": evaluation.values["num_images"],
        "real_images": real or None,
        "inception": "auto" if "inception" in nets else "off",
        "lpips": "auto" if "lpips" in nets else "off",
    }


def compare_with_settings(settings: CompareStage) -> Path:
    """Compare as the settings of the command say, print the table and the verdict, and return the path of the page.

    Args:
        settings: Those of the compare stage.

    Raises what :func:`compare` raises.
    """
    found = find_or_make_evaluations(settings)
    read = {path: read_evaluation(path) for group in found.values() for path in group}
    groups = {words: [read[path] for path in group] for words, group in found.items()}
    data_name = next(iter(read.values())).values["data"]["name"]
    name = f"{data_name}-{settings.preset}" if settings.preset else data_name
    report = compare(list(read.values()), title=settings.title)
    # Before the page's folder, so that the same command goes on where this was interrupted.
    thirds = (
        run_third_project(settings.data, settings.budget.seconds, settings.num_images, settings.budget.flags)
        if settings.preset
        else {}
    )
    # The sources' models had minutes each: only the released ones are judged.
    judged = {"": groups["released"]} if settings.preset else {key: groups[key] for key in groups if key != BASELINES}
    run = run_folder.numbered(settings.run, "compare", name)
    sources_table = None
    with run_folder.opened(run, "compare", name, settings, inputs=list(read)) as folder:
        page = replace(report, groups=judged).save(folder)
        if settings.preset:
            others = {name: [read_evaluation(path) for path in paths] for name, paths in thirds.items()}
            sources_table = results_markdown(groups, settings.data, others)
            write_atomically(folder / "results.md", partial(Path.write_text, data=sources_table))
    print(f"\n{build_table(report.evaluations).text()}\n")
    for missing in missing_baselines(report.evaluations):
        print(missing)
    for words, group in judged.items():
        print(f"{words and f'At {words}. '}{verdict(group)}\n")
    if sources_table:
        print(f"{sources_table}\n{folder / 'results.md'}")
    print(page)
    return page


def find_or_make_evaluations(settings: CompareStage) -> dict[str, list[Path]]:
    """The folders of the evaluations, which are made now if necessary. Evaluations of one verdict have one key."""
    # A folder that is named twice is one row.
    named = list(dict.fromkeys(Path(folder) for folder in settings.evaluations))
    if named and (settings.preset or settings.budget.is_set):
        raise ConfigError("give evaluations to compare, a preset or a budget: they cannot be combined")
    budget = settings.budget
    if settings.preset and budget != BudgetConfig(seconds=budget.seconds, flags=budget.flags):
        raise ConfigError(f"the preset {settings.preset} takes only budget.seconds and budget.flags")
    if settings.budget.is_set:
        settings.budget.check(amount_needed=not settings.preset)
    if named:
        return {"": _evaluations_of_named(named, settings)}
    found = find_evaluations(settings.data)
    if found and not settings.preset and not settings.budget.is_set:
        if settings.num_images is not None:
            raise ConfigError(
                "num_images is for models that are evaluated now, but the evaluations under stages/evaluate exist "
                "already"
            )
        return {"": found}
    name = f"{settings.data.name}-{settings.preset}" if settings.preset else settings.data.name
    run = run_folder.numbered(settings.run, "compare", name)
    run_folder.check(run, "compare", name)  # before the work, not after
    if settings.preset:
        return run_sources(settings.data, settings.budget.seconds, settings.num_images, settings.budget.flags)
    if settings.budget.is_set:
        return run_budgets(settings.budget, settings.data, settings.num_images)
    return {"": evaluate_released(settings.data, settings.num_images)}


def _evaluations_of_named(named: list[Path], settings: CompareStage) -> list[Path]:
    """The folders of the evaluations that are given. Models that are given are evaluated now, under the same
    conditions.

    An evaluation of the same file under the same conditions is not made again.
    """
    models: dict[Path, Path] = {}
    done: list[Evaluation] = []
    for path in named:
        if isinstance(found := _read_if_evaluated(path), Evaluation):
            done.append(found)
        else:
            if not (file := find_model(path)).is_file():
                raise ReportError(
                    f"{path} is neither an evaluation's folder nor a model: run the evaluate stage on it first"
                )
            models[path] = file
    if not models:
        if settings.data != DataConfig(name=settings.data.name):
            raise ConfigError("the given evaluations record which images they were measured against: leave out --data")
        if settings.num_images is not None:
            raise ConfigError(
                "num_images is for models that are evaluated now, but all that is given is evaluated already"
            )
        return named
    like = _settings_like(done[0]) if done else {}
    asked = settings.num_images or like.get("num_images")
    conditions = EvaluationConditions.on_this_machine(
        settings.data,
        asked,
        num_real=like.get("real_images"),
        without=[net for net in ("inception", "lpips") if like.get(net) == "off"],
    )
    if asked and conditions.num_images < asked:
        raise ConfigError(
            f"{asked:,} images cannot be measured here, since there are {conditions.num_images:,} test images: give "
            "--num_images of at most that many, or run the evaluate stage on each model and compare its folders"
        )
    root = default_folder("evaluations", settings.data.name) / conditions.folder
    for path, file in models.items():
        name = run_folder.model_name(file)
        flags = ["--model", str(file), "--name", name]
        # Two models may have one name, such as the best of two runs.
        folder = root / f"{run_folder.folder_name(file)}-{file_sha256(file)[:12]}"
        models[path] = evaluate_once(flags, folder, file, conditions)
    return [models.get(path, path) for path in named]


def sampler_records(evaluations: list[Evaluation]) -> dict[str, dict[str, Any]]:
    """The measurements of samplers on the compared models, by the models' names: from files next to them
    (``latent.samplers.json`` for ``latent.safetensors``), or from stages/samplers."""
    # By the names that the report gives them, so that two of one name are two figures.
    rows = [item for item in in_order(evaluations) if item.get("model", "sha256")]
    found: dict[str, dict[str, Any]] = {}
    files = {(item.get("data", "name"), Path(item.get("model", "path") or "").stem) for item in evaluations}
    released = (resources.find_checkpoint(f"{data}/{model}.samplers.json") for data, model in sorted(files))
    measured = sorted(default_folder("samplers", "").glob("*/samplers.json"))
    for path in [*(path for path in released if path), *measured]:
        try:
            record = read_sampler_record(path)
        except ReportError as error:
            print(f"left out: {error}")
            continue
        scale = record.get("guidance_scale", 1.0)
        own = [item for item in rows if item.get("model", "sha256") == record["model"]["sha256"]]
        # A model may have several rows. One with the record's guidance is taken, else the first.
        alike = [item for item in own if item.get("sampling", "guidance_scale") == scale] or own
        if record["rows"] and alike:
            found[alike[0].name + (f", guidance {scale:g}" if scale != 1.0 else "")] = record
    return found


def find_evaluations(data: DataConfig) -> list[Path]:
    """The folders under stages/evaluate whose evaluation is on this data set, and on its ``source`` where one is asked
    for.

    Raises :class:`~latentdiff.errors.ReportError` for one of them that cannot be read; one of another data
    set, or of none that is known, is left out with a line.
    """
    found: list[Path] = []
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
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
