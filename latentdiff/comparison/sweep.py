"""Equal-time training runs that differ in a few settings each, ranked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from latentdiff.command_line import parse
from latentdiff.comparison.cached_runs import (
    EvaluationConditions,
    evaluate_once,
    find_finished_model,
    flags_of_file,
    train_once,
)
from latentdiff.comparison.same_images import check_same_images
from latentdiff.config.comparison_stages import SEARCH_SETTINGS, SweepStage
from latentdiff.config.run import default_folder
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.folder_mark import claim
from latentdiff.models.network import check_network
from latentdiff.report.evaluation import read_evaluation
from latentdiff.resources import find_config
from latentdiff.training.diffusion_checks import check_process
from latentdiff.training.trainer import check_settings

TABLES = ("sweep.json", "sweep.md")
# A diffusion run's pauses for grids and figures are not training: a sweep has its own measure at the end.
WITHOUT_PAUSES = ("--quality_images=0", "--sample_every=1000000")


def run_sweep(config: SweepStage) -> Path:
    """Make and measure the runs that are not there yet; return the sweep's folder.

    Raises:
        ConfigError: The settings are invalid; nothing has been run.
        FolderError: A finished run of that name had other settings, or another's file has the name of a table.
        StageError: A training run ended with an error; with several jobs the message names its log.
    """
    check_sweep(config)
    folder = default_folder("sweep", f"{config.data.name}-{config.name}") / f"{config.seconds:g}-seconds"
    here = EvaluationConditions.on_this_machine(config.data, config.num_images, quick=True)
    if not _holds_table(folder):
        claim(folder, (*TABLES, *(f"{name}.log" for name in config.runs if config.jobs > 1)), "sweep")
    models = _train(config, folder)
    rows = []
    for name, model in models.items():
        found = _measure(name, model, folder / "evaluate" / here.folder, here)
        rows.append(table_row(name, config.runs[name], found, ranking=True))
    rows.sort(key=lambda row: row["distance"])
    if config.finalists:
        final = EvaluationConditions.on_this_machine(config.data, config.finalist_images)
        for best in rows[: config.finalists]:
            name = best["name"]
            found = _measure(name, models[name], folder / "evaluate" / f"finalists-{final.folder}", final)
            best["finalist"] = table_row(name, config.runs[name], found, ranking=False)
    record = {"schema": 1, "seconds": config.seconds, "num_images": here.num_images, "rows": rows}
    text = markdown_table(record)
    write_atomically(folder / "sweep.json", lambda path: path.write_text(json.dumps(record, indent=1)))
    write_atomically(folder / "sweep.md", lambda path: path.write_text(text))
    print(f"{text}\n{folder}")
    return folder


def _holds_table(folder: Path) -> bool:
    """Whether a table of a sweep is there, in a folder with a mark or of an earlier version, which set none."""
    try:
        return {"schema", "seconds", "num_images", "rows"} <= set(json.loads((folder / TABLES[0]).read_bytes()))
    except (OSError, ValueError, TypeError):
        return False


def check_sweep(config: SweepStage) -> None:
    """Raise ConfigError for an invalid sweep, before any work."""
    for name in SEARCH_SETTINGS:
        if getattr(config, name) != getattr(SweepStage(), name):
            raise ConfigError(f"--{name} is for a search: add --search optuna")
    if len(config.runs) < 2:
        raise ConfigError("a sweep compares runs: give at least two, as runs: {name: [flags]} in a --config file")
    for name in config.runs:
        if not name or Path(name).name != name or name in (".", "..", "evaluate"):
            raise ConfigError(f"a run's name is the name of its folder: {name!r} is not possible")
        own = parse(DiffusionStage, _training_flags(config, name))  # Ends the program where a flag is unknown.
        check_same_images(f"the run {name}", own.data, config.data)
        try:
            check_process(own.diffusion, own.network, on_latents=own.autoencoder != "none")
            check_network(own.network)
            check_settings(own.trainer)
        except ValueError as error:
            raise ConfigError(f"the run {name}: {error}") from error


def settings_file(config: SweepStage) -> str:
    """The file of the settings that all runs begin from.

    Raises :class:`~latentdiff.errors.ConfigError` for data that no file is shipped for, where none is named.
    """
    usual = f"{config.data.name}/latent.yaml"
    if config.settings is None and find_config(usual) is None:
        raise ConfigError(
            f"there is no file of settings for {config.data.name}: give one with --settings, such as "
            "fashion-mnist/latent.yaml. The --data flags replace its data set"
        )
    return config.settings or usual


def _training_flags(config: SweepStage, name: str) -> list[str]:
    return [
        *flags_of_file(settings_file(config), config.data),
        *WITHOUT_PAUSES,
        "--trainer.max_images=null",
        f"--trainer.max_seconds={config.seconds:g}",
        *config.flags,
        *config.runs[name],
    ]


def _train(config: SweepStage, folder: Path) -> dict[str, Path]:
    """The models by the names of their runs, ``jobs`` trained at a time."""
    settings = {name: _training_flags(config, name) for name in config.runs}
    # All of those that are there before any is made: see :func:`finished`.
    there = {name: find_finished_model("diffusion", flags, folder / name) for name, flags in settings.items()}

    def make(name: str) -> Path:
        log = folder / f"{name}.log" if config.jobs > 1 else None  # Bars of several runs would mix.
        return there[name] or train_once("diffusion", settings[name], folder / name, log)

    with ThreadPoolExecutor(config.jobs) as pool:
        return dict(zip(config.runs, pool.map(make, config.runs), strict=True))


def _measure(name: str, model: Path, folder: Path, conditions: EvaluationConditions) -> dict[str, Any]:
    flags = ["--model", str(model), "--name", name]
    return read_evaluation(evaluate_once(flags, folder / name, model, conditions)).values


def table_row(name: str, flags: list[str], evaluation: dict[str, Any], ranking: bool) -> dict[str, Any]:
    """What the table says of a run, from its ``evaluation.json``; ``distance`` is what a ranking goes by."""
    metrics, training = evaluation["metrics"], evaluation["training"]
    classifier, inception = metrics["classifier"] or {}, metrics["inception"] or {}
    if ranking:
        return {
            "name": name,
            "flags": flags,
            "parameters": evaluation["model"]["parameters"],
            "images_seen": training["images_seen"],
            "distance": classifier.get("distance_test", inception.get("fid_test")),
            "class_accuracy": classifier.get("class_accuracy"),
        }
    return {
        "num_images": evaluation["num_images"],
        "fid_test": inception.get("fid_test"),
        "kid_test": (inception.get("kid_test") or {}).get("mean"),
        "distance": classifier.get("distance_test"),
    }


def markdown_table(record: dict[str, Any]) -> str:
    """The runs as Markdown, best first."""
    lines = [
        "| Run | What differs | Parameters | Images seen | Distance | Class accuracy | FID | KID × 1000 |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in record["rows"]:
        final = entry.get("finalist") or {}
        cells = [
            entry["name"],
            " ".join(f"`{flag}`" for flag in entry["flags"]) or "nothing",
            f"{entry['parameters']:,}",
            f"{entry['images_seen']:,}",
            f"{entry['distance']:.3f}",
            _or_dash(entry["class_accuracy"], "{:.1%}"),
            _or_dash(final.get("fid_test"), "{:.2f}"),
            _or_dash(final.get("kid_test"), "{:.2f}", 1000),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    finals = [entry["finalist"]["num_images"] for entry in record["rows"] if entry.get("finalist")]
    words = f"{record['seconds']:g} seconds of training each; distances of {record['num_images']:,} samples"
    lines += ["", words + (f", FID and KID of {finals[0]:,}." if finals else ".")]
    return "\n".join(lines)


def _or_dash(value: float | None, form: str, times: float = 1) -> str:
    return "–" if value is None else form.format(times * value)
