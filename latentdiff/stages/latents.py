"""Encode a data set once into the latent cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from latentdiff.config import DataConfig
from latentdiff.stages.folders import default_folder


@dataclass(frozen=True, kw_only=True)
class LatentsStage:
    """Encode the training images to the moments of their latents, once, for stage two.

    Args:
        autoencoder: Stage one's model file; ``auto`` takes the data set's own run under stages/, else the released one.
        data: Which images.
        folder: Where caches are kept.
    """

    autoencoder: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    folder: str = "stages/latents"


def find_autoencoder(setting: str, data: DataConfig) -> Path:
    """The file that ``auto``, a path, or a released model's name means. Raises CheckpointError where there is none."""
    from latentdiff.checkpoint import CheckpointError
    from latentdiff.pipeline import locate

    if setting != "auto":
        return locate(setting)
    own = default_folder("autoencoder", f"{data.name}-autoencoder") / "model.safetensors"
    found = own if own.is_file() else locate(f"checkpoints/{data.name}/autoencoder.safetensors")
    if not found.is_file():
        raise CheckpointError(
            f"there is no autoencoder for {data.name}: neither {own} nor a released one. Train one with "
            "python -m latentdiff.stages.autoencoder, or name a file with --autoencoder."
        )
    return found


def run(config: LatentsStage) -> None:
    """Fill the cache; nothing is encoded twice."""
    from latentdiff import processes
    from latentdiff.codec import load_codec
    from latentdiff.data import load_data
    from latentdiff.latents import cached_moments
    from latentdiff.precision import resolve_device

    path = find_autoencoder(config.autoencoder, config.data)
    codec = load_codec(path).to(resolve_device("auto"))
    with processes.first_before_others():
        data = load_data(config.data, "train")
    print(f"{data.describe()}\nautoencoder {path}: {codec.compression:.1f}x fewer numbers")
    cache = cached_moments(codec, data, Path(config.folder), config.data.hflip)
    latents = codec.sample(cache.moments)
    for channel, (mean, std) in enumerate(zip(latents.mean((0, 2, 3)), latents.std((0, 2, 3)), strict=True)):
        print(f"standardised latents, channel {channel}: mean {mean:+.4f}, std {std:.4f}")


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli

    run(cli.parse(LatentsStage, argv))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main, several=True)
