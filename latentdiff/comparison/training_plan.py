"""What a recipe's runs are, how long each is, and how long that takes on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from itertools import accumulate, pairwise
from pathlib import Path

import torch

from latentdiff.codec import AutoencoderCodec, Codec
from latentdiff.comparison.cached_runs import STAGES, parse_settings
from latentdiff.config import PhaseConfig, TrainerConfig
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.data import DatasetSplits, load_dataset
from latentdiff.errors import ConfigError
from latentdiff.from_diffusers.address import is_address
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.resources import resolve_checkpoint
from latentdiff.run_checkpoint import LAST
from latentdiff.runs.run_folder import last_row
from latentdiff.training.diffusion_checks import check_process
from latentdiff.training.phases import check_phases, losses_of_phases
from latentdiff.training.train_autoencoder import train_autoencoder
from latentdiff.training.train_diffusion import train_diffusion
from latentdiff.training.trainer import check_settings

# Time in which all rates together are measured, and the least for one of them.
MEASURED_SECONDS, LEAST_SECONDS = 20.0, 2.0
# Images that a rate is measured on: a step's time does not depend on their number.
MEASURED_IMAGES = 512
METRICS = "metrics.csv"
# Settings that count images and shrink with a run, and their least values.
SCALED_IN_TRAINER = {"max_images": 1, "images_per_epoch": 1, "lr_warmup_images": 0}
SCALED_IN_LOSS = ("adversarial_start", "discriminator_warmup")
# Where a phase begins that is to be measured alone: after the first step.
AT_ONCE = 1e-6
SECONDS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}


@dataclass(frozen=True)
class PlannedRun:
    """A training run of a recipe.

    Attributes:
        name: What its model is called.
        stage: The stage that trains it.
        flags: The settings of that stage, for the shell.
        settings: The same, read.
    """

    name: str
    stage: str
    flags: tuple[str, ...]
    settings: AutoencoderStage | DiffusionStage

    @property
    def is_latent(self) -> bool:
        """Whether it is trained on the latents of the recipe's own autoencoder."""
        return isinstance(self.settings, DiffusionStage) and self.settings.autoencoder == "auto"

    def seconds(self, rate: float | None) -> float:
        """How long it trains on a machine that trains ``rate`` images a second."""
        trainer = self.settings.trainer
        limits = [trainer.max_seconds] if trainer.max_seconds else []
        if trainer.max_images and rate:
            limits.append(trainer.max_images / rate)
        return min(limits)

    def scaled(self, share: float) -> PlannedRun:
        """The run, shortened to a share of its length.

        So are the length of an epoch, the warm-up and the steps of the learning rate, and the number of images after
        which a discriminator begins.
        """
        if share == 1.0:
            return self
        trainer, own = self.settings.trainer, []
        if trainer.max_seconds:
            own.append(f"--trainer.max_seconds={max(1.0, round(trainer.max_seconds * share, 1)):g}")
        steps = {"lr_step_images": 1} if trainer.lr_schedule == "step" else {}
        for setting, least in {**SCALED_IN_TRAINER, **steps}.items():
            if images := getattr(trainer, setting):
                own.append(f"--trainer.{setting}={max(least, round(images * share))}")
        if isinstance(self.settings, AutoencoderStage) and _has_discriminator(self.settings):
            for setting in SCALED_IN_LOSS:
                if images := getattr(self.settings.loss, setting):
                    own.append(f"--loss.{setting}={round(images * share)}")
        flags = (*self.flags, *own)
        return replace(self, flags=flags, settings=parse_settings(self.stage, list(flags)))


def _has_discriminator(settings: AutoencoderStage) -> bool:
    losses = losses_of_phases(settings.loss, settings.phases)
    return any(loss.adversarial_weight or loss.feature_adversarial_weight for loss in losses)


