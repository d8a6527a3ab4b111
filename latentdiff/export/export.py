"""A model in the form that is asked for."""

from __future__ import annotations

from pathlib import Path

from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import ConfigError
from latentdiff.export.onnx_folder import export_onnx
from latentdiff.export.space_folder import export_space
from latentdiff.export.web_folder import export_web


def export_models(config: ExportStage) -> Path:
    """Write the folder that ``config`` asks for, and return it.

    Raises :class:`~latentdiff.errors.ConfigError` for settings of a page where none is written, and else what
    :func:`export_onnx`, :func:`export_web` and :func:`export_space` do.
    """
    if config.to == "web":
        return export_web(config)
    for name in ("onnxruntime_web", "serve", *(("beside",) if config.to == "onnx" else ())):
        if getattr(config, name):
            raise ConfigError(f"--{name} is for a page: give --to web too")
    if config.to == "space":
        return export_space(config)
    return export_onnx(config)
