"""Training runs and evaluations that a larger command needs: made once, kept, and not made again."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from latentdiff.config import DataConfig, plain
from latentdiff.stages import cli, evaluate

# Images of each model: what two CPU cores measure within ten minutes with Inception, and quickly without it.
ON_GPU, WITH_INCEPTION, WITHOUT = 10_000, 1_000, 2_000


RESUME = ["--run.resume", "true"]


def trained(stage: str, flags: list[str], folder: Path) -> Path:
    """``folder``'s model file, trained by ``stage`` with ``flags``: the one that is there, or made or resumed now.

    Raises :class:`subprocess.CalledProcessError` where the run ended with an error, which it has printed: also where
    the folder holds a run of other settings.
    """
    command = ["-m", f"latentdiff.stages.{stage}", *flags, "--run.folder", str(folder)]
    model = folder / "model.safetensors"
    # The file is written at a run's end. Of other settings it is left to the stage, which says what differs.
    if model.is_file() and _made_by(model) == ["python", *command]:
        return model
    if folder.is_dir() and any(folder.iterdir()):
        command += RESUME
    print(f"\n$ python {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], check=True)
    return model


def _made_by(model: Path) -> list[str]:
    """The command that made a model, whether or not it had to be resumed."""
    from latentdiff import checkpoint

    words = shlex.split(checkpoint.read_header(model)["provenance"]["command"])
    return words[: -len(RESUME)] if words[-len(RESUME) :] == RESUME else words


def settings(data: DataConfig, num_images: int | None = None) -> list[str]:
    """Flags of the evaluate stage for the images of ``data``.

    ``num_images`` of each model; by default 10,000 on a GPU, else 1,000 against as many real ones where there is
    Inception, and 2,000 where there is only the classifier; never more than the test split has.
    """
    from latentdiff.data import load_data
    from latentdiff.evaluation.feature_nets import find_inception
    from latentdiff.precision import resolve_device

    inception, gpu = find_inception() is not None, resolve_device("auto").type == "cuda"
    count = num_images or (ON_GPU if gpu else WITH_INCEPTION if inception else WITHOUT)
    count = min(count, len(load_data(data, "test")))
    real = ["--real_images", str(count)] if inception and not gpu else []
    return ["--num_images", str(count), *real, *data_flags(data)]


def measured(flags: list[str], folder: Path, model: Path | None) -> Path:
    """``folder``, with the evaluation of ``model`` that ``flags`` ask for: the one that is there, or a new one."""
    from latentdiff.checkpoint import file_sha256

    arguments = [*flags, "--run.folder", str(folder), "--run.overwrite", "true"]
    command = cli.command(evaluate.__name__, arguments)
    before = _read(folder / "evaluation.json")
    if before.get("command") != command or (model and before["model"]["sha256"] != file_sha256(model)):
        print(f"\n$ {command}", flush=True)
        evaluate.main(arguments)
    return folder


def data_flags(data: DataConfig) -> list[str]:
    """The flags that make ``data`` of the defaults."""
    usual = plain(DataConfig())
    changed = {key: value for key, value in plain(data).items() if value != usual[key]}
    return [
        part
        for key, value in changed.items()
        for part in (f"--data.{key}", value if isinstance(value, str) else json.dumps(value))
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
