"""Settings of the stages that train or measure several models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.data import DataConfig
from latentdiff.config.ranges import (
    BatchSize,
    GuidanceScale,
    Images,
    Name,
    PathSetting,
    Range,
    Seconds,
    Seed,
    Steps,
    Threads,
)
from latentdiff.config.run import RunConfig
from latentdiff.config.sampling import SamplerName
from latentdiff.errors import ConfigError

# What --budget alone stands for: 49 minutes, measured on one thread of two busy CPU cores.
EQUAL_BUDGETS = ("--budget.images=20480", "--budget.steps=160", "--budget.seconds=300")
# Settings of a sweep that only a search uses.
SEARCH_SETTINGS = ("space", "trials", "images", "flops", "sampler", "pruner", "looks", "quality_net", "seed")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig(Settings):
    """Equal budgets for the latent and the pixel model. Each budget that is given makes one comparison.

    Args:
        images: Number of training images that each model sees.
        steps: Number of optimiser steps of each model, with its own batch size.
        seconds: Training time of each model in seconds, on this device.
        stage_one_too: Whether to add a comparison to ``seconds``, in which the pixel model also gets the time that the
            autoencoder's training and the encoding took.
        latent: YAML file with the latent model's settings. Default: latent.yaml of the data set.
        pixel: YAML file with the pixel model's settings. Default: pixel.yaml of the data set.
        flags: Further settings of both models, such as --trainer.num_threads=1.
    """

    images: Images | None = None
    steps: Annotated[int, Range(1, 10**9)] | None = None
    seconds: Seconds | None = None
    stage_one_too: bool = False
    latent: PathSetting | None = None
    pixel: PathSetting | None = None
    flags: tuple[str, ...] = ()

    @property
    def is_set(self) -> bool:
        """Whether any budget or setting of it is given."""
        return self != BudgetConfig()

    def check(self, amount_needed: bool = True) -> None:
        """Raise ConfigError for a budget that is not above 0, or for settings whose budget is missing."""
        for name in ("images", "steps", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"budget.{name} must be above 0, not {value}")
        if amount_needed and (self.images, self.steps, self.seconds) == (None, None, None):
            raise ConfigError("budget has settings but no amount: give budget.images, budget.steps or budget.seconds")
        if self.stage_one_too and self.seconds is None:
            raise ConfigError("budget.stage_one_too adds to budget.seconds, which is not given")


@dataclass(frozen=True, kw_only=True)
class CompareStage(Settings):
    """Write index.html, report.json and report.md from evaluated models.

    Args:
        evaluations: Folders that hold an evaluation.json, and models (a run's folder or a model file), which are
            evaluated first on the images of ``data``. They may stand before the first flag. Default: every evaluation
            of the data set under stages/evaluate. If there is none, its released models.
        title: Title of the page.
        num_images: Images of each model that is evaluated now. Default: 10,000 on a GPU, 1,000 on a CPU with Inception
            and 2,000 with the classifier alone.
        budget: First train both paths at equal budgets, under stages/budget, and compare these models. An interrupted
            run goes on. ``--budget`` alone compares them at 20,480 images seen, at 160 optimiser steps and at 300
            seconds.
        preset: ``sources``: train the models of five class projects on image generation for ``budget.seconds`` each
            (300 without) under stages/sources, evaluate them and the released models, and write the projects' tables to
            results.md next to the page. An interrupted run is resumed.
        data: The data set whose models are compared, and the real images that released models and budgets are measured
            against.
        run: The folder that the run writes to.
    """

    evaluations: tuple[PathSetting, ...] = ()
    title: str = "Pixel against latent"
    num_images: Annotated[int, Range(2, 10**7)] | None = None
    preset: Literal["sources"] | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class SamplersStage(Settings):
    """Measure a model with several samplers and numbers of steps, and write a table, samplers.json and a figure.

    The distance is the Fréchet distance in the features of the data set's classifier. It falls with the number of
    images, so compare only rows with the same ``num_images``. Continue a stopped run with --run.resume.

    Args:
        model: A diffusion model's file.
        samplers: Samplers to measure.
        steps: Numbers of steps to measure each sampler with.
        num_images: Number of images for each pair of sampler and steps.
        guidance_scale: Classifier-free guidance; 1 is off.
        seed: Image i depends on (seed, i) alone: all rows start from the same noise.
        batch_size: Number of images sampled at a time. It changes the memory needed, not the images.
        data: The real images.
        device: ``auto`` uses a GPU where there is one.
        threads: Number of CPU threads. Default: torch's choice.
        features_folder: Folder where the features of real images are cached.
        run: The folder that the run writes to.
    """

    model: PathSetting = "checkpoints/fashion-mnist/latent.safetensors"
    samplers: tuple[SamplerName, ...] = ("ddpm", "ddim", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
    steps: tuple[Steps, ...] = (5, 10, 20, 50, 100, 250, 1000)
    num_images: Annotated[int, Range(2, 10**7)] = 2000
    guidance_scale: GuidanceScale = 1.0
    seed: Seed = 0
    batch_size: BatchSize = 250
    data: DataConfig = field(default_factory=DataConfig)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Threads | None = None
    features_folder: PathSetting = "stages/features"
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class SweepStage(Settings):
    """Train diffusion models of equal length with different settings, measure each, and rank them.

    The runs are given as a list, or a search finds them. For a list, sweep.json and sweep.md hold a table of the
    distance in the classifier's features (Inception's if there is no classifier), and of FID and KID for the best runs.
    Finished runs are kept, an interrupted run is resumed, and runs may be added later.

    A search (``search`` optuna, extra ``optuna``) tries settings from a space, guided by earlier trials, and ranks them
    by validation images alone. index.html shows the trials. best.yaml has the best settings and a trial's length, ready
    to train. The same command continues a search, and a second process on the same folder takes part in it.

    Args:
        name: Name of the sweep: its folder under stages/sweep/, after the data set.
        settings: YAML file of the diffusion stage, for all runs. Default: latent.yaml of the data set.
        flags: Further settings of all runs, such as --trainer.num_threads=1.
        runs: The runs by name, each with its own settings.
        search: ``list`` trains ``runs``. ``optuna`` searches ``space``.
        space: YAML file of what a search may change, such as sweeps/latent.yaml: settings of the diffusion stage by
            their dotted names, each with low and high (log, step), or with choices, or empty for the setting's whole
            range.
        trials: Number of trials of a search, of all its processes together.
        seconds: Training time of each run in seconds.
        images: Training images of each trial of a search, in place of ``seconds``.
        flops: Floating-point operations of each trial of a search, forward and backward, in place of ``seconds``.
        sampler: How a search chooses settings: ``tpe`` (tree-structured Parzen estimator) or ``gp`` (Gaussian process),
            which learns only from trials that were trained to their end.
        pruner: What ends a trial early: ``median``, if it is worse than the median of the others at that point;
            ``hyperband``; or ``none``.
        looks: How often the samples of a trial are measured for the pruner, evenly over its length and at its end.
        quality_net: Network in whose features a search measures samples, as in the diffusion stage.
        seed: Seed of the settings that a search chooses.
        jobs: Number of runs at a time. For a fair comparison each run needs cores of its own, so set
            --trainer.num_threads.
        num_images: Number of samples by which each run is ranked. In a search, number of samples at each look.
        finalists: Number of best runs that are measured again, with Inception where its weights are present.
        finalist_images: Number of samples of each finalist. Default: 10,000 on a GPU, 1,000 on a CPU with Inception,
            2,000 without.
        data: The data set.
    """

    name: Name = "sweep"
    settings: PathSetting | None = None
    flags: tuple[str, ...] = ()
    runs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    search: Literal["list", "optuna"] = "list"
    space: PathSetting | None = None
    trials: Annotated[int, Range(1, 10**6)] = 40
    seconds: Seconds = 300.0
    images: Images | None = None
    flops: Annotated[float, Range(0, 1e30, above=True)] | None = None
    sampler: Literal["tpe", "gp"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    looks: Annotated[int, Range(1, 1000)] = 4
    quality_net: Literal["auto", "classifier", "inception"] = "auto"
    seed: Seed = 0
    jobs: Annotated[int, Range(1, 4096)] = 1
    num_images: Annotated[int, Range(2, 10**7)] = 2000
    finalists: Annotated[int, Range(0, 10**4)] = 3
    finalist_images: Annotated[int, Range(2, 10**7)] | None = None
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True, kw_only=True)
class ReproduceStage(Settings):
    """Train, release, measure and compare all models of a data set, or of a folder or zip of images.

    The data set or the path comes first, without a flag. A data set with a recipe uses the recipe, any other uses a
    preset. Everything is written to one folder. After an interruption the same command continues. It begins with a
    plan: which models are trained, and how long that takes on this machine.

    Args:
        budget: How long all runs together train: a time such as ``2h`` or ``45min``, or a share of the recipe's length
            such as ``0.1``. Each run gets its part of it.
        preset: Choose the runs by rules, from the size and number of the images, for data without a recipe. ``small``
            is for a CPU, ``medium`` for a small GPU or a night of training, ``gpu`` for a GPU of up to 80 GB. For
            fashion-mnist, cifar-10, celeba and flowers-102, ``gpu`` uses files instead of rules.
        only: The models to make, with the autoencoder and the guides that they need. Default: all.
        runs: The training runs by name. Each has its stage and that stage's flags.
        evaluations: The evaluations by name, each with its flags. A name is that of a run, or begins with it and a
            dash. ``--guide`` takes a run's name.
        int8: Names of the runs whose released file has its matrices in 8 bits, half the size of the others'.
        flags: Further settings of all runs, such as --trainer.num_threads=1.
        num_images: Images of each model that are measured. Default: 10,000 on a GPU, 1,000 on a CPU with Inception and
            2,000 with the classifier alone.
        data: The data set, and where it is.
        folder: Folder of the runs and the page. Default: stages/reproduce/ and the data set's name.
        release_folder: Folder of the released files and their cards. Default: release/ in ``folder``.
    """

    budget: str = "1"
    preset: Literal["small", "medium", "gpu"] | None = None
    only: tuple[str, ...] = ()
    runs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    evaluations: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    int8: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    num_images: Annotated[int, Range(2, 10**7)] | None = None
    data: DataConfig = field(default_factory=DataConfig)
    folder: PathSetting | None = None
    release_folder: PathSetting | None = None


@dataclass(frozen=True, kw_only=True)
class DemoStage(Settings):
    """Train a small autoencoder and VAE, then latent and pixel diffusion for the same time; compare them on one page.

    Args:
        autoencoder_seconds: Training time of the autoencoder. Default: 90 on a CPU, 12 on a GPU.
        vae_seconds: Training time of the VAE baseline. Default: 40 on a CPU, 8 on a GPU.
        diffusion_seconds: Training time of either diffusion model. Default: 80 on a CPU, 12 on a GPU.
        num_images: Images that each model is measured on.
        run: The folder that the run writes to.
    """

    autoencoder_seconds: Seconds | None = None
    vae_seconds: Seconds | None = None
    diffusion_seconds: Seconds | None = None
    num_images: Annotated[int, Range(2, 10**7)] = 800
    run: RunConfig = field(default_factory=RunConfig)
