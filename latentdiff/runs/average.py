"""Average the weights of several runs that grew out of one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff import checkpoint
from latentdiff.config.model_stages import AverageStage
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.files import file_sha256


def average_models(config: AverageStage, command: str = "") -> Path:
    """Write the mean and return its path.

    Raises :class:`~latentdiff.errors.CheckpointError` for models that have no mean, FolderError for a file that is
    there already.
    """
    target = Path(config.to)
    if target.exists() and not config.overwrite:
        raise FolderError(f"{target} is there already; --overwrite replaces it")
    if len(config.models) < 2:
        raise ConfigError("an average needs at least two models")
    paths = [Path(name) for name in config.models]
    headers, weights = zip(*(checkpoint.read(path) for path in paths), strict=True)
    first = weights[0]
    for path, header, tensors in zip(paths, headers, weights, strict=True):
        if header["kind"] != headers[0]["kind"] or {k: v.shape for k, v in tensors.items()} != {
            k: v.shape for k, v in first.items()
        }:
            raise CheckpointError(f"{path} is of another kind or shape than {paths[0]}: they have no mean")
        for name in fixed(headers[0]["kind"], first):
            if not tensors[name].equal(first[name]):
                raise CheckpointError(
                    f"{path} and {paths[0]} have other latents ({name} differs): their mean would mean nothing"
                )
    mean = {
        name: sum(tensors[name].double() for tensors in weights).div(len(weights)).float()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }
    longest = max(headers, key=lambda header: header["provenance"]["images_seen"])
    content = {key: value for key, value in longest.items() if key not in ("format", "kind", "provenance")}
    content["provenance"] = provenance(longest, paths, headers, command)
    checkpoint.save(target, longest["kind"], mean, content)
    print(target)
    return target


def fixed(kind: str, tensors: dict[str, Any]) -> list[str]:
    """The tensors that say what a latent means: they must be the same in all."""
    if kind == "autoencoder":
        return [name for name in tensors if not name.startswith("decoder.")]
    return [name for name in tensors if name.startswith("codec.")]


def provenance(
    longest: dict[str, Any], paths: list[Path], headers: tuple[dict[str, Any], ...], command: str
) -> dict[str, Any]:
    """That of the model that has seen most, with what it grew out of, and which models were averaged."""
    return {
        **longest["provenance"],
        "command": command,
        "averaged": [
            {"sha256": file_sha256(path), **{key: header["provenance"][key] for key in ("images_seen", "command")}}
            for path, header in zip(paths, headers, strict=True)
        ],
    }
