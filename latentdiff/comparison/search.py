"""A search for good settings of the diffusion stage by Optuna: many short trainings, each of the same length."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.codec import Codec
from latentdiff.command_line import parse
from latentdiff.comparison.cached_runs import flags_of_file
from latentdiff.comparison.search_space import SearchSpace, read_space, with_settings
from latentdiff.comparison.study import EXTRA, FILES, Pruned, SharedStudy, Trial
from latentdiff.comparison.sweep import settings_file
from latentdiff.config import DataConfig, to_dict
from latentdiff.config.comparison_stages import SweepStage
from latentdiff.config.run import default_folder
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.config.yaml_text import dump_yaml
from latentdiff.data import DatasetSplits, NoSplitError, load_dataset
from latentdiff.errors import ConfigError, DivergenceError, FolderError, StageError
from latentdiff.extras import import_extra
from latentdiff.files import write_atomically
from latentdiff.folder_mark import claim, is_new_or_empty, read_mark
from latentdiff.from_diffusers.address import is_address
from latentdiff.inference.model import DiffusionModel
from latentdiff.latents import CachedLatents, cache_latents, check_autoencoder, find_codec
from latentdiff.models.network import check_network
from latentdiff.precision import num_threads
from latentdiff.report.search_page import FIGURES, budget_words, search_page, trial_sentence
from latentdiff.runs.run_folder import flatten, write_config
from latentdiff.training.budget_looks import BudgetLooks
from latentdiff.training.diffusion_checks import check_process
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.dry_run import step_cost
from latentdiff.training.fine_tune import check_initial_weights
from latentdiff.training.learning_rate import is_long_warmup
from latentdiff.training.quality_probe import QualityProbe
from latentdiff.training.train_diffusion import train_diffusion
from latentdiff.training.trainer import check_settings

PAGE, RECORD, BEST, LOG, SETTINGS = "index.html", "search.json", "best.yaml", "trials.log", "config.yaml"
# Images set apart for validation where a data set has none and could have some.
VALIDATION_IMAGES = 2000
# Seconds between two pages while trials go on.
PAGE_EVERY = 60.0
NEVER = 10**9


def run_search(config: SweepStage) -> Path:
    """Try settings until the study has ``config.trials`` trials; return the search's folder, with its page.

    Everything is checked before the folder is touched. A folder that another process searches in is joined.

    Raises:
        ConfigError: The settings are invalid, or Optuna is not installed.
        FolderError: The folder is another's, or its search was begun with other settings.
        StageError: With several jobs, one of them ended with an error; or no trial was completed.
    """
    space, stage = check_search(config)
    folder = search_folder(config)
    if read_mark(folder) is None and not is_new_or_empty(folder):
        raise FolderError(f"{folder} holds other things than a search: move them away, or begin with another --name")
    training = TrialTraining(config, space, stage)
    # Once: not by each process that takes part, nor each time that the search goes on.
    if read_mark(folder) is None and (words := warmup_words(config, space, training)):
        print(words, flush=True)
    claim(folder, (*FILES, *FIGURES, PAGE, RECORD, BEST, LOG, SETTINGS), "sweep")
    study = SharedStudy(
        folder,
        space,
        config.sampler,
        config.pruner,
        config.looks,
        config.seed,
        training.conditions(),
        space.values_of(stage),
    )
    # With these settings any other machine takes part: one job each, unless it is told otherwise.
    write_config(replace(config, jobs=1), folder)
    if config.jobs > 1:
        _run_processes(folder, config.jobs)
    else:
        _run_trials(config, study, training, folder)
    _write(config, study, training, folder)
    print(f"{folder / PAGE}")
    if not any(row["state"] == "complete" for row in study.rows()):
        raise StageError(
            f"no trial was completed, so there is no {BEST}: {folder / LOG} says why each trial failed. Change "
            "the space or the length, and search under another --name"
        )
    return folder


def search_folder(config: SweepStage) -> Path:
    """The folder of a search. Each trial length has its own folder."""
    amount, unit = budget_of(config)
    length = f"{amount:.0f}" if amount == int(amount) < 10**9 else f"{amount:g}".replace("+", "")
    return default_folder("sweep", f"{config.data.name}-{config.name}") / f"search-{length}-{unit}"


def budget_of(config: SweepStage) -> tuple[float, str]:
    """The length of each trial: so many ``images``, ``flops`` or ``seconds``."""
    for unit in ("images", "flops"):
        if (amount := getattr(config, unit)) is not None:
            return amount, unit
    return config.seconds, "seconds"


def check_search(config: SweepStage) -> tuple[SearchSpace, DiffusionStage]:
    """The space, and the settings that all trials have in common. Raises ConfigError for invalid settings."""
    for name in ("runs", "finalists", "finalist_images"):
        if getattr(config, name) != getattr(SweepStage(), name):
            raise ConfigError(f"--{name} is for a list of runs: leave it out, or use --search list")
    given = [unit for unit in ("images", "flops") if getattr(config, unit) is not None]
    if len(given) > 1 or (given and config.seconds != SweepStage.seconds):
        raise ConfigError("a trial has one length: give only one of --seconds, --images and --flops")
    if config.space is None:
        raise ConfigError("a search needs --space: a YAML file of what it may change, such as sweeps/latent.yaml")
    import_extra("optuna", EXTRA)
    space = read_space(config.space)
    stage = parse(DiffusionStage, _flags(config))
    if stage.data.name != config.data.name:  # which names the folder
        raise ConfigError(
            f"the settings that all trials start from are for {stage.data.name}: add --data.name {stage.data.name}"
        )
    if stage.trainer.devices * stage.trainer.num_nodes > 1:
        raise ConfigError(
            "a trial trains in one process: leave out --trainer.devices, and run several trials at a time with --jobs"
        )
    try:
        check_process(stage.diffusion, stage.network, on_latents=stage.autoencoder != "none")
        check_network(stage.network)
        check_settings(with_budget(stage, config, config.flops or 1.0).trainer)
    except ValueError as error:
        raise ConfigError(f"the settings that all trials start from: {error}") from error
    if stage.network.text != "none" and config.flops is not None:
        raise ConfigError("--flops is not for models that read captions: give --seconds or --images")
    # Before the images, which may take minutes.
    check_autoencoder(stage.autoencoder, stage.data)
    if stage.init is not None and not is_address(stage.init):
        check_initial_weights(stage.init, "diffusion")
    return space, stage


def with_budget(stage: DiffusionStage, config: SweepStage, flops_an_image: float) -> DiffusionStage:
    """The settings of a trial: with the length of a trial, and without monitor and loggers."""
    amount, unit = budget_of(config)
    if unit == "seconds":
        stage = with_length(stage, max_seconds=amount)
    else:
        stage = with_length(stage, max_images=max(1, int(amount / (flops_an_image if unit == "flops" else 1))))
    return replace(stage, trainer=replace(stage.trainer, monitor=None, loggers=()))


def with_length(
    stage: DiffusionStage, *, max_images: int | None = None, max_seconds: float | None = None
) -> DiffusionStage:
    """The settings with another length, and without early stopping."""
    length = {"max_images": max_images, "max_seconds": max_seconds, "stop_patience": None}
    return replace(stage, trainer=replace(stage.trainer, **length))


def warmup_words(config: SweepStage, space: SearchSpace, training: TrialTraining) -> str | None:
    """A warning if the learning rate may rise for longer than half a trial; else None."""
    shortest, longest = space.range_of("trainer.lr_warmup_images", training.stage)
    length = training.first_length()
    if length is None or not is_long_warmup(longest, length):
        return None
    some = not is_long_warmup(shortest, length)
    return (
        f"the learning rate rises over {'up to ' if some else ''}{longest:,} images, and a trial has {length:,}: "
        f"{'some trials' if some else 'it'} will learn little. Lower trainer.lr_warmup_images in "
        f"{'--space' if shortest < longest else '--flags'}, or raise --{budget_of(config)[1]}."
    )


class TrialTraining:
    """What one process needs to try settings: the images, their latents, and what measures samples.

    Args:
        config: Of the search.
        space: What it may change.
        stage: The settings that all trials begin from.

    Raises ConfigError if there is nothing to choose by (no validation images, or no net to measure with), or if the
    autoencoder is for other images.
    """

    def __init__(self, config: SweepStage, space: SearchSpace, stage: DiffusionStage):
        self.config, self.space, self.stage = config, space, stage
        self.splits = _with_validation(stage.data)
        # One that all trials use is checked before any, in its file and against the images.
        if not any("autoencoder" in dimension.names for dimension in space.dimensions):
            find_codec(stage.autoencoder, self.splits)
        device = check_settings(with_budget(stage, config, config.flops or 1.0).trainer)
        probe = QualityProbe.build(
            self.splits.val, config.num_images, device, config.quality_net, stage.features_folder
        )
        if probe is None:
            raise ConfigError(
                "a search needs a metric to choose by: train a classifier for these images (latentdiff classifier), or "
                "name the file of the FID Inception with LATENTDIFF_INCEPTION"
            )
        self.probe = probe
        self._latents: dict[str, CachedLatents] = {}

    @property
    def metric(self) -> str:
        """The metric that the search minimises: ``distance`` or ``kid``."""
        return self.probe.metric

    def conditions(self) -> dict[str, Any]:
        """What all trials of a study must have in common, so that their figures can be compared."""
        amount, unit = budget_of(self.config)
        stage = flatten(to_dict(self.stage))
        usual = flatten(to_dict(DiffusionStage()))
        here = ("data.", "run.", "trainer.num_threads", "latents_folder", "features_folder", "name")
        # Of the data, what the fingerprints of the images do not tell.
        of_data = {key: stage[key] for key in ("data.hflip", "data.captions") if stage[key] != usual[key]}
        return {
            **of_data,
            unit: amount,
            "metric": self.metric,
            "net": self.probe.net.weights_sha256,
            "num_images": self.config.num_images,
            "training images": self.splits.train.fingerprint,
            "validation images": self.splits.val.fingerprint,
            "settings": {key: stage[key] for key in stage if stage[key] != usual.get(key) and not key.startswith(here)},
        }

    def __call__(self, trial: Trial) -> float:
        """Train with a trial's settings; the figure at the end, on validation images."""
        stage = with_settings(self.stage, self.space.settings(trial.values))
        latents = self._latents_of(stage.autoencoder)
        stage = with_budget(stage, self.config, self._flops_of_image(stage, latents.codec, latents.moments[:1]))
        facts: dict[str, Any] = {"max_images": stage.trainer.max_images}

        def look(number: int) -> None:
            assert looks.module is not None
            network = looks.module.ema.network
            names = self.splits.train.class_names if network.null_label is not None else ()
            facts.update(images_seen=looks.module.images_seen, seconds=looks.module.seconds)
            facts.update(parameters=_size(network))
            model = DiffusionModel(network, stage.network, stage.diffusion, latents.codec, names)
            try:
                found = self.probe(model)[self.metric]
            except DivergenceError:  # A young model may draw no images. If it stays so, its end says so.
                return
            trial.report(number, found)

        # Without a pruner only the end counts.
        looks = BudgetLooks(1 if self.config.pruner == "none" else self.config.looks, look)
        try:
            model = train_diffusion(
                latents,
                network=stage.network,
                diffusion=stage.diffusion,
                trainer=stage.trainer,
                name=stage.name,
                init=stage.init,
                validation_images=0,
                quality_images=0,
                sample_every=NEVER,
                callbacks=[looks],
            )
        except Pruned:
            trial.describe(**facts)
            raise
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ConfigError("it does not fit into the memory of the device") from error
        found = self.probe(model)
        facts.update({key: model.provenance[key] for key in ("images_seen", "seconds")})
        facts |= {"parameters": _size(model.network), "class_accuracy": found.get("class_accuracy")}
        trial.describe(**facts)
        trial.report(self.config.looks, found[self.metric])
        return found[self.metric]

    def _latents_of(self, autoencoder: str) -> CachedLatents:
        """The training images through a codec, encoded once; settings may differ in it."""
        if autoencoder not in self._latents:
            self._latents[autoencoder] = cache_latents(autoencoder, self.splits, folder=self.stage.latents_folder)
        return self._latents[autoencoder]

    def first_length(self) -> int | None:
        """Images of a trial of the settings that the search begins from; None where trials are so many seconds long."""
        if self.config.flops is None:
            return self.config.images
        codec = find_codec(self.stage.autoencoder, self.splits)
        flops = self._flops_of_image(self.stage, codec, codec.encode(self.splits.train.images[:1]).cpu())
        return with_budget(self.stage, self.config, flops).trainer.max_images

    def _flops_of_image(self, stage: DiffusionStage, codec: Codec, moments: Tensor) -> float:
        """Operations of an image, whose moments are [1, ...], in a training step, where trials are measured so."""
        if self.config.flops is None:
            return 1.0
        train = self.splits.train
        trainer = replace(stage.trainer, max_images=1)
        module = DiffusionModule(codec, train.num_classes, stage.network, stage.diffusion, trainer)
        return step_cost(module, (moments, train.labels[:1])).flops


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _flags(config: SweepStage) -> list[str]:
    """The flags of the diffusion stage that all trials have alike."""
    return [*flags_of_file(settings_file(config), config.data), *config.flags]