def read_runs(runs: Mapping[str, Sequence[str]], more: Sequence[str]) -> list[PlannedRun]:
    """The runs of a recipe, their settings read.

    Args:
        runs: For each name its stage and that stage's flags.
        more: Flags of all of them.

    Raises:
        ConfigError: A stage that does not train, a setting that there is not, or latents without an autoencoder.
    """
    found: list[PlannedRun] = []
    for name, (stage, *flags) in ((name, list(words) or [""]) for name, words in runs.items()):
        if stage not in STAGES:
            raise ConfigError(f"runs.{name} must begin with its stage, {' or '.join(STAGES)}, not with {stage!r}")
        flags = [*flags, f"--name={name}", *more]
        try:
            settings = parse_settings(stage, flags)
            check_settings(settings.trainer)
            if isinstance(settings, DiffusionStage):
                check_process(settings.diffusion, settings.network, on_latents=settings.autoencoder != "none")
            else:
                check_phases(settings.loss, settings.phases, settings.trainer)
            found.append(PlannedRun(name, stage, tuple(flags), settings))
        except ConfigError as error:
            raise ConfigError(f"runs.{name}: {error}") from error
    if not found:
        raise ConfigError(
            "the recipe has no runs: give a data set that has a recipe, or the file of a recipe with --config"
        )
    if any(run.is_latent for run in found) and "autoencoder" not in runs:
        raise ConfigError("runs has latent models, but no run named autoencoder to encode their images")
    return sorted(found, key=lambda run: run.name != "autoencoder")  # the others need it


