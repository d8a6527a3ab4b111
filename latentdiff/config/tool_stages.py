"""Settings of the stages that need no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.data import DataConfig
from latentdiff.config.ranges import HeldImagesOrNone, PathSetting, Range, Seconds, Seed, Threads
from latentdiff.config.run import RunConfig


@dataclass(frozen=True, kw_only=True)
class AnalyseStage(Settings):
    """Sizes, classes, pixel values, mean images, samples and duplicates of a data set, split by split.

    Writes a page (index.html), its figures as PNGs, and every number (analysis.json).

    Args:
        data: The data set, as it would be trained on.
        samples: Images in the grid of each split.
        seed: Seed of the choice of those images.
        near: Largest distance of two images that are called nearly the same; 0 does not look for them. It is the root
            mean squared difference of small greyscale thumbnails of mean 0 and standard deviation 1.
        listed: Pairs of duplicates of each kind that are named; all are counted.
        threads: Number of CPU threads. Default: torch's choice.
        run: The folder that the run writes to.
    """

    data: DataConfig = field(default_factory=DataConfig)
    samples: Annotated[int, Range(1, 10**5)] = 48
    seed: Seed = 0
    near: Annotated[float, Range(0, 1, below=True)] = 0.1
    listed: Annotated[int, Range(0, 10**6)] = 50
    threads: Threads | None = None
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class VerifyStage(Settings):
    """Measure every schedule, target and sampler against what is known to be right; a table, and verify.json.

    With ``metrics`` it is FID, KID, precision and recall that are measured instead, into metrics.json.

    Ends with an error where anything is out of its limit.

    Args:
        folder: Where verify.json or metrics.json goes. It replaces an earlier one, which the same command makes again,
            and touches nothing else there.
        threads: CPU threads: the core's tensors are tiny, and more than one is slower.
        metrics: Compare the metrics with torch-fidelity's instead, on so many real test images against half as many
            training images, which needs the FID Inception's weights; 0 leaves them out and proves the core.
        data: Whose images.
        inception_weights: The weights' file, else the environment variable LATENTDIFF_INCEPTION, else the download.
    """

    folder: PathSetting = "stages/verify"
    threads: Threads | None = None
    metrics: HeldImagesOrNone = 0
    data: DataConfig = field(default_factory=DataConfig)
    inception_weights: PathSetting | None = None


@dataclass(frozen=True, kw_only=True)
class EnvStage(Settings):
    """Print versions, extras, devices, threads and caches, for a bug report. Nothing is written.

    No token and no password is printed: of environment variables, a few are named that hold a folder or a number.

    Args:
        json: Whether to print one JSON object instead of lines.
    """

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(Settings):
    """Settings of a benchmark.

    Args:
        quick: Smaller batches, fewer repetitions and sides: a few minutes, and noisier.
        parts: Which parts to measure, in any order; default: all.
        folder: Where the table, benchmark.json and the figure go; they replace earlier ones.
        device: ``auto`` uses a GPU where there is one.
        threads: Number of CPU threads. Default: torch's choice.
        inception_weights: The FID Inception's file, else the environment variable LATENTDIFF_INCEPTION, else the
            download; without it, the speed of the Inception network is left out.
        preset: ``gpu``: what a large GPU does with the networks of configs/celeba/gpu, plain and compiled, beside other
            projects' training where they are installed (extra ``peers``), in about four minutes. Without a GPU the
            measurements are made in miniature on the CPU, which a line says.
        seconds: No measurement of the preset begins after so many seconds. What is missing is listed.
    """

    quick: bool = False
    parts: tuple[str, ...] = ()
    folder: PathSetting = "stages/benchmark"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Threads | None = None
    inception_weights: PathSetting | None = None
    preset: Literal["gpu"] | None = None
    seconds: Seconds = 240.0


PartName = Literal[
    "autoencoder_training",
    "encoding",
    "diffusion_training",
    "loader",
    "sampling",
    "engines",
    "evaluation",
    "latents_against_pixels",
]


@dataclass(frozen=True, kw_only=True)
class BenchmarkStage(BenchmarkSettings):
    """Measure the speed of training, encoding, loading, sampling and evaluation, in latents and in pixels.

    Writes a table, benchmark.json and a figure. Beside each speed stands its share of the speed that the machine's
    arithmetic and memory allow, measured at the start. What is compared takes turns in one run, and medians are
    compared. A slow machine, by its speed in a first training step, gets smaller batches; the record says so.

    Args:
        parts: Which parts to measure, in any order; default: all.
    """

    parts: tuple[PartName, ...] = ()
