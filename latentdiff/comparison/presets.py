"""A recipe for any images: sizes and lengths by rules, for data sets that have no recipe of their own.

The preset ``gpu`` is made of files where a data set has some: ``configs/<data set>/gpu/``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from PIL import Image

from latentdiff.config import DataConfig
from latentdiff.data import load_dataset
from latentdiff.data.files import Files
from latentdiff.data.load import has, open_files
from latentdiff.resources import find_config

Preset = Literal["small", "medium", "gpu"]
# Files whose size and colours are looked at before the images are decoded.
LOOKED_AT = 200
# How long each run of a preset trains, in seconds. Latent and pixel have the same time.
SECONDS = {"autoencoder": 1200.0, "vae_baseline": 300.0, "latent": 1050.0, "pixel": 1050.0}
# Widths at the finest resolution: of the autoencoder, of the latent U-Net and of the pixel U-Net.
WIDTHS: dict[Preset, tuple[int, int, int]] = {"small": (32, 64, 32), "medium": (64, 96, 64), "gpu": (128, 256, 128)}
# Images that a slow machine trains a second, for what is counted in images and should come a few times in a run.
SLOW_RATE: dict[Preset, int] = {"small": 100, "medium": 100, "gpu": 2000}
# Seconds of training that a look at samples and their quality must be worth: on two CPU cores it takes about 20.
SECONDS_A_LOOK = 240


@dataclass(frozen=True)
class ImageFacts:
    """The facts about a data set that the rules use.

    Attributes:
        side: Side of the images in pixels, as they are trained on.
        channels: 1 or 3.
        num_images: Training images.
    """

    side: int
    channels: int
    num_images: int


def preset_runs(preset: Preset, facts: ImageFacts, seconds: float | None = None) -> dict[str, list[str]]:
    """The runs of a preset: for each name the stage and its flags, as a recipe has them.

    Args:
        preset: ``small`` is for a CPU. ``medium`` has about four times the weights, for a small GPU or a night. ``gpu``
            has about four times as many again, larger batches, and as many parts of a batch as fit into memory.
        facts: What is known of the images.
        seconds: Of all runs together. Default: an hour.
    """
    total = sum(SECONDS.values())
    times = {name: own * (seconds or total) / total for name, own in SECONDS.items()}
    small, width_of = preset == "small", dict(zip(("autoencoder", "latent", "pixel"), WIDTHS[preset], strict=True))
    # A latent of about a tenth of an image's numbers: a side of a quarter, with 4 channels for colour or 2 for grey.
    # Above 96 pixels a quarter leaves the U-Net 32 x 32 positions and more. There it is an eighth, with more channels.
    quarter = facts.side <= 96
    latent_channels = (2 if facts.channels == 1 else 4) * (1 if quarter else 2)
    # The layers at full resolution are half of an autoencoder's cost. Patches of 2 x 2 pixels save them.
    width = width_of["autoencoder"]
    autoencoder = {
        "network.patch": 2,
        "network.channels": [width, 2 * width] if quarter else [width, 2 * width, 2 * width],
        "network.latent_channels": latent_channels,
        # The decoder has the harder task.
        "network.decoder_blocks": 2 if small else 3,
        "trainer.lr": 6e-4,
        "trainer.betas": [0.5, 0.95],
        # LPIPS costs as much as the network. Its gradient stays unbiased on a part of the batch.
        "loss.perceptual_share": 0.5 if facts.side <= 32 else 0.25,
        "loss.perceptual_min_side": min(facts.side, 56),
        "loss.adversarial_weight": 0,
        "loss.adversarial_start": 0,
        "loss.discriminator_channels": 32,
        # A discriminator sharpens what is nearly right. It costs time, and it may move the latents: so it comes late,
        # and the encoder is frozen. It learns a few hundred images by heart, so they have none.
        "phases": [
            {"start": 0.5, "frozen_encoder": True, "adversarial_weight": 0.3 if facts.num_images >= 1000 else 0}
        ],
    }
    # The baseline is drawn from N(0, I): a latent without spatial extent, and the weight of the true bound (sigma-VAE).
    halvings = (facts.side - 1).bit_length()
    vae = {
        "network.latent_channels": 32 * facts.channels,
        "network.channels": [min(32 + 16 * level, 2 * width) for level in range(halvings + 1)],
        "network.decoder_blocks": 1,
        "network.attention": False,
        "loss.reconstruction": "gaussian",
        "loss.kl_weight": round(32 / facts.side**2, 4),
        "loss.perceptual_weight": 0,
        "loss.adversarial_weight": 0,
    }
    # Fewer than ten thousand images are learned by heart sooner or later. Dropout delays it.
    common = {"network.dropout": 0.1 if facts.num_images < 10_000 else 0.0, "trainer.lr": 1e-3}
    latent_side = facts.side // (4 if quarter else 8)
    latent = common | _unet(latent_side, width_of["latent"])
    pixel = common | _unet(facts.side, width_of["pixel"]) | {"autoencoder": "none"}
    runs = {"autoencoder": autoencoder, "vae_baseline": vae, "latent": latent, "pixel": pixel}
    if preset == "gpu":
        # Four times the batch allows twice the learning rate (Adam), and four times the width a quarter (muP).
        for flags in (autoencoder, latent, pixel):
            lr = flags["trainer.lr"]
            assert isinstance(lr, float)
            flags |= {"trainer.batch_size": 256, "trainer.lr": lr / 2, "trainer.memory": "auto"}
        for flags in (latent, pixel):
            flags |= {"network.num_res_blocks": 2, "network.head_channels": 64}
    return {
        name: [
            "autoencoder" if name in ("autoencoder", "vae_baseline") else "diffusion",
            *(f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in flags.items()),
            *_lengths(name, times[name], SLOW_RATE[preset]),
        ]
        for name, flags in runs.items()
    }


def gpu_runs(name: str) -> dict[str, list[str]] | None:
    """The runs of a data set's files for a large GPU, of which a batch takes as many parts as fit; None without files.

    Args:
        name: The data set.
    """
    if find_config(f"{name}/gpu/autoencoder.yaml") is None:
        return None
    runs: dict[str, list[str]] = {}
    for run in SECONDS:
        file = f"{name}/vae_baseline.yaml" if run == "vae_baseline" else f"{name}/gpu/{run}.yaml"
        if find_config(file):
            stage = "autoencoder" if run in ("autoencoder", "vae_baseline") else "diffusion"
            # All runs on the same images: the other files set none apart.
            alike = ["--data.val_images=null"] if run == "vae_baseline" else []
            runs[run] = [stage, f"--config={file}", *alike, "--trainer.memory=auto"]
    return runs


def preset_evaluations() -> dict[str, list[str]]:
    """What is measured of a preset's models."""
    return {"vae_baseline": ["--mode", "prior"], "autoencoder": [], "pixel": [], "latent": []}