def parse_budget(text: str) -> tuple[float, bool]:
    """A budget's amount, and whether it is in seconds (``2h``, ``45m``, ``90s``) or a share (``0.1``)."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(h|min|m|s|)", text.strip())
    amount = float(match[1]) if match else 0.0
    if match is None or not 0.0 < amount < 1e9:
        raise ConfigError(
            f"budget must be a time such as 2h, 45m or 90s, or a share of the recipe such as 0.1, not {text!r}"
        )
    return amount * SECONDS.get(match[2], 1.0), bool(match[2])


def measure_rates(runs: Sequence[PlannedRun], recipe: Sequence[PlannedRun]) -> dict[str, float]:
    """Images a second that each run trains on this machine, measured in about 20 seconds for all of them.

    Args:
        runs: Those to be measured.
        recipe: All runs, of which one may be the autoencoder of the others.
    """
    seconds = max(LEAST_SECONDS, MEASURED_SECONDS / max(1, len(runs)))
    encoder = next((run.settings for run in recipe if run.name == "autoencoder"), None)
    return {run.name: _measure_rate(run, encoder, seconds) for run in runs}


def _measure_rate(run: PlannedRun, encoder: AutoencoderStage | DiffusionStage | None, seconds: float) -> float:
    settings = run.settings
    with redirect_stdout(StringIO()):
        data = load_dataset(replace(settings.data, max_train_images=MEASURED_IMAGES))
        if isinstance(settings, AutoencoderStage):
            return _autoencoder_rate(settings, data, seconds)
        # What an earlier run of the recipe is still to make may be any of its kind.
        is_unmade = run.is_latent or not (settings.autoencoder == "none" or _is_there(settings.autoencoder))
        if is_unmade and not isinstance(encoder, AutoencoderStage):
            raise ConfigError(
                f"runs.{run.name}: there is no autoencoder {settings.autoencoder}, and no run of the recipe makes one"
            )
        codec = _untrained(encoder, data.train.image_shape) if is_unmade else settings.autoencoder
        own = {"network": settings.network, "diffusion": settings.diffusion, "autoencoder": codec}
        own |= {"init": settings.init if settings.init and _is_there(settings.init) else None}
        own |= {"trainer": _for_seconds(settings.trainer, seconds)}
        model = train_diffusion(data, **own, validation_images=0, quality_images=0)
    return model.metrics[-1]["images_per_second"]


def _autoencoder_rate(settings: AutoencoderStage, data: DatasetSplits, seconds: float) -> float:
    """The rate of a whole run, from that of each phase. A phase begins at a share of the images, so their times add."""
    phases = [None, *accumulate(settings.phases, _joined)]
    starts = [0.0, *(phase.start for phase in settings.phases), 1.0]
    # From the first image on, as in most of the run.
    loss = replace(settings.loss, adversarial_start=0, discriminator_warmup=0)
    trainer = _for_seconds(settings.trainer, max(LEAST_SECONDS / 2, seconds / len(phases)))
    init = settings.init if settings.init and (_is_there(settings.init) or loss.frozen_encoder) else None
    own = {"network": settings.network, "loss": loss, "trainer": trainer, "init": init}
    time = 0.0
    for (begin, end), phase in zip(pairwise(starts), phases, strict=True):
        alone = [] if phase is None else [replace(phase, start=AT_ONCE)]
        model = train_autoencoder(data, **own, phases=alone, validation_images=0)
        time += (end - begin) / model.metrics[-1]["images_per_second"]
    return 1.0 / time


def _is_there(model: str) -> bool:
    """Whether the setting of a model names one that can be read, here or by diffusers."""
    return is_address(model) or resolve_checkpoint(model).exists()


def _joined(before: PhaseConfig, after: PhaseConfig) -> PhaseConfig:
    """A phase with what those before it have changed and it does not mention."""
    kept = {name: value for name, value in vars(before).items() if getattr(after, name) is None}
    return replace(after, **kept)


def _for_seconds(trainer: TrainerConfig, seconds: float) -> TrainerConfig:
    """The settings of a training of this many seconds, in one epoch. It is not compiled, which takes minutes, and no
    tracker hears of it."""
    free = {"max_images": None, "images_per_epoch": 10**9, "monitor": None, "stop_patience": None}
    return replace(trainer, max_seconds=seconds, lr_schedule="cosine", compile="off", loggers=(), **free)


def _untrained(encoder: AutoencoderStage | DiffusionStage | None, image_shape: tuple[int, int, int]) -> Codec:
    """An untrained autoencoder, since the time of a step does not depend on its weights."""
    assert isinstance(encoder, AutoencoderStage)  # read_runs has asked for one
    network, channels = encoder.network, encoder.network.latent_channels
    return AutoencoderCodec(Autoencoder(image_shape, network), network, torch.zeros(channels), torch.ones(channels))


def share_left(run: PlannedRun, folder: Path) -> float:
    """The part of an interrupted run that is still to be trained; 1 for one that would begin anew."""
    trainer = run.settings.trainer
    if not (folder / LAST).is_file():
        return 1.0
    row = last_row(folder / METRICS)
    limits = {"images_seen": trainer.max_images, "seconds": trainer.max_seconds}
    spent = [row[column] / limit for column, limit in limits.items() if limit and column in row]
    return max(0.0, 1.0 - max(spent, default=0.0))


def describe_plan(
    runs: Sequence[PlannedRun], rates: Mapping[str, float], done: Sequence[str], left: Mapping[str, float] | None = None
) -> str:
    """A line for each run with its length, and a line with the total time of the unfinished runs.

    Args:
        runs: All of them.
        rates: Images a second, by a run's name.
        done: The names of the finished runs.
        left: The part of each other run that is still to be trained. Default: all of it.
    """
    lines: list[str] = []
    total, width = 0.0, max(len(run.name) for run in runs)
    for run in runs:
        seconds, trainer = run.seconds(rates.get(run.name)) * (left or {}).get(run.name, 1.0), run.settings.trainer
        images = f"{trainer.max_images:,} images" if trainer.max_images else "as many images as that allows"
        lines.append(f"  {run.name:<{width}}  {'done' if run.name in done else clock(seconds):>10}  {images}")
        total += 0.0 if run.name in done else seconds
    count = sum(run.name not in done for run in runs)
    head = f"{count} training run{'s' * (count != 1)}, about {clock(total)} on this machine"
    return "\n".join([head + (", measured over 20 seconds:" if rates else ":"), *lines])


def clock(seconds: float) -> str:
    """A length of time in words: ``3 h 40 min``, ``12 min`` or ``45 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
