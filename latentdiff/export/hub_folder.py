"""A model as a folder that is a repository of the Hugging Face Hub: weights, config, card and samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from latentdiff import __version__, checkpoint
from latentdiff.checkpoint import TrainedModel
from latentdiff.config import SamplingConfig
from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import ConfigError
from latentdiff.export.hub_card import metadata
from latentdiff.export.hub_upload import check_repository, upload
from latentdiff.export.stored_dtype import check_precision, stored_dtype
from latentdiff.extras import import_extra
from latentdiff.files import file_sha256, write_atomically
from latentdiff.hub import CONFIG, EXTRA, MODEL, PREFIX
from latentdiff.inference.model import DiffusionModel, load
from latentdiff.inference.model_file import find_model
from latentdiff.inference.request import SamplingRequest
from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.image_grid import image_grid
from latentdiff.runs import run_folder
from latentdiff.runs.model_card import STORED_IN_HALF, card

SAMPLES = "samples.png"
# As many as show what a model does; ten classes come twice.
NUM_SAMPLES, COLUMNS = 20, 10


def export_hub(config: ExportStage) -> Path:
    """Write the folder that ``config`` asks for, upload it where a repository is named, and return the folder.

    Without ``config.run.folder`` it is the first of ``stages/export/NAME-hub``, ``NAME-hub-2``, ... that is free.

    Raises :class:`~latentdiff.errors.LatentdiffError` before anything is written: without the extra ``hub``, for an
    evaluation of another file, for an invalid repository name, and for a repository that holds something else. It is
    also raised if the upload fails; the folder is then already written.
    """
    check_precision(config)
    hub = import_extra("huggingface_hub", EXTRA)
    path = find_model(config.model)
    model = load(path, engine="torch")
    if isinstance(model, DiffusionModel):
        model.check(SamplingRequest(num_images=1))
    evaluations = _evaluations(config, path)
    if config.repo:
        check_repository(config.repo, config.revision, config.run.overwrite)
    name = run_folder.folder_name(path)
    run = run_folder.numbered(config.run, "export", f"{name}-hub")
    run_folder.check(run, "export", f"{name}-hub")
    dtype = stored_dtype(model, config.precision)
    with run_folder.opened(run, "export", f"{name}-hub", inputs=[path, *config.evaluation]) as folder:
        model.save(folder / MODEL, dtype=dtype)
        texts = {
            CONFIG: json.dumps(_config(model, folder / MODEL), indent=2) + "\n",
            "settings.yaml": yaml.safe_dump(model.settings or {}, sort_keys=False),
            "README.md": metadata(hub, model, name, config.license, evaluations)
            + _card(model, folder / MODEL, name, config.repo, dtype, evaluations),
        }
        if isinstance(model, DiffusionModel):
            grid = image_grid(_samples(model), COLUMNS)
            write_atomically(folder / SAMPLES, grid.save)
        for file, text in texts.items():
            write_atomically(folder / file, lambda target, text=text: target.write_text(text))
    print(folder)
    if config.repo:
        upload(folder, [MODEL, *texts, *([SAMPLES] if isinstance(model, DiffusionModel) else [])], config)
    return folder


def _evaluations(config: ExportStage, path: Path) -> list[dict[str, Any]]:
    found = [read_evaluation(folder).values for folder in config.evaluation]
    for folder, values in zip(config.evaluation, found, strict=True):
        if (values.get("model") or {}).get("sha256") != file_sha256(path):
            raise ConfigError(f"{folder} measured another file than {path}: evaluate that file")
    return found


def _config(model: TrainedModel, file: Path) -> dict[str, Any]:
    """The settings that build the model, for readers of the repository. Loading uses only the header of the model
    file."""
    header = checkpoint.read_header(file)
    parts = {
        key: header[key] for key in ("image_shape", "codec", "network", "diffusion", "class_names") if key in header
    }
    return {
        "library_name": "latentdiff",
        "library_version": __version__,
        "model_type": type(model).__name__,
        **parts,
        "sha256": {file.name: file_sha256(file)},
    }


def _card(
    model: TrainedModel,
    file: Path,
    name: str,
    repo: str | None,
    dtype: torch.dtype | None,
    evaluations: list[dict[str, Any]],
) -> str:
    header, tensors = checkpoint.read(file)
    return card(
        file,
        header,
        sum(tensor.numel() for tensor in tensors.values()),
        evaluations,
        samples=SAMPLES if isinstance(model, DiffusionModel) else None,
        title=repo.partition("/")[2] if repo else name,
        place=f"{PREFIX}{repo}" if repo else file.name,
        stored="fp32" if dtype is None else STORED_IN_HALF,
    )


def _samples(model: DiffusionModel) -> torch.Tensor:
    usual = SamplingConfig()
    return model.sample(NUM_SAMPLES, steps=usual.steps, sampler=usual.sampler, seed=0)
