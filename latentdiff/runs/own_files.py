"""The files that a run writes, by name, and their removal: nothing else in a folder is ever touched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from latentdiff.errors import FolderError
from latentdiff.files import remove_leftovers
from latentdiff.folder_mark import MARKER, read_mark, write_mark

# A cache of latents, or of features of real images: a name, a split, and a hash.
_CACHE = r"[^/]+-[0-9a-f]{16}\.safetensors"
# A run of W&B: its time and its name.
_WANDB_RUN = r"(offline-)?run-\d{8}_\d{6}-\w+"
_TRAINING = (
    r"last\.ckpt",
    r"previous\.ckpt",
    r"(model|best|last)\.safetensors",
    r"metrics\.csv",
    r"data\.json",
    r"hparams\.yaml",
    r"events\.out\.tfevents\.\d+\.[^/]+",
    r"samples/\d{9}\.png",
    r"ema/\d{12}\.safetensors",
    r"ema(-0\.\d+\.safetensors|\.json)",
    r"trackers\.json",
    # Of W&B: a folder a run, and links to the latest one.
    rf"wandb/{_WANDB_RUN}/run-\w+\.wandb(\.synced)?",
    rf"wandb/{_WANDB_RUN}/files/(requirements\.txt|config\.yaml|output\.log|wandb-(metadata|summary)\.json)",
    rf"wandb/{_WANDB_RUN}/files/media/images/samples_\d+_[0-9a-f]+\.png",
    rf"wandb/{_WANDB_RUN}/logs/debug(-core|-internal)?\.log",
    r"wandb/(latest-run|debug\.log|debug-internal\.log)",
    # Of MLflow: a database, and copies of what the run gave it.
    r"mlflow/mlflow\.db(-journal|-wal|-shm)?",
    r"mlflow/artifacts/[0-9a-f]{32}/artifacts/(samples/\d{9}\.png|(model|best)\.safetensors|metrics\.csv|config\.yaml)",
    # Half-written ones, some of them of earlier versions.
    r"\.(last|previous)\.ckpt",
    r"\.metrics\.csv",
    r"\.model\.safetensors-[a-z0-9_]{8}",
)
# By stage, the names that its run may write, as regular expressions of paths within the run's folder. Names that depend
# on what is shown, such as those of a report's pictures, are in the folder's mark. Every run writes config.yaml too.
OWN_FILES: dict[str, tuple[str, ...]] = {
    "autoencoder": _TRAINING,
    "diffusion": _TRAINING,
    "classifier": (r"model\.safetensors",),
    "sample": (
        r"grid\.png",
        r"images/\d{6,}\.png",
        r"sampling\.json",
        r"samples\.npz",
        r"strip\.png",
        r"(denoising|noise|reconstruct|interpolate|inpaint)\.gif",
        r"likelihood\.json",
    ),
    "evaluate": (r"evaluation\.json", r"grid\.png"),
    "compare": (r"index\.html", r"report\.(md|json)", r"results\.md"),
    "analyse": (r"index\.html", r"analysis\.json"),
    "samplers": (r"samplers\.(json|md|png|svg)",),
    "export": (
        r"(network|encoder|decoder)\.onnx",
        r"(model|page)\.json",
        r"README\.md",
        r"sample\.py",
        r"(index\.html|style\.css|icon\.svg)",
        r"js/[a-z_]+\.js",
        r"models/[^/]+-(network|encoder|decoder)\.onnx(\.gz)?",
        r"models/[^/]+\.(safetensors|md)",
        r"app\.py|requirements\.txt|latentdiff\.zip",
        r"model\.safetensors|config\.json|settings\.yaml|samples\.png",
        r"onnxruntime/(ort(-webgpu)?\.js|ort(-webgpu)?\.wasm\.gz|LICENSE\.txt)",
        r"model_index\.json|pipeline\.py",
        r"model/(model\.safetensors|config\.json|latentdiff_model\.py)",
        r"scheduler/scheduler_config\.json",
        r"(unet|vqvae)/(config\.json|diffusion_pytorch_model[-\w]*\.safetensors(\.index\.json)?)",
    ),
    "demo": (rf"(latents|features)/{_CACHE}",),
    "benchmark": (r"benchmark\.(json|md|png|svg)",),
    "verify": (r"(verify|metrics)\.json",),
}
# Folders within a run's folder that hold some of them.
FOLDERS = {
    "autoencoder": ("samples", "ema"),
    "diffusion": ("samples", "ema"),
    "sample": ("images",),
    "export": ("js", "models", "onnxruntime", "model", "scheduler", "unet", "vqvae"),
    "demo": ("latents", "features", "evaluate"),
}
# Folders within a run's folder that hold some of them at any depth: those of trackers.
TREES = {"autoencoder": ("wandb", "mlflow"), "diffusion": ("wandb", "mlflow")}
# Runs within a run's folder: their paths, and the stages that make them.
RUNS_INSIDE = {
    "demo": {
        r"autoencoder|vae_baseline": "autoencoder",
        r"latent|pixel": "diffusion",
        r"report": "compare",
        r"evaluate/[^/]+": "evaluate",
    }
}
# What of an unfinished run is worth more than the command that made it. Of a run that is overwritten it goes first, so
# that a half-removed run is never resumed.
WORTH_KEEPING = ("last.ckpt", "model.safetensors", "best.safetensors", "samplers.json", "sampling.json")


def own_files(folder: Path, stage: str) -> list[Path]:
    """The files in ``folder`` that belong to the run there, in the order in which they are to be removed.

    Links to folders are not followed. The mark, and the runs inside, are not among them.

    Args:
        folder: A folder with a mark.
        stage: The stage whose file names count if the mark, from an older version, does not name one.
    """
    mark = read_mark(folder)
    stage, recorded = (mark.stage or stage, mark.files) if mark else (stage, ())
    is_own = re.compile("|".join(f"(?:{pattern})" for pattern in (*OWN_FILES.get(stage, ()), r"config\.yaml")))
    found = [name for name in _names(folder, stage) if is_own.fullmatch(name) or name in recorded]
    last = len(WORTH_KEEPING)
    # The settings go last: without them a checkpoint would be resumed with others.
    order = {name: place for place, name in enumerate(WORTH_KEEPING)} | {"config.yaml": last + 1}
    return [folder / name for name in sorted(found, key=lambda name: (order.get(name, last), name))]


def files_in_the_way(folder: Path, stage: str) -> list[Path]:
    """The files in ``folder`` that do not belong to its run, but have names that a new run of ``stage`` writes."""
    own = set(own_files(folder, stage))
    patterns = [re.compile(pattern) for pattern in OWN_FILES.get(stage, ())]
    return [
        folder / name
        for name in sorted(_names(folder, stage))
        if folder / name not in own and any(pattern.fullmatch(name) for pattern in patterns)
    ]


def remove_run(folder: Path, stage: str) -> None:
    """Remove the files of the run in ``folder``, and those of the runs inside that have a mark of their own.

    The folder itself and its mark stay, so that a kill in between leaves a folder that can be overwritten again.

    Args:
        folder: A folder with a mark.
        stage: As for :func:`own_files`.
    """
    mark = read_mark(folder)
    of = (mark and mark.stage) or stage
    for inside, its_stage in _runs_inside(folder, of):
        inner = read_mark(inside)
        remove_run(inside, its_stage)
        if inner and os.listdir(inside) != [MARKER]:
            # Another's file keeps the folder. With its mark a new run may begin there.
            write_mark(inside, replace(inner, finished=False))
            continue
        (inside / MARKER).unlink(missing_ok=True)
        _remove_if_empty(inside)
    for path in own_files(folder, stage):
        path.unlink(missing_ok=True)
    for name in FOLDERS.get(of, ()):
        if not (folder / name).is_symlink() and (folder / name).is_dir():
            remove_leftovers(folder / name)
            _remove_if_empty(folder / name)
    for name in TREES.get(of, ()):
        if not (folder / name).is_symlink():
            for path, _, _ in os.walk(folder / name, topdown=False):
                _remove_if_empty(Path(path))
    remove_leftovers(folder)


def check_no_link(folder: Path, stage: str) -> None:
    """Raise FolderError where a run of ``stage`` would write through a link out of its folder."""
    for name in (*FOLDERS.get(stage, ()), *TREES.get(stage, ())):
        if (folder / name).is_symlink():
            raise FolderError(
                f"{folder / name} is a link, and nothing is written outside of {folder}: remove the link, or link "
                "the whole folder instead"
            )


def _names(folder: Path, stage: str) -> Iterator[str]:
    """The paths of files, and of links, in ``folder`` and in the stage's folders in it, relative to it."""
    for entry in os.scandir(folder):
        if not entry.is_dir(follow_symlinks=False):
            yield entry.name
        elif entry.name in FOLDERS.get(stage, ()):
            for path in os.scandir(entry.path):
                if not path.is_dir(follow_symlinks=False):
                    yield f"{entry.name}/{path.name}"
        elif entry.name in TREES.get(stage, ()):
            for path, folders, files in os.walk(entry.path):
                links = [name for name in folders if os.path.islink(os.path.join(path, name))]
                yield from (Path(path, name).relative_to(folder).as_posix() for name in (*files, *links))


def _runs_inside(folder: Path, stage: str) -> Iterator[tuple[Path, str]]:
    for pattern, its_stage in RUNS_INSIDE.get(stage, {}).items():
        for path in sorted(folder.glob("evaluate/*" if "/" in pattern else "*")):
            is_link = path.is_symlink() or path.parent.is_symlink()
            if re.fullmatch(pattern, path.relative_to(folder).as_posix()) and not is_link and read_mark(path):
                yield path, its_stage


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
