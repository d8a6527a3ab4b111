"""Diffusion models as a folder that a browser samples from: a page, the networks, and onnxruntime-web."""

from __future__ import annotations

import gzip
import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import torch

from latentdiff import __version__
from latentdiff.config.model_stages import ExportStage
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.digest import json_with_digest
from latentdiff.errors import ConfigError
from latentdiff.export.half_weights import rounded_to_half
from latentdiff.export.onnx_folder import SAME_AS, check_noise, level_rows, model_record, onnx_files
from latentdiff.export.onnxruntime_web import VERSION, runtime_files
from latentdiff.export.serve import serve
from latentdiff.export.stored_dtype import check_precision
from latentdiff.files import write_atomically
from latentdiff.inference.inversion import flow_levels
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.model_file import find_model
from latentdiff.inference.noising import level_at
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.onnx_graph import OPSET
from latentdiff.runs import run_folder
from latentdiff.runs.run_folder import free_name

HERE = Path(__file__).resolve().parent
FORMAT = 1
# Numbers of steps that the page offers; a schedule of fewer steps has fewer.
MOST_STEPS = 50
# Strengths of noise that the page offers, from 0 to 1.
STRENGTHS = 100
# Heun steps each way of an interpolation. Python's default is 100; a browser is slower.
FLOW_STEPS = 20
# Those that js/samplers.js has.
SAMPLERS = ("dpmpp_2m", "unipc", "heun", "ddim", "ddpm", "dpmpp_2m_sde", "euler_ancestral")


@dataclass(frozen=True)
class _Graph:
    """A network of the page: its file's name, its ONNX graph, and that as the file has it.

    Compressed, weights that bf16 holds take less than half of their bytes, and few servers compress them. They are not
    stored as bf16, since the runtime's build with WebGPU cannot cast it.
    """

    file: str
    content: bytes
    packed: bytes


@dataclass(frozen=True)
class _Loaded:
    """A model, its file, and its name within the page's folder."""

    model: DiffusionModel
    path: Path
    name: str


def export_web(config: ExportStage) -> Path:
    """Write the folder that ``config`` asks for, and return it. With ``config.serve`` show it until Ctrl-C.

    Without ``config.run.folder`` it is the first of ``stages/export/NAME-web``, ``NAME-web-2``, ... that is free.

    Raises :class:`~latentdiff.errors.LatentdiffError` before anything is written: without the extra ``onnx`` or the
    files of onnxruntime-web, for a file that holds no diffusion model, and for a folder of another's.
    """
    models = _load(config)
    name = f"{models[0].name}-web"
    run = run_folder.numbered(config.run, "export", name)
    run_folder.check(run, "export", name)
    files = runtime_files(config.onnxruntime_web)
    records = []
    for each in models:
        graphs = _graphs(each, config.precision)
        files |= {graph.file: graph.packed for graph in graphs.values()}
        records.append(_record(each, config, graphs))
    files |= _page_files()
    files["page.json"] = json_with_digest(_page(records), separators=(",", ":"))
    files["README.md"] = _readme(records, files, config.precision).encode()
    with run_folder.opened(run, "export", name, inputs=[each.path for each in models]) as folder:
        for file, content in files.items():
            write_atomically(folder / file, lambda path, content=content: path.write_bytes(content))
    print(f"{folder}: {sum(map(len, files.values())) / 1e6:.1f} MB")
    if not config.beside:
        command = shlex.join(["latentdiff", "export", str(config.model), _second_model(models[0].path), "--to", "web"])
        print(f"to compare it with a second model on the same page: {command}")
    if config.serve:
        serve(folder, config.port)
    return folder


def _load(config: ExportStage) -> list[_Loaded]:
    """The models, checked, each with a name of its own."""
    check_precision(config)
    loaded: list[_Loaded] = []
    for given in (config.model, *config.beside):
        path = find_model(given)
        model = load_diffusion(path)
        model.check(SamplingRequest(num_images=1))
        check_noise(model, path)
        channels = model.codec.image_shape[0]
        if channels not in (1, 3):
            raise ConfigError(f"{path} has images of {channels} channels, but a page shows only grey and RGB images")
        if config.steps[0] > (most := _most_steps(model)):
            raise ConfigError(f"the page offers 1 to {most} steps, so {config.steps[0]} cannot be its default")
        name = free_name(run_folder.folder_name(path), {other.name for other in loaded})
        loaded.append(_Loaded(model, path, name))
    return loaded


