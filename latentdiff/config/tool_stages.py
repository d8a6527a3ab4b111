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
    """Report sizes, classes, pixel values, mean images, samples and duplicates of a data set, split by split.

    It writes a page (index.html), its figures as PNGs, and every number (analysis.json).

    Args:
        data: The data set, with the same settings as for training.
        samples: Images in the grid of each split.
        seed: Seed of the choice of those images.
        near: Largest distance at which two images count as near-duplicates; 0 turns the search off. It is the root mean
            squared difference of small greyscale thumbnails of mean 0 and standard deviation 1.
        listed: Number of pairs of duplicates of each kind that are listed; all are counted.
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
    """Check every schedule, target and sampler against known results, and write a table and verify.json.

    With ``metrics``, FID, KID, precision and recall are checked instead, and metrics.json is written.

    It ends with an error if a result exceeds its limit.

    Args:
        folder: Folder of verify.json or metrics.json. An earlier one is replaced, and no other file is touched.
        threads: Number of CPU threads. Default: 1, since the tensors are tiny; with ``metrics`` torch's choice.
        metrics: Number of real test images on which the metrics are compared with torch-fidelity's, against half as
            many training images. This needs Inception's weights. 0 checks the diffusion core instead.
        data: The data set of these images.
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

    No token and no password is printed. Of the environment variables, a few that hold a folder or a number are printed.

    Args:
        json: Whether to print one JSON object instead of lines.
    """

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(Settings):
    """Settings of a benchmark.

    Args:
        quick: Smaller batches, fewer repetitions and fewer image sizes. This takes a few minutes, and figures are
            noisier.
        parts: Which parts to measure, in any order; default: all.
        folder: Folder of the table, benchmark.json and the figure, which replace earlier ones.
        device: ``auto`` uses a GPU where there is one.
        threads: Number of CPU threads. Default: torch's choice.
        inception_weights: The file of Inception's weights, else the environment variable LATENTDIFF_INCEPTION, else the
            download. Without weights, the speed of the Inception network is left out.
        preset: ``gpu`` measures the networks of configs/celeba/gpu on a large GPU, plain and compiled, in about four
            minutes. It also measures the training of other projects if they are installed (extra ``peers``). Without a
            GPU it measures a miniature on the CPU, and a line says so.
        seconds: Time limit of the preset in seconds. No measurement starts after it, and those that are missing are
            listed.
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

    Writes a table, benchmark.json and a figure. Each speed is also given as a share of the speed that the machine's
    arithmetic and memory allow, which is measured at the start. Alternatives are measured in turns in one run, and
    their medians are compared. If a first training step shows that the machine is slow, batches are smaller; the record
    says so.

    Args:
        parts: Which parts to measure, in any order; default: all.
    """

    parts: tuple[PartName, ...] = ()
