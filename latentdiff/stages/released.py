"""The released models of a data set, measured where nothing else has been yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentdiff.config import DataConfig, plain
from latentdiff.stages import cli, evaluate, folders

# Images of each model: what two CPU cores measure within ten minutes with Inception, and quickly without it.
ON_GPU, WITH_INCEPTION, WITHOUT = 10_000, 1_000, 2_000
MODELS = ("vae_baseline", "pixel", "latent", "autoencoder")


def evaluate_released(data: DataConfig, num_images: int | None = None) -> list[Path]:
    """Evaluate noise and the released models of ``data.name``; the folders that hold the evaluations.

    What an interrupted call has measured is kept and not measured again.

    Args:
        data: The real images.
        num_images: Of each model. Default: 10,000 on a GPU, else 1,000 against as many real ones where there is
            Inception, and 2,000 where there is only the classifier; never more than the test split has.

    Raises :class:`~latentdiff.report.ReportError` where no model of that data set is released.
    """
    from latentdiff import shelf
    from latentdiff.data import load_data
    from latentdiff.evaluation.feature_nets import find_inception
    from latentdiff.precision import resolve_device
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
    inception, gpu = find_inception() is not None, resolve_device("auto").type == "cuda"
    count = num_images or (ON_GPU if gpu else WITH_INCEPTION if inception else WITHOUT)
    count = min(count, len(load_data(data, "test")))
    settings = ["--num_images", str(count), *_data_flags(data)]
    if inception and not gpu:
        settings += ["--real_images", str(count)]
    print(f"measuring noise and the released models of {data.name}, {count:,} images each", flush=True)
    return [_evaluated(name, [*flags, *settings], data.name, found.get(name)) for name, flags in rows.items()]


def _evaluated(name: str, flags: list[str], data_name: str, model: Path | None) -> Path:
    from latentdiff.checkpoint import file_sha256

    folder = folders.default_folder("released", data_name) / name
    arguments = [*flags, "--run.folder", str(folder), "--run.overwrite", "true"]
    before = _read(folder / "evaluation.json")
    same = before.get("command") == cli.command(evaluate.__name__, arguments)
    if not same or (model and before["model"]["sha256"] != file_sha256(model)):
        print(f"\n$ {cli.command(evaluate.__name__, arguments)}", flush=True)
        evaluate.main(arguments)
    return folder


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _shown(path: Path) -> str:
    """The path as a person in this folder would write it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _data_flags(data: DataConfig) -> list[str]:
    usual = plain(DataConfig())
    changed = {key: value for key, value in plain(data).items() if value != usual[key]}
    return [
        part
        for key, value in changed.items()
        for part in (f"--data.{key}", value if isinstance(value, str) else json.dumps(value))
    ]