def _second_model(path: Path) -> str:
    """The released model to compare a model with, from the same folder; else a placeholder."""
    named = (path.with_name(f"{name}.safetensors") for name in ("pixel", "latent"))
    return next((str(each) for each in named if each != path and each.is_file()), "OTHER.safetensors")


def _graphs(loaded: _Loaded, precision: str) -> dict[str, _Graph]:
    """The graphs by what they are: network, encoder and decoder."""
    graphs = onnx_files(loaded.model)
    if precision == "bf16":
        graphs = {name: rounded_to_half(graph) for name, graph in graphs.items()}
    return {
        name.removesuffix(".onnx"): _Graph(f"models/{loaded.name}-{name}.gz", graph, gzip.compress(graph, 6, mtime=0))
        for name, graph in graphs.items()
    }


def _record(loaded: _Loaded, config: ExportStage, graphs: dict[str, _Graph]) -> dict[str, Any]:
    """What page.json says of a model."""
    model = loaded.model
    record = model_record(model, loaded.path, config)
    strengths = [level_at(model, number / STRENGTHS) for number in range(STRENGTHS + 1)]
    return record | {
        "name": loaded.name,
        "data": (model.provenance.get("data") or {}).get("name"),
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "levels": [level_rows(model.schedule.sampling_levels(count)) for count in range(1, _most_steps(model) + 1)],
        "strengths": level_rows(_joined(strengths)),
        "flow": level_rows(flow_levels(model, FLOW_STEPS)),
        "samplers": _samplers(model),
        "graphs": {
            name: {
                "file": graph.file,
                "bytes": len(graph.packed),
                # Of the graph itself: some servers send .gz files unpacked.
                "size": len(graph.content),
                "sha256": hashlib.sha256(graph.content).hexdigest(),
            }
            for name, graph in graphs.items()
        },
    }


def _most_steps(model: DiffusionModel) -> int:
    return min(MOST_STEPS, model.schedule.num_train_steps or MOST_STEPS)


def _joined(levels: list[NoiseLevels]) -> NoiseLevels:
    time, alpha, sigma = (torch.cat([getattr(level, name) for level in levels]) for name in ("time", "alpha", "sigma"))
    return NoiseLevels(time, alpha, sigma)


def _page(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {"format": FORMAT, "latentdiff": __version__, "onnxruntime_web": VERSION, "models": records}


def _page_files() -> dict[str, bytes]:
    """The page itself: all files of the package's folder ``web``."""
    root = HERE / "web"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix in (".html", ".css", ".js", ".svg")
    }


def _samplers(model: DiffusionModel) -> list[str]:
    """The samplers of js/samplers.js that draw with the model what Python draws."""
    # The page's ddpm has the small variance, and knows no learned one.
    is_usual = not model.diffusion.learn_variance and model.sampling.get("variance", "small") == "small"
    return [name for name in SAMPLERS if name != "ddpm" or is_usual]


def _readme(records: list[dict[str, Any]], files: dict[str, bytes], precision: str) -> str:
    """README.md: what is in the folder, and how it is shown."""

    def megabytes(folder: str) -> str:
        return f"{sum(len(content) for name, content in files.items() if name.startswith(folder)) / 1e6:.1f}"

    def shape(numbers: list[int]) -> str:
        return "x".join(map(str, numbers))

    rows = [
        f"| {each['name']} | {shape(each['image_shape'])} | "
        f"{'pixels' if each['latent_mean'] is None else shape(each['latent_shape']) + ' latents'} | "
        f"{len(each['class_names']) or each['null_label'] or 'none'} |"
        for each in records
    ]
    return Template((HERE / "web.README.template.md").read_text()).substitute(
        title=" and ".join(each["name"] for each in records),
        version=__version__,
        weights=SAME_AS[precision],
        models="\n".join(rows),
        networks=megabytes("models/"),
        opset=OPSET,
        runtime=megabytes("onnxruntime/"),
        runtime_version=VERSION,
    )
