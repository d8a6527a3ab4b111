"""Export a model to the requested format."""

from __future__ import annotations

from pathlib import Path

from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import ConfigError
from latentdiff.export.diffusers_folder import export_diffusers
from latentdiff.export.hub_folder import export_hub
from latentdiff.export.onnx_folder import export_onnx
from latentdiff.export.space_folder import export_space
from latentdiff.export.web_folder import export_web

# What is for one form alone, and what that is called.
OF_ONE_FORM = {
    "web": ("a page", ("onnxruntime_web", "serve")),
    "hub": ("the Hub", ("repo", "revision", "private", "evaluation", "license")),
}
WITH_BESIDE = ("web", "space")


def export_models(config: ExportStage) -> Path:
    """Write the folder that ``config`` asks for, and return it.

    Raises :class:`~latentdiff.errors.ConfigError` for settings of another format, and the errors of
    :func:`export_onnx`, :func:`export_web`, :func:`export_space`, :func:`export_hub` and :func:`export_diffusers`.
    """
    for form, (what, names) in OF_ONE_FORM.items():
        for name in names:
            if getattr(config, name) and config.to != form:
                raise ConfigError(f"--{name} is for {what}: give --to {form} too")
    if config.beside and config.to not in WITH_BESIDE:
        raise ConfigError(f"--beside is for a page or a Space: --to {config.to} takes one model")
    exports = {"onnx": export_onnx, "web": export_web, "space": export_space, "hub": export_hub}
    return (exports | {"diffusers": export_diffusers})[config.to](config)
