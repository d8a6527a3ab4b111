"""Training runs and evaluations that a larger command needs: made once, and used again by the next call."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdiff import checkpoint
from latentdiff.command_line import command as command_line
from latentdiff.command_line import parse
from latentdiff.config import DataConfig, to_dict
from latentdiff.config.data import data_flags
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.data import load_split
from latentdiff.errors import ConfigError, FolderError, ReportError, StageError
from latentdiff.evaluation.available_nets import find_feature_nets, find_lpips_net
from latentdiff.evaluation.evaluate import evaluate_with_settings
from latentdiff.evaluation.measurements import METHOD_VERSION
from latentdiff.files import file_sha256
from latentdiff.precision import resolve_device
from latentdiff.report.evaluation import FILE, read_evaluation
from latentdiff.runs.find import find_autoencoder
from latentdiff.runs.release import has_its_guide
from latentdiff.runs.run_folder import flatten

# Images of each model: what two CPU cores measure within ten minutes with Inception, and quickly without it.
IMAGES_ON_GPU, IMAGES_WITH_INCEPTION, IMAGES_WITHOUT_INCEPTION = 10_000, 1_000, 2_000
# Places: what lies there is compared by its content.
PLACES = {"data.cache_folder", "data.path", "data.root", "data.source", "features_folder", "latents_folder"}
# Where a run is limited by images, these change its time, and no more than the last digits of its weights.
CHANGE_TIME_ALONE = {
    "trainer.compile",
    "trainer.devices",
    "trainer.memory",
    "trainer.num_nodes",
    "trainer.num_threads",
    "trainer.strategy",
}
STAGES = {"autoencoder": AutoencoderStage, "diffusion": DiffusionStage}


def train_once(stage: str, flags: list[str], folder: Path, log: Path | None = None) -> Path:
    """Return ``folder``'s model file, trained by ``stage`` with ``flags``. A missing one is trained, or resumed, now.

    What the run prints goes to ``log`` where one is given.

    Raises:
        FolderError: The model there was trained with other settings, or on another autoencoder's latents.
        StageError: The run ended with an error, which it has printed.
    """
    if model := find_finished_model(stage, flags, folder):
        return model
    command = ["-m", f"latentdiff.stages.{stage}", *flags, "--run.folder", str(folder)]
    model = folder / "model.safetensors"
    if (folder / "last.ckpt").is_file():
        command += ["--run.resume", "true"]
    print(f"\n$ python {shlex.join(command)}", flush=True)
    if log is None:
        if status := subprocess.run([sys.executable, *command]).returncode:
            raise StageError(
                f"the stage above failed with status {status}. Fix the cause and repeat the same command: it continues."
            )
        return model
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as lines:
        if subprocess.run([sys.executable, *command], stdout=lines, stderr=subprocess.STDOUT).returncode:
            raise StageError(
                f"the run in {folder} failed; see the last lines of {log}. Fix the cause and repeat the same command: "
                "it continues."
            )
    return model


def find_finished_model(stage: str, flags: list[str], folder: Path, at_any_speed: bool = False) -> Path | None:
    """Return ``folder``'s model file if it exists, else None. Raises as :func:`train_once` does if it was trained with
    other settings.

    ``at_any_speed``: the model alone is wanted, and not how long it took. A run that is limited by images may then have
    had other threads, devices or memory.

    For one thread at a time: reading settings changes the working directory for a moment, which all threads share.
    """
    model = folder / "model.safetensors"
    if not model.is_file():  # it is written at a run's end
        return None
    if differences := _differences(stage, flags, model, at_any_speed):
        raise FolderError(f"{folder} holds a run with other settings: {'; '.join(differences)}. Rename or remove it")
    return model


def parse_settings(stage: str, flags: list[str]) -> Any:
    """What ``flags`` set of a training stage; raises ConfigError where one is unknown or cannot be read."""
    return parse(STAGES[stage], flags)


def flags_of_file(file: str, data: DataConfig) -> list[str]:
    """The flags of a file of settings of the diffusion stage, and of the data set.

    Data of another name replace all that the file says about its data set, such as how many images it sets apart.
    """
    own = parse(DiffusionStage, ["--config", file]).data
    replaces = data.name not in (own.name, DataConfig.name)  # the default is no one's choice
    return ["--config", file, *data_flags(data, own if replaces else None)]


def effective_settings(config: Any, at_any_speed: bool = True) -> dict[str, Any]:
    """The settings of a training stage that its result depends on, flat, as plain values of JSON.

    Args:
        config: All its settings.
        at_any_speed: Whether the time that it takes is not a part of the result. Without effect where the time is the
            run's limit.
    """
    free = PLACES | {"trainer.loggers"}
    free |= CHANGE_TIME_ALONE if at_any_speed and config.trainer.max_seconds is None else set()
    flat = flatten(json.loads(json.dumps(to_dict(config))))
    return {key: value for key, value in flat.items() if key not in free and not key.startswith("run.")}


def _differences(stage: str, flags: list[str], model: Path, at_any_speed: bool) -> list[str]:
    """The settings of a finished run that differ from those of ``flags``, in words."""
    config = parse_settings(stage, flags)
    made = checkpoint.read_header(model).get("provenance") or {}
    if not made.get("config"):
        return ["its file does not record its settings"]
    now = effective_settings(config, at_any_speed)
    # A setting that its version did not have yet was at its default.
    before = flatten(json.loads(json.dumps(to_dict(type(config)())))) | flatten(made["config"])
    data = made.get("data") or {}
    if not data.get("class_names") and before.get("network.class_conditional") is False:
        now.pop("network.class_conditional", None)  # the training has set it: the data set has no classes
    found: list[str] = []
    if made.get("stage_one_sha256") and config.autoencoder != "none":
        del now["autoencoder"]
        autoencoder = find_autoencoder(config.autoencoder, config.data)
        if file_sha256(autoencoder) != made["stage_one_sha256"]:
            found.append(f"it was trained with another autoencoder than {autoencoder}")
    found += [f"{key} was {before[key]}, is {now[key]}" for key in now if key in before and before[key] != now[key]]
    return found or _other_images(config, data)


def _other_images(config: Any, before: dict[str, Any]) -> list[str]:
    """What differs between the training images as they are now and as a finished run has seen them."""
    train = load_split(config.data, "train")
    if before.get("fingerprint") != train.fingerprint:
        return ["its training images have changed"]
    if list(before.get("class_names") or []) != list(train.class_names):
        return ["the names of its classes have changed"]
    return []


@dataclass(frozen=True)
class EvaluationConditions:
    """The conditions under which several models are evaluated, the same for all.

    Attributes:
        flags: Of the evaluate stage.
        num_images: Of each model.
        fingerprints: Of the real training and test images.
        nets: SHA-256 of the weights of each net that measures here, by its key in an evaluation.
        num_real: Number of real images of each split. None if it equals ``num_images``.
    """

    flags: list[str]
    num_images: int
    fingerprints: tuple[str, str]
    nets: dict[str, str]
    num_real: int | None = None

    @classmethod
    def on_this_machine(
        cls,
        data: DataConfig,
        num_images: int | None = None,
        quick: bool = False,
        num_real: int | None = None,
        without: Collection[str] = (),
    ) -> EvaluationConditions:
        """The conditions for this machine. ``num_images`` is at most the size of the test split. Default: 10,000 on a
        GPU. On a CPU, 1,000 against as many real images with Inception, and 2,000 with the classifier alone.

        ``quick`` leaves out Inception where there is a classifier, and LPIPS. ``num_real`` is the number of real images
        of each split, where it is known. ``without`` leaves out ``inception`` or ``lpips``.
        """
        if num_images is not None and num_images < 2:
            raise ConfigError(f"num_images must be at least 2 to measure a distance, not {num_images}")
        device = resolve_device("auto")
        train, test = load_split(data, "train"), load_split(data, "test")
        nets = find_feature_nets(test, device, data)
        only = ["classifier"] if quick and "classifier" in nets else [key for key in nets if key not in without]
        hashes = {key: nets[key].weights_sha256 for key in only}
        if not (quick or "lpips" in without) and (lpips := find_lpips_net(device)):
            hashes["lpips"] = lpips.weights_sha256
        gpu, inception = device.type == "cuda", "inception" in only
        count = min(
            num_images or (IMAGES_ON_GPU if gpu else IMAGES_WITH_INCEPTION if inception else IMAGES_WITHOUT_INCEPTION),
            len(test),
        )
        real = ["--real_images", str(num_real or count)] if num_real or (inception and not gpu) else []
        others = num_real not in (None, count)
        less = ["--lpips", "off"] if quick or "lpips" in without else []
        less += ["--inception", "off"] if (quick or "inception" in without) and not inception else []
        flags = ["--num_images", str(count), *real, *less, *data_flags(data)]
        fingerprints = train.fingerprint, test.fingerprint
        return cls(flags, count, fingerprints, hashes, num_real if others else None)

    @property
    def folder(self) -> str:
        """Name of the folder of evaluations under these conditions. Without Inception it is another folder."""
        against = "" if self.num_real is None else f"-against-{self.num_real}"
        return f"{self.num_images}-images{against}" + ("" if "inception" in self.nets else "-without-inception")

    def match(self, evaluation: dict[str, Any]) -> bool:
        """Whether an ``evaluation.json`` was made under these conditions."""
        data, features = evaluation.get("data") or {}, evaluation.get("features") or {}
        nets = {key: about["weights_sha256"] for key, about in features.items() if about}
        own = (data.get("train_fingerprint"), data.get("test_fingerprint"))
        return own == self.fingerprints and nets == self.nets and evaluation.get("method") == METHOD_VERSION


def evaluate_once(flags: list[str], folder: Path, model: Path | None, conditions: EvaluationConditions) -> Path:
    """Return ``folder``, which holds the evaluation of ``model`` by ``flags``. A missing one is made now."""
    arguments = [*flags, *conditions.flags, "--run.folder", str(folder), "--run.overwrite", "true"]
    command = command_line("evaluate", arguments)
    before = _read(folder)
    same_model = model is None or (before.get("model") or {}).get("sha256") == file_sha256(model)
    same = same_model and has_its_guide(before.get("sampling") or {})
    if before.get("command") != command or not same or not conditions.match(before):
        print(f"\n$ {command}", flush=True)
        evaluate_with_settings(parse(EvaluateStage, arguments), command)
    return folder


def _read(folder: Path) -> dict[str, Any]:
    """The evaluation in a folder; empty if there is none, or if it is damaged and must be made again."""
    if not (folder / FILE).is_file():
        return {}
    try:
        return read_evaluation(folder).values
    except ReportError as error:
        print(f"made again: {error}", flush=True)
        return {}