def _with_validation(config: DataConfig) -> DatasetSplits:
    """The data set with validation images: its own, or some of the training images. Test images are never used."""
    splits = load_dataset(config)
    try:
        if len(splits.val) > 1:
            return splits
    except NoSplitError:
        pass
    try:
        apart = load_dataset(replace(config, val_images=VALIDATION_IMAGES))
        print(f"{len(apart.val):,} training images of {config.name} are set apart as validation images")
    except (ConfigError, NoSplitError) as error:
        raise ConfigError(
            f"a search needs validation images, and {config.name} has none. {VALIDATION_IMAGES:,} training images "
            f"cannot be set apart: {error}"
        ) from error
    return apart


def _run_trials(config: SweepStage, study: SharedStudy, training: TrialTraining, folder: Path) -> None:
    """Try settings in this process, a line each, and renew the page now and then."""
    written = time.monotonic()

    def tried(trial: Trial) -> float:
        with open(folder / LOG, "a", buffering=1) as log, redirect_stdout(log):
            print(f"\ntrial {trial.number}: {json.dumps(dict(trial.values))}")
            return training(trial)

    def after(trial: Trial) -> None:
        nonlocal written
        rows = study.rows()
        ended = next((row for row in rows if row["number"] == trial.number), None)
        of = f"{sum(row['state'] != 'running' for row in rows)} of {config.trials}"
        if ended is not None:  # another process had taken it over, which a line has said
            print(f"{of}: {trial_sentence(ended, training.metric)}", flush=True)
        if time.monotonic() - written > PAGE_EVERY:
            _write(config, study, training, folder)
            written = time.monotonic()

    with num_threads(training.stage.trainer.num_threads), _a_page_at_the_end(config, study, training, folder):
        study.run(tried, config.trials, (ConfigError, DivergenceError), after)


