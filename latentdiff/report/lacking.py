"""What a report lacks, each with the command that makes it; the page and the console say the same."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import NamedTuple

from latentdiff.report.evaluation import Evaluation

EVALUATE = ("python", "-m", "latentdiff.stages.evaluate", "--checkpoint")
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


class Lack(NamedTuple):
    """What is not in the report, in a sentence, and the ``command`` that makes it."""

    text: str
    command: str

    def __str__(self) -> str:
        return f"{self.text} {self.command}"


def lacking_baselines(evaluations: list[Evaluation]) -> list[Lack]:
    """Which of noise, Gaussian noise, the VAE baseline and, where there is a latent model, the autoencoder's
    reconstructions have no row. The commands measure as many images against the same real ones."""
    roles = {item.role for item in evaluations}
    needed = [role for role in BASELINES if role != "reconstruction" or "latent" in roles]
    same = ["--num_images", str(evaluations[0].values["num_images"])]
    for name, value in _options(evaluations[0]).items():
        if name.startswith("data.") or name == "real_images":
            same += [f"--{name}", value]
    return [
        Lack(BASELINES[role][0], shlex.join([*EVALUATE, *BASELINES[role][1], *same]))
        for role in needed
        if role not in roles
    ]


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
            options[name] = value if equals else following
    return options
