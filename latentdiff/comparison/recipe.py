"""A recipe read and checked: its training runs, and the evaluations of their models."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latentdiff.command_line import parse
from latentdiff.comparison.same_images import check_same_images
from latentdiff.comparison.training_plan import PlannedRun, read_runs
from latentdiff.config.comparison_stages import ReproduceStage
from latentdiff.config.data import data_flags
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.errors import ConfigError
from latentdiff.resources import find_config

# Folders beside those of the runs. A run of such a name would be overwritten.
RESERVED = ("evaluate", "features", "latents", "release", "report")
# Settings of an evaluation that are the same for all models of a recipe.
SAME_FOR_ALL = (
    *("model", "name", "ema", "data", "num_images", "real_images"),
    *("inception", "inception_weights", "lpips"),
    *("devices", "features_folder", "run"),
)


@dataclass(frozen=True)
class PlannedEvaluation:
    """An evaluation of a recipe.

    Attributes:
        name: What its row is called.
        run: The run whose model it measures.
        flags: The settings of the evaluate stage, for the shell. The word after ``--guide`` is a run.
        guide: The run whose model guides; None for no guide.
        needs_classes: Whether it guides by the model's own classes or captions.
    """

    name: str
    run: str
    flags: tuple[str, ...]
    guide: str | None = None
    needs_classes: bool = False

    def flags_with(self, released: Path) -> list[str]:
        """The flags with the guide's file in the folder ``released``."""
        guides = [False, *(flag == "--guide" for flag in self.flags[:-1])]
        pairs = zip(self.flags, guides, strict=True) if self.flags else []
        return [str(released / f"{flag}.safetensors") if is_guide else flag for flag, is_guide in pairs]


@dataclass(frozen=True)
class Recipe:
    """What is trained, measured and released of a data set."""

    runs: tuple[PlannedRun, ...]
    evaluations: tuple[PlannedEvaluation, ...] = ()

    def chosen(self, only: Collection[str]) -> Recipe:
        """The part that makes the models ``only`` (all if it is empty), with the models that they need: their guides,
        and the autoencoder.

        Raises:
            ConfigError: ``only`` has a name that the recipe does not have.
        """
        names = [run.name for run in self.runs]
        _check_names("only", only, names)
        wanted = set(only or names)
        wanted |= {each.guide for each in self.evaluations if each.guide and each.run in wanted}
        if any(run.is_latent for run in self.runs if run.name in wanted):
            wanted.add("autoencoder")
        runs = tuple(run for run in self.runs if run.name in wanted)
        measured = tuple(
            each for each in self.evaluations if each.run in wanted and (each.guide is None or each.guide in wanted)
        )
        return replace(self, runs=runs, evaluations=measured)


def read_recipe(settings: ReproduceStage) -> Recipe:
    """The recipe that a stage's settings hold.

    Raises:
        ConfigError: A run, an evaluation or a name in it that cannot be meant.
    """
    runs = read_runs(settings.runs, [*_data_flags(settings), *settings.flags])
    names = [run.name for run in runs]
    if taken := [name for name in names if name in RESERVED]:
        raise ConfigError(f"runs.{taken[0]}: the folder {taken[0]} holds other results: take another name")
    for run in runs:
        check_same_images(f"runs.{run.name}", run.settings.data, settings.data)
    _check_names("int8", settings.int8, names)
    evaluations = [_read_evaluation(name, flags, names) for name, flags in settings.evaluations.items()]
    return Recipe(tuple(runs), tuple(evaluations))


def _data_flags(settings: ReproduceStage) -> list[str]:
    """The data settings of the recipe as flags of its runs, with those that set back what a shipped recipe changes."""
    shipped = shipped_recipe(settings.data.name)
    is_shipped = shipped is not None and shipped.runs == settings.runs
    return [*data_flags(settings.data), *(data_flags(settings.data, shipped.data) if is_shipped else [])]


def shipped_recipe(data: str) -> ReproduceStage | None:
    """The recipe of ``configs/`` for a data set; None where there is none."""
    path = find_config(f"{data}/reproduce.yaml")
    return parse(ReproduceStage, ["--config", str(path)]) if path else None


def _check_names(setting: str, given: Collection[str], names: Sequence[str]) -> None:
    if unknown := [name for name in given if name not in names]:
        raise ConfigError(f"{setting} names {', '.join(unknown)}, but the recipe has {', '.join(names)}")


def _read_evaluation(name: str, flags: Sequence[str], runs: Sequence[str]) -> PlannedEvaluation:
    """An evaluation, which measures ``latent`` if it is called ``latent`` or ``latent-guided``."""
    fitting = [run for run in runs if name == run or name.startswith(f"{run}-")]
    if not fitting:
        raise ConfigError(f"evaluations.{name}: its name must be a run's name, or begin with a run's name and a dash")
    given, usual = parse(EvaluateStage, list(flags)), EvaluateStage()
    if common := [each for each in SAME_FOR_ALL if getattr(given, each) != getattr(usual, each)]:
        raise ConfigError(
            f"evaluations.{name} sets {common[0]}, which is the same for all models of a recipe: leave it out there"
        )
    if given.guide is not None and given.guide not in runs:
        raise ConfigError(f"evaluations.{name}: --guide {given.guide} is not a run of the recipe")
    by_class = given.guidance_scale != 1.0 and given.guide is None
    return PlannedEvaluation(name, max(fitting, key=len), tuple(_with_guide_apart(flags)), given.guide, by_class)


def _with_guide_apart(flags: Sequence[str]) -> Iterator[str]:
    """The flags with ``--guide=NAME`` as two words."""
    for flag in flags:
        yield from flag.split("=", 1) if flag.startswith("--guide=") else [flag]
