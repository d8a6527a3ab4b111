"""A diffusion model as a folder of ONNX files, with everything that sampling needs."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from string import Template
from typing import Any

import torch

from latentdiff import __version__
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import to_dict
from latentdiff.config.model_stages import ExportStage
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.digest import json_with_digest
from latentdiff.errors import ConfigError
from latentdiff.export.half_weights import with_half_weights
from latentdiff.files import file_sha256, write_atomically
from latentdiff.inference.engines.graphs import GraphName, Graphs
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.model_file import find_model
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.onnx_graph import OPSET
from latentdiff.runs import run_folder
from latentdiff.text.vocabulary import Vocabulary

FORMAT = 1
HERE = Path(__file__).resolve().parent
# By the precision that is asked for.
ARITHMETIC = {
    "fp32": "They compute in fp32.",
    "bf16": "They compute in fp32. Weights are stored as bf16.",
    "fp16": "They compute in fp32. Weights are stored as fp16.",
    "int8": "The network computes in 8 bits, which changes its images a little. Encoder and decoder compute in fp32.",
}
# What draws the same images in latentdiff.
SAME_AS = {
    "fp32": "",
    "bf16": " with weights in bf16",
    "fp16": " with weights in fp16",
    "int8": " with `--engine onnxruntime --precision int8`",
}
# torch draws fewer numbers than these in another way, which neither sample.py nor the page follows.
LEAST_NUMBERS = 16


def export_onnx(config: ExportStage) -> Path:
    """Write the folder that ``config`` asks for, and return it.

    Without ``config.run.folder`` it is the first of ``stages/export/NAME``, ``NAME-2``, ... that is free.

    Raises :class:`~latentdiff.errors.LatentdiffError` before anything is written: without the extra ``onnx``, for a
    file that holds no diffusion model, for steps that its schedule has not, for weights beyond the range of fp16 if
    that is asked for, and for a folder of another's.
    """
    path = find_model(config.model)
    model = load_diffusion(path)
    model.check(SamplingRequest(num_images=1))
    levels = {str(steps): level_rows(model.schedule.sampling_levels(steps)) for steps in config.steps}
    check_noise(model, path)
    words_of(model, path)
    name = run_folder.folder_name(path)
    run = run_folder.numbered(config.run, "export", name)
    run_folder.check(run, "export", name)
    files = onnx_files(model, config.precision == "int8")
    if half := {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision):
        files = {file: with_half_weights(content, half) for file, content in files.items()}
    record = {"format": FORMAT, **model_record(model, path, config), "levels": levels}
    record["files"] = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    files["sample.py"] = (HERE / "sample.py").read_bytes()
    files["README.md"] = _readme(record, files).encode()
    files["model.json"] = json_with_digest(record)
    with run_folder.opened(run, "export", name, inputs=[path]) as folder:
        for file, content in files.items():
            write_atomically(folder / file, lambda path, content=content: path.write_bytes(content))
    print(folder)
    return folder


def onnx_files(model: DiffusionModel, int8: bool = False) -> dict[str, bytes]:
    """The graphs of a model by their files' names: the network, and for latents the encoder and the decoder.

    Args:
        model: The model.
        int8: Whether the network is in 8 bits.
    """
    codec = model.codec.model if isinstance(model.codec, AutoencoderCodec) else None
    graphs = Graphs(model.network, codec, model.codec.latent_shape, model.calibration)
    names: dict[str, GraphName] = {"network.onnx": "network-int8" if int8 else "network"}
    if codec:
        names |= {"encoder.onnx": "encoder", "decoder.onnx": "decoder"}
    return {file: graphs.get(name) for file, name in names.items()}


def check_noise(model: DiffusionModel, path: Path) -> None:
    """Raise ConfigError for a model whose noise only torch can draw."""
    if math.prod(model.codec.latent_shape) < LEAST_NUMBERS:
        raise ConfigError(f"{path} has latents of fewer than {LEAST_NUMBERS} numbers, whose noise only torch can draw")


def level_rows(levels: NoiseLevels) -> list[list[float]]:
    """Noise levels as rows of time, alpha and sigma."""
    return [list(row) for row in zip(levels.time.tolist(), levels.alpha.tolist(), levels.sigma.tolist(), strict=True)]


def model_record(model: DiffusionModel, path: Path, config: ExportStage) -> dict[str, Any]:
    """The description of the model in a folder, without the files and the noise levels."""
    codec = model.codec if isinstance(model.codec, AutoencoderCodec) else None
    usual = SamplingRequest(num_images=1)
    return {
        "latentdiff": __version__,
        "opset": OPSET,
        "precision": config.precision,
        "model": {"name": run_folder.folder_name(path), "sha256": file_sha256(path)},
        "image_shape": list(model.codec.image_shape),
        "latent_shape": list(model.codec.latent_shape),
        "latent_mean": codec.mean.tolist() if codec else None,
        "latent_std": codec.std.tolist() if codec else None,
        "class_names": list(model.class_names),
        "null_label": model.network.null_label,
        **words_of(model, path),
        # What an imported scheduler says: whether clean images are kept within [-1, 1], and noise begins at 1.
        "clips": model.codec.value_range is not None,
        "unit_noise": bool(model.sampling.get("unit_noise")),
        "can_guide": model.conditional and model.diffusion.class_dropout > 0,
        "target": model.diffusion.target,
        "sigma_data": model.diffusion.sigma_data,
        "schedule": to_dict(model.diffusion),
        "defaults": {
            "sampler": usual.sampler,
            "steps": config.steps[0],
            "guidance_scale": usual.guidance_scale,
            "seed": usual.seed,
            "batch_size": usual.batch_size,
        },
        "provenance": {key: value for key, value in model.provenance.items() if key not in ("history", "config")},
    }


def words_of(model: DiffusionModel, path: Path) -> dict[str, Any]:
    """The vocabulary of a model that reads captions, and captions of its training; nothing of other models.

    Raises :class:`~latentdiff.errors.ConfigError` for one that reads with an encoder of transformers.
    """
    tokenizer = model.network.tokenizer
    if tokenizer is None:
        return {}
    if not isinstance(tokenizer, Vocabulary):
        raise ConfigError(
            f"{path} reads captions with {tokenizer.describe()}, which has no ONNX graph: it cannot be exported"
        )
    return {"text": tokenizer.header(), "captions": list(model.captions)}


def _labels_words(record: dict[str, Any]) -> str:
    if text := record.get("text"):
        return f", `labels` [n, {text['context']}], tokens,"
    return ", `labels` [n]" if record["null_label"] else ""


def _readme(record: dict[str, Any], files: dict[str, bytes]) -> str:
    """README.md: what is in the folder, and how it is used."""
    sizes = {name: f"{len(content) / 1e6:.1f} MB" for name, content in files.items()}
    rows = [
        (
            "network.onnx",
            "`x` [n, c, h, w], `time` [n]" + _labels_words(record) + " to `output`",
        )
    ]
    if "decoder.onnx" in files:
        rows += [
            ("encoder.onnx", "`images` in [-1, 1] to `moments`: mean, then log-variance, of raw latents"),
            ("decoder.onnx", "raw `latents` to `images` in [-1, 1]"),
        ]
    names = record["class_names"]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return Template((HERE / "README.template.md").read_text()).substitute(
        name=record["model"]["name"],
        sha256=record["model"]["sha256"][:12],
        version=record["latentdiff"],
        image="x".join(map(str, record["image_shape"])),
        latent="x".join(map(str, record["latent_shape"])),
        classes=shown or ("none: it reads words (`--prompt`)" if record.get("text") else "none"),
        opset=record["opset"],
        engine=SAME_AS[record["precision"]],
        arithmetic=ARITHMETIC[record["precision"]],
        files="\n".join(f"| `{name}` ({sizes[name]}) | {what} |" for name, what in rows),
        steps=", ".join(record["levels"]),
        target=record["target"],
    )
