"""Pixel against latent at one budget: the training runs and evaluations that a fair comparison needs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from latentdiff.command_line import parse
from latentdiff.comparison.cached_runs import EvaluationConditions, evaluate_once, flags_of_file, train_once
from latentdiff.comparison.released_models import evaluate_baselines
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import BudgetConfig
from latentdiff.config.run import default_folder
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.errors import ConfigError
from latentdiff.from_diffusers.address import is_address
from latentdiff.inference.model_file import find_model
from latentdiff.report.evaluation import read_evaluation
from latentdiff.runs.find import find_autoencoder

PATHS = ("latent", "pixel")
# Looks at the samples on the way, for the curves: so many of a run of so many images, and of one of so many seconds
# after so many images each (a tenth of what five minutes of a CPU core do). Of fewer samples than usual: what they cost
# is not training.
QUALITY_FIGURES, IMAGES_PER_FIGURE, SAMPLES = 8, {"latent": 16_384, "pixel": 4_096}, 200
# What is no comparison of its own.
BASELINES = "baselines"


class TrainingLength(NamedTuple):
    """The length of one run, in ``images`` or ``seconds``."""

    unit: str
    amount: float

    @property
    def text(self) -> str:
        """The amount as a setting, a whole number where it is one."""
        return str(int(self.amount)) if self.amount == int(self.amount) else repr(self.amount)


def run_budgets(budget: BudgetConfig, data: DataConfig, num_images: int | None = None) -> dict[str, list[Path]]:
    """Train and evaluate both paths at each budget, in ``stages/budget/<data set>/``.

    An interrupted run is resumed, a finished run is kept, and a run that two budgets share is made once. So after an
    interruption the same command continues.

    Noise, and the data set's released VAE baseline and autoencoder, are measured too.

    Returns: for each budget, in words, the folders of the latent and the pixel model's evaluation; budgets that have
        the same runs are one. Under ``baselines``, the folders of the other evaluations.

    Raises:
        ConfigError: see :meth:`BudgetConfig.check`.
        StageError: A training run ended with an error, which it has printed.
    """
    budget.check()
    _check_settings(budget, data)
    here = EvaluationConditions.on_this_machine(data, num_images)

    def result(path: str, length: TrainingLength) -> Path:
        model = _train_path(path, length, training_flags(budget, path, data), data)
        name = model.parent.name
        folder = _budget_folder(data) / "evaluate" / here.folder / name
        return evaluate_once(["--model", str(model), "--name", name], folder, model, here)

    found: dict[str, list[Path]] = {}
    if budget.images is not None:
        both = TrainingLength("images", budget.images)
        found[f"{budget.images:,} images seen by each"] = [result(path, both) for path in PATHS]
    if budget.steps is not None:
        images = {path: budget.steps * _batch_size(training_flags(budget, path, data)) for path in PATHS}
        found[f"{budget.steps:,} optimiser steps of each"] = [
            result(path, TrainingLength("images", images[path])) for path in PATHS
        ]
    if budget.seconds is not None:
        both = TrainingLength("seconds", budget.seconds)
        latent, pixel = (result(path, both) for path in PATHS)
        found[f"{budget.seconds:g} seconds of training for each"] = [latent, pixel]
        if budget.stage_one_too:
            whole = TrainingLength("seconds", round(budget.seconds + _stage_one_and_encoding_seconds(latent), 1))
            words = f"{whole.text} seconds for each, the autoencoder's and the encoding's counted"
            found[words] = [latent, result("pixel", whole)]
    return _merge_equal_budgets(found) | {
        BASELINES: evaluate_baselines(data, _autoencoder(budget, data), _budget_folder(data) / "evaluate", here)
    }


def _merge_equal_budgets(found: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Join budgets that have the same runs under one heading: 160 steps of 128 are 20,480 images."""
    words: dict[tuple[Path, ...], list[str]] = {}
    for heading, folders_ in found.items():
        words.setdefault(tuple(folders_), []).append(heading)
    return {", which are ".join(headings): list(folders_) for folders_, headings in words.items()}


def _check_settings(budget: BudgetConfig, data: DataConfig) -> None:
    """Raise ConfigError for settings of either path that contradict the comparison, before anything is trained."""
    for path in PATHS:
        own = parse(DiffusionStage, training_flags(budget, path, data))
        if (own.autoencoder == "none") != (path == "pixel"):
            raise ConfigError(f"budget.{path} has --autoencoder {own.autoencoder}: it is not for the {path} path")
        if own.data.name != data.name:
            raise ConfigError(
                f"budget.{path} is for {own.data.name}, but {data.name} is compared: give --data.name {own.data.name}"
            )


def _budget_folder(data: DataConfig) -> Path:
    return default_folder("budget", data.name)


def _train_path(path: str, length: TrainingLength, flags: list[str], data: DataConfig) -> Path:
    lengths = {"max_images": "null", "max_seconds": "null", f"max_{length.unit}": length.text}
    length_flags = [f"--trainer.{name}={value}" for name, value in lengths.items()]
    images = max(1, int(length.amount) // QUALITY_FIGURES) if length.unit == "images" else IMAGES_PER_FIGURE[path]
    figures = [f"--trainer.images_per_epoch={images}", f"--quality_images={SAMPLES}"]
    config, others = flags[:2], flags[2:]  # After the config, before what was asked for.
    return train_once(
        "diffusion",
        [*config, *figures, *others, *length_flags],
        _budget_folder(data) / f"{path}-{length.text}-{length.unit}",
    )


def _autoencoder(budget: BudgetConfig, data: DataConfig) -> Path:
    """The one that the latent models are trained on."""
    settings = parse(DiffusionStage, training_flags(budget, "latent", data))
    if is_address(settings.autoencoder):
        return find_model(settings.autoencoder)
    return find_autoencoder(settings.autoencoder, settings.data)


def _batch_size(flags: list[str]) -> int:
    return parse(DiffusionStage, flags).trainer.batch_size


def _stage_one_and_encoding_seconds(evaluation: Path) -> float:
    """Seconds that the autoencoder and the encoding of an evaluated latent model took.

    Raises ConfigError if either is not known, since the comparison must count both.
    """
    training = read_evaluation(evaluation).values["training"]
    spent = {key: training.get(key) for key in ("stage_one_seconds", "encode_seconds")}
    for key, value in spent.items():
        if value is None:
            raise ConfigError(f"budget.stage_one_too: {evaluation} does not record {key}; train the latent model anew")
    return sum(spent.values())


def training_flags(budget: BudgetConfig, path: str, data: DataConfig) -> list[str]:
    """The flags of ``path``'s training run but for its length."""
    return [*flags_of_file(getattr(budget, path) or f"{data.name}/{path}.yaml", data), *budget.flags]