@contextmanager
def _a_page_at_the_end(config: SweepStage, study: SharedStudy, training: TrialTraining, folder: Path) -> Iterator[None]:
    """Write the page also if the user ends the search with Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        _write(config, study, training, folder)
        print(
            f"interrupted: {folder / PAGE} has the results so far. The same command continues the search.", flush=True
        )
        raise


def _run_processes(folder: Path, jobs: int) -> None:
    """Search in several processes of this machine. A signal that ends this process ends them too.

    Raises StageError where one of them ended with an error.
    """
    command = [sys.executable, "-m", "latentdiff.stages.sweep", "--config", str(folder / SETTINGS), "--jobs", "1"]
    # In a session each, so that a terminal's Ctrl-C comes to each of them once: from here.
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(jobs)]
    told: list[int] = []

    def tell(number: int, _: Any) -> None:
        told.append(number)
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ends = [process.wait() for process in processes]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        raise KeyboardInterrupt
    if bad := sum(end != 0 for end in ends):
        raise StageError(
            f"{bad} of {jobs} processes failed or were killed (see above). The results so far are kept in "
            f"{folder}; the same command continues the search"
        )


def _write(config: SweepStage, study: SharedStudy, training: TrialTraining, folder: Path) -> None:
    """The page, its numbers, and the best settings as a file that trains."""
    amount, unit = budget_of(config)
    rows = study.rows()
    complete = [row for row in rows if row["state"] == "complete"]
    best = min(complete, key=lambda row: row["value"], default=None)
    record = {
        "schema": 1,
        "name": config.name,
        "data": training.splits.name,
        "metric": training.metric,
        "num_images": config.num_images,
        "budget": {"amount": amount, "unit": unit},
        "trials_wanted": config.trials,
        "sampler": config.sampler,
        "pruner": config.pruner,
        "looks": config.looks,
        "seed": config.seed,
        "space": study.space.to_dict(),
        "best": best and best["number"],
        "importance": study.importance(),
        "trials": rows,
        "train": f"latentdiff diffusion --config {folder / BEST}",
        "go_on": f"latentdiff sweep --config {folder / SETTINGS}",
    }
    files = search_page(record)
    files[RECORD] = json.dumps(record, indent=1, ensure_ascii=False).encode()
    if best:
        files[BEST] = best_settings(config, training.stage, study.space.settings(best["values"]), record).encode()
    for name, content in files.items():
        write_atomically(folder / name, lambda path, content=content: path.write_bytes(content))


def best_settings(config: SweepStage, stage: DiffusionStage, found: dict[str, Any], record: dict[str, Any]) -> str:
    """YAML of the diffusion stage: the settings that all trials began from, what was found, and the trial's length."""
    trial = next(row for row in record["trials"] if row["number"] == record["best"])
    amount, unit = budget_of(config)
    # A journal of earlier versions does not have the length of a trial of so many operations.
    images = int(amount) if unit == "images" else trial["facts"].get("max_images") or trial["facts"]["images_seen"]
    length: dict[str, Any] = {"max_seconds": amount} if unit == "seconds" else {"max_images": images}
    best = replace(with_length(with_settings(stage, found), **length), name=f"{config.name}-best")
    usual = flatten(to_dict(DiffusionStage()))
    own = {key: value for key, value in flatten(to_dict(best)).items() if value != usual.get(key)}
    nested: dict[str, Any] = {}
    for name, value in own.items():
        section, _, leaf = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[leaf] = value
    metric, value, count = record["metric"], trial["value"], len(record["trials"])
    words = (
        f"# The best of {count} trials by Optuna ({record['sampler']}): {metric} {value:.4g} on validation images,\n"
        f"# after {budget_words(record)} of training. It trains as long as its trial did.\n"
        f"# --trainer.{next(iter(length))} gives it another length.\n"
    )
    return words + dump_yaml(nested)