def _unet(side: int, width: int) -> dict[str, object]:
    """A U-Net that halves the side until it is 8 or less, with attention at that level only: it costs too much at
    larger sides."""
    channels = [width]
    while side > 8:
        side = -(-side // 2)
        channels.append(min(width * (len(channels) + 1), 4 * width))
    last = len(channels) - 1
    return {"network.channels": channels, "network.num_res_blocks": 1, "network.attention_levels": [last]}


def _lengths(name: str, seconds: float, rate: int) -> list[str]:
    """A run's length, and what goes by it: at most five looks at its samples, and a tenth of it for the warm-up."""
    epoch = rate * max(seconds / 5, SECONDS_A_LOOK)
    flags = ["--trainer.max_images=null", f"--trainer.max_seconds={seconds:.1f}"]
    flags += [f"--trainer.images_per_epoch={round(epoch)}"]
    flags += [f"--trainer.lr_warmup_images={min(100 * rate, round(rate * seconds / 10))}"]
    if name in ("latent", "pixel"):
        flags += [f"--quality_images={200 if seconds >= SECONDS_A_LOOK else 0}"]
    return flags


def complete_data_settings(data: DataConfig) -> DataConfig:
    """The settings of one's own images with the size and the colours that its files ask for, where they are left open.

    Squares of 64 pixels, or of 32 where most files are smaller; in grey where all are. Other data sets stay as is.
    """
    if not has(data.name, "GROWS") or (data.size and data.colour != "auto"):
        return data
    files = open_files(data)
    sides, is_grey = _look_at_files(files) if files else ([], False)
    size = data.size or (32 if sides and median(sides) < 64 else 64)
    colour = "grey" if data.colour == "auto" and is_grey else data.colour
    return replace(data, size=size, colour=colour)


def _look_at_files(files: Files) -> tuple[list[int], bool]:
    """The shorter side of some of the files, and whether all of them are grey, by their headers."""
    sides, grey = [], True
    for name in files.images[:: max(1, len(files.images) // LOOKED_AT)]:
        try:
            with files.open(name) as stream, Image.open(stream) as image:
                sides.append(min(image.size))
                grey = grey and image.mode in ("1", "L", "LA", "I;16")
        except Exception:  # of Pillow, of zips, of tables
            continue  # What cannot be read is told when all files are decoded.
    return sides, grey and bool(sides)


def read_facts(data: DataConfig) -> ImageFacts:
    """What the rules need to know of a data set. Raises what :func:`~latentdiff.load_dataset` raises."""
    channels, side, _ = (train := load_dataset(data).train).image_shape
    return ImageFacts(side, channels, len(train))
