"""What is missing from a report, each with the command that makes it. The page and the console say the same."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple, get_args

from latentdiff.config import DataConfig
from latentdiff.config.data import DatasetName
from latentdiff.report.evaluation import Evaluation

SAMPLERS = ("python", "-m", "latentdiff.stages.samplers", "--model")
EVALUATE = ("python", "-m", "latentdiff.stages.evaluate", "--model")
# Data sets that a command finds by their name alone.
NAMED_DATA_SETS = set(get_args(DatasetName)) - {"folder", "parquet", "datasets", "webdataset", "mixed", "tensors"}
# What stands for a file that is not known here.
FILE = "FILE"
BASELINES = {
    "noise": ("Noise, the far end of the scale, is not in this report:", ("noise",)),
    "gaussian": (
        "Gaussian noise of the training images' mean and covariance is not in this report:",
        ("gaussian",),
    ),
    "prior": ("The VAE baseline is not in this report (FILE is a VAE's):", (FILE, "--mode", "prior")),
    "reconstruction": (
        "The autoencoder's reconstructions, the latent models' ceiling, are not in this report (FILE is that "
        "autoencoder's):",
        (FILE,),
    ),
}


class Missing(NamedTuple):
    """What is not in the report, in a sentence, and the ``command`` that makes it."""

    text: str
    command: str

    def __str__(self) -> str:
        return f"{self.text} {self.command}"


def missing_baselines(evaluations: list[Evaluation]) -> list[Missing]:
    """Which of noise, Gaussian noise, the VAE baseline and, where there is a latent model, the autoencoder's
    reconstructions have no row. The commands measure as many images against the same real ones."""
    roles = {item.role for item in evaluations}
    needed = [role for role in BASELINES if role != "reconstruction" or "latent" in roles]
    if (first := next(filter(_has_command, evaluations), None)) is None:
        return []
    count, data = first.values["num_images"], first.values["data"]
    same = ["--num_images", str(count), *_real_images(first, "real_images")]
    flags = {role: [*BASELINES[role][1], *same] for role in needed}
    if "reconstruction" in needed and count > data["test_images"]:
        # So many images can be reconstructed of the training split alone, against as many, or of neither.
        again = [FILE, "--reconstruct", "train", "--num_images", str(count), *_real_images(first)]
        flags["reconstruction"] = again if count <= data["train_images"] else []
    return [
        Missing(BASELINES[role][0], shlex.join([*EVALUATE, *flags[role]]))
        for role in needed
        if role not in roles and flags[role]
    ]


def missing_samplers(evaluations: list[Evaluation], measured: Collection[str]) -> Missing | None:
    """Which diffusion models' samplers have not been measured against their steps, all in one; None where none is left.

    Args:
        evaluations: Of the report.
        measured: SHA-256 of the model files that have been.

    The measure is the classifier's distance, so models whose evaluation has no classifier are not named: of their data
    set the command would end with an error.
    """
    left = [
        item
        for item in evaluations
        if item.role in ("pixel", "latent")
        and item.get("model", "sha256") not in measured
        and item.get("features", "classifier")
    ]
    if not left:
        return None
    if (known := next(filter(_has_command, left), None)) is None:
        return None
    files = [_file(item) for item in left]
    same = _real_images(known)
    if len(left) == 1:
        return Missing(f"Not measured for {left[0].name}:", shlex.join([*SAMPLERS, files[0], *same]))
    named = (f"{item.name} ({file})" if file != FILE else item.name for item, file in zip(left, files, strict=True))
    return Missing(f"Not measured for {', '.join(named)}, each as FILE:", shlex.join([*SAMPLERS, FILE, *same]))


def _has_command(evaluation: Evaluation) -> bool:
    """Whether a command can measure against the same images; none can where a Python program held them."""
    name = evaluation.values["data"]["name"]
    if {"config", "data"} & set(_options(evaluation)):
        return False  # the file may have named the images, and may have changed
    return bool(evaluation.get("command")) or name in NAMED_DATA_SETS or name.startswith("hf:")


def _file(evaluation: Evaluation) -> str:
    """The model's file as it was typed, else by its bare name, else what stands for it."""
    return _options(evaluation).get("model") or evaluation.get("model", "path") or FILE


def _real_images(evaluation: Evaluation, *more: str) -> list[str]:
    """The flags that chose the real images it was measured against, and those named ``more``.

    Of an evaluation that was made from Python, the flags that choose the data set by its name.
    """
    if not evaluation.get("command"):
        data = evaluation.values["data"]
        named = [] if data["name"] == DataConfig.name else ["--data.name", data["name"]]
        return [*named, *(["--data.source", "embedded"] if data["source"] == "embedded" else [])]
    chosen = ((name, value) for name, value in _options(evaluation).items() if name.startswith("data.") or name in more)
    return [word for name, value in chosen for word in (f"--{name}", value)]


def _options(evaluation: Evaluation) -> dict[str, str]:
    """The options of the command that measured it, by their names; none where it is not known."""
    try:
        words = shlex.split(evaluation.get("command") or "")
    except ValueError:  # Written by hand: no command line has a quote without its end.
        return {}
    options = {}
    for word, following in pairwise([*words, ""]):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given = "true" if not following or following.startswith("--") else following
            options[name.replace("-", "_")] = value if equals else given
    return options
