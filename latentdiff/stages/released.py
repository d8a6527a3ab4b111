"""The released models of a data set, measured where nothing else has been yet."""

from __future__ import annotations

from pathlib import Path

from latentdiff.config import DataConfig
from latentdiff.stages import folders
from latentdiff.stages.kept import measured, settings

MODELS = ("vae_baseline", "pixel", "latent", "autoencoder")


def evaluate_released(data: DataConfig, num_images: int | None = None) -> list[Path]:
    """Evaluate noise and the released models of ``data.name``; the folders that hold the evaluations.

    What an interrupted call has measured is kept and not measured again. ``num_images`` as in
    :func:`~latentdiff.stages.kept.settings`. Raises :class:`~latentdiff.report.ReportError` where no model of that
    data set is released.
    """
    from latentdiff import shelf
    from latentdiff.report import ReportError

    found = {name: shelf.find(f"{data.name}/{name}.safetensors") for name in MODELS}
    rows: dict[str, list[str]] = {"noise": ["--checkpoint", "noise"]}
    rows |= {name: ["--checkpoint", _shown(path)] for name, path in found.items() if path}
    if len(rows) == 1:
        raise ReportError(
            f"there is nothing to compare: no evaluation under {folders.WORKBENCH / 'evaluate'}, and no released model "
            f"of {data.name}. Run python -m latentdiff.stages.evaluate on each of your models first"
        )
    if "vae_baseline" in rows:
        rows["vae_baseline"] += ["--mode", "prior"]
    shared = settings(data, num_images)
    print(f"measuring noise and the released models of {data.name}, {shared[1]} images each", flush=True)
    root = folders.default_folder("released", data.name)
    return [measured([*flags, *shared], root / name, found.get(name)) for name, flags in rows.items()]


def _shown(path: Path) -> str:
    """The path as a person in this folder would write it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
