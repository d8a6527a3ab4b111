"""The released models of a data set, measured where nothing else has been yet."""

from __future__ import annotations

from pathlib import Path

from latentdiff import resources as shelf
from latentdiff.comparison.cached_runs import EvaluationConditions, evaluate_once
from latentdiff.config import DataConfig
from latentdiff.config.run import WORKBENCH, default_folder
from latentdiff.errors import ReportError

RANDOM = ("noise", "gaussian")
MODELS = ("vae_baseline", "pixel", "latent", "autoencoder")


def evaluate_released(
    data: DataConfig, num_images: int | None = None, flags: tuple[str, ...] = (), root: Path | None = None
) -> list[Path]:
    """Evaluate noise and the released models of ``data.name``; the folders that hold the evaluations.

    What an interrupted call has measured is kept and not measured again.

    Args:
        data: The data set.
        num_images: As in :meth:`~latentdiff.comparison.cached_runs.EvaluationConditions.on_this_machine`.
        flags: More settings of the evaluations.
        root: Where they go; default: stages/released/<data set>.

    Raises :class:`~latentdiff.errors.ReportError` where no model of that data set is released.
    """
    found = {name: shelf.find_checkpoint(f"{data.name}/{name}.safetensors") for name in MODELS}
    if not any(found.values()):
        raise ReportError(
            f"there is nothing to compare: no evaluation under {WORKBENCH / 'evaluate'}, and no released model "
            f"of {data.name}. Run python -m latentdiff.stages.evaluate on each of your models first"
        )
    here = EvaluationConditions.on_this_machine(data, num_images)
    print(f"evaluating noise and the released models of {data.name}, {here.num_images:,} images each", flush=True)
    names = [*RANDOM, *(name for name, path in found.items() if path)]
    root = root or default_folder("released", data.name)
    return [_evaluate_one(name, found.get(name), root, here, flags) for name in names]


def evaluate_baselines(data: DataConfig, autoencoder: Path, root: Path, conditions: EvaluationConditions) -> list[Path]:
    """References for the figures of one's own models: noise, the released VAE baseline of the data set if there is one,
    and the reconstructions of the ``autoencoder`` of the latent models."""
    found = {"vae_baseline": shelf.find_checkpoint(f"{data.name}/vae_baseline.safetensors"), "autoencoder": autoencoder}
    names = [*RANDOM, *(name for name, path in found.items() if path)]
    return [_evaluate_one(name, found.get(name), root, conditions, ("--name", name)) for name in names]


def _evaluate_one(
    name: str, model: Path | None, root: Path, conditions: EvaluationConditions, flags: tuple[str, ...] = ()
) -> Path:
    mode = ["--mode", "prior"] if name == "vae_baseline" else []
    asked = ["--model", _as_typed(model) if model else name, *mode, *flags]
    return evaluate_once(asked, root / conditions.folder / name, model, conditions)


def _as_typed(path: Path) -> str:
    """The path as a person in this folder would write it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
