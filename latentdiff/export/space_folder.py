"""Diffusion models as a folder that is a Hugging Face Space: the app, what it needs, and the models."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from string import Template

from latentdiff import __version__
from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec
from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import ConfigError
from latentdiff.export.onnx_folder import words_of
from latentdiff.export.stored_dtype import check_precision, stored_dtype
from latentdiff.files import write_atomically
from latentdiff.inference.model import DiffusionModel, load, load_diffusion
from latentdiff.inference.model_file import find_model
from latentdiff.inference.request import SamplingRequest
from latentdiff.resources import PACKAGE
from latentdiff.runs import run_folder
from latentdiff.runs.run_folder import free_name

HERE = Path(__file__).resolve().parent
BASELINE = "vae_baseline.safetensors"
# What trains and measures, which the app does not do.
NOT_NEEDED = {"docstring-parser", "lightning", "lpips", "tensorboard", "torch-fidelity", "torchmetrics"}
# Without CUDA, which a free Space has not, torch is a tenth as large.
CPU_WHEELS = "--extra-index-url https://download.pytorch.org/whl/cpu"
# The images inside the package are the training images of one data set.
EMBEDDED, EMBEDDED_DATA = "data/embedded/", "fashion-mnist"
# Everything in an archive is as old: equal files give equal bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def export_space(config: ExportStage) -> Path:
    """Write the folder that ``config`` asks for, and return it.

    Without ``config.run.folder`` it is the first of ``stages/export/NAME-space``, ``NAME-space-2``, ... that is free.

    Raises :class:`~latentdiff.errors.LatentdiffError` before anything is written: without the extra ``app``, for a file
    that holds no diffusion model, and for a folder of another's.
    """
    check_precision(config)
    try:
        gradio = version("gradio")
    except PackageNotFoundError as error:
        raise ConfigError("gradio is not installed: pip install 'latentdiff[app]'") from error
    paths = [find_model(path) for path in (config.model, *config.beside)]
    models: dict[str, DiffusionModel | AutoencoderCodec] = {}
    for path in paths:
        models[free_name(run_folder.folder_name(path), models)] = model = load_diffusion(path)
        model.check(SamplingRequest(num_images=1))
        words_of(model, path)
    names = list(models)
    run = run_folder.numbered(config.run, "export", f"{names[0]}-space")
    run_folder.check(run, "export", f"{names[0]}-space")
    loaded = dict(models)
    cards = {f"models/{name}.md": path.with_suffix(".md") for name, path in zip(names, paths, strict=True)}
    for path in _baselines(paths):
        name = free_name(run_folder.folder_name(path), loaded)
        loaded[name] = load(path, engine="torch")
        cards[f"models/{name}.md"] = path.with_suffix(".md")
    with_images = any(_data_of(model) == EMBEDDED_DATA for model in models.values())
    files = {
        "app.py": (HERE / "space.app.txt").read_text(),
        "requirements.txt": _requirements(gradio),
        "README.md": _filled(
            "space.README.template.md", title=_title(models), gradio=gradio, models=_listed(names), version=__version__
        ),
    }
    archive = program_archive(with_images)
    with run_folder.opened(run, "export", f"{names[0]}-space", inputs=paths) as folder:
        for name, model in loaded.items():
            target = folder / "models" / f"{name}.safetensors"
            target.parent.mkdir(exist_ok=True)
            model.save(target, dtype=stored_dtype(model, config.precision))
        for name, text in files.items():
            write_atomically(folder / name, lambda path, text=text: path.write_text(text))
        for name, card in cards.items():
            if card.is_file():
                content = card.read_bytes()
                write_atomically(folder / name, lambda path, content=content: path.write_bytes(content))
        write_atomically(folder / "latentdiff.zip", lambda path: path.write_bytes(archive))
    print(folder)
    return folder


def program_archive(with_images: bool) -> bytes:
    """The package as a zip, which the Space unpacks when it starts. Equal packages give equal bytes.

    Args:
        with_images: Whether the images inside the package are among it, four megabytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(_package_files()):
            if name.startswith(EMBEDDED) and not with_images:
                continue
            entry = zipfile.ZipInfo(f"latentdiff/{name}", EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, (PACKAGE / name).read_bytes())
    return buffer.getvalue()


def _package_files() -> Iterator[str]:
    """The package's files by their paths in it, without released models, which a wheel has in it."""
    for path in PACKAGE.rglob("*"):
        name = path.relative_to(PACKAGE).as_posix()
        if path.is_file() and "__pycache__" not in name and not name.startswith("checkpoints/"):
            yield name


def _baselines(paths: list[Path]) -> list[Path]:
    """The VAE baselines beside the models, each once."""
    beside = dict.fromkeys(path.parent / BASELINE for path in paths)
    return [path for path in beside if path.is_file() and path not in paths]


def _data_of(model: TrainedModel) -> str | None:
    return ((model.settings or {}).get("data") or {}).get("name")


def _requirements(gradio: str) -> str:
    """What the app needs, as this installation of latentdiff says."""
    own = [each for each in requires("latentdiff") or [] if "extra ==" not in each]
    needed = sorted(each for each in own if _bare(each) not in NOT_NEEDED)
    return "\n".join([CPU_WHEELS, *needed, f"gradio=={gradio}", ""])


def _bare(requirement: str) -> str:
    """The name of a requirement without its versions."""
    return requirement.split(";")[0].split("[")[0].rstrip("0123456789.*,<>=!~ ").strip().lower()


def _title(models: Mapping[str, TrainedModel]) -> str:
    data = list(dict.fromkeys(filter(None, (_data_of(model) for model in models.values()))))
    return f"latentdiff {' and '.join(data)}" if 0 < len(data) < 3 else "latentdiff"


def _listed(names: list[str]) -> str:
    return "\n".join(f"- `models/{name}.safetensors`" for name in names)


def _filled(template: str, **values: str) -> str:
    return Template((HERE / template).read_text()).substitute(values)
