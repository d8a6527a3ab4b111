"""Average the weights of several runs that grew out of one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AverageStage:
    """Write a model whose weights are the mean of several models' (Wortsman et al. 2022, model soups).

    Runs that start from one another's weights (``init``) end near each other, and their mean is often better than any:
    it is a moving average over the ends of runs. Models that were trained apart have nothing in common to be averaged.

    Args:
        models: Model files of one kind and shape: autoencoders with one encoder (``loss.frozen_encoder``), or diffusion
            models on one codec.
        to: The file to write.
        overwrite: Replace a file that is there already.
    """

    models: tuple[str, ...]
    to: str
    overwrite: bool = False


def run(config: AverageStage, command: str = "") -> Path:
    """Write the mean and return its path.

    Raises :class:`~latentdiff.checkpoint.CheckpointError` for models that have no mean, FolderError for a file that is
    there already.
    """
    from latentdiff import checkpoint
    from latentdiff.stages.folders import FolderError

    target = Path(config.to)
    if target.exists() and not config.overwrite:
        raise FolderError(f"{target} is there already; --overwrite replaces it")
    if len(config.models) < 2:
        raise ValueError("an average needs at least two models")
    paths = [Path(name) for name in config.models]
    headers, weights = zip(*(checkpoint.read(path) for path in paths), strict=True)
    first = weights[0]
    for path, header, tensors in zip(paths, headers, weights, strict=True):
        if header["kind"] != headers[0]["kind"] or {k: v.shape for k, v in tensors.items()} != {
            k: v.shape for k, v in first.items()
        }:
            raise checkpoint.CheckpointError(f"{path} is of another kind or shape than {paths[0]}: they have no mean")
        for name in fixed(headers[0]["kind"], first):
            if not tensors[name].equal(first[name]):
                raise checkpoint.CheckpointError(
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
    from latentdiff.checkpoint import file_sha256

    return {
        **longest["provenance"],
        "command": command,
        "averaged": [
            {"sha256": file_sha256(path), **{key: header["provenance"][key] for key in ("images_seen", "command")}}
            for path, header in zip(paths, headers, strict=True)
        ],
    }


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli

    run(cli.parse(AverageStage, argv), cli.command(__spec__.name if __spec__ else __name__, argv))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main)
