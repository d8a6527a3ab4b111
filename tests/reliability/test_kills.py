"""Every stage that writes, killed at seeded moments: the same command again ends as if it had never been killed."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from latentdiff import checkpoint, run_checkpoint
from latentdiff.digest import read_json
from latentdiff.folder_mark import MARKER, read_mark
from tests.conftest import TRAINER
from tests.reliability.conftest import CODEC as RELEASED_CODEC
from tests.reliability.conftest import DATA, MEASURED, PIXEL, RELEASED, SEARCH, SHORT, STAGES
from tests.reliability.killing import Ended, processes

pytestmark = pytest.mark.slow
RUN = "--run.folder=run"
# Kills of each command; of those here, the stage and the settings too.
KILLS = {"autoencoder": 5, "diffusion": 4, "classifier": 2, "latents": 2, "sample": 4, "evaluate": 4, "compare": 3}
KILLS |= {"samplers": 4, "sweep": 3, "demo": 3, "release": 3, "benchmark": 2}
KILLS |= {"reproduce": 4, "export": 3}
MORE: dict[str, tuple[str, list[str], int]] = {
    "on latents": ("diffusion", [*TRAINER, *PIXEL[:-1], *DATA[1:], f"--autoencoder={RELEASED_CODEC}", RUN], 4),
    "likelihood": (
        "sample",
        [f"--model={RELEASED}", "--num_images=4", RUN, "--task=likelihood", "--steps=2", *DATA],
        1,
    ),
    "budget": ("compare", [*DATA, "--num_images=20", "--budget.images=32", f"--budget.flags={json.dumps(SHORT)}"], 3),
    "search": (
        "sweep",
        ["--search=optuna", "--space=space.yaml", "--images=32", "--num_images=16", "--looks=2", "--trials=3", *SEARCH],
        4,
    ),
    "photos": (
        "analyse",
        ["--data.name=folder", "--data.path=photos", "--data.cache_folder=cache", "--data.size=16", RUN],
        4,
    ),
}
COMMANDS = MORE | {name: (name, [*STAGES[name][0], STAGES[name][1].format("run")], n) for name, n in KILLS.items()}
# Seconds are what is measured, or are the budget: only the names of their files are the same in each run.
OF_SECONDS = ("sweep", "search", "demo", "benchmark")
# What says how long something took, where, or by which command, and digests of files that say so.
OF_THE_RUN = re.compile(
    r"sha256|^key$|^path$|seconds|per_second|date|environment|command|energy|memory|passes_per|resumed_by|kwh|time|rates|^resume$"
)


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., Ended]]:
    """See :func:`tests.reliability.killing.processes`."""
    with processes() as start:
        yield start


@pytest.fixture(scope="module")
def inputs(run, tmp_path_factory) -> Path:
    """A folder with what some commands need: two evaluations and a few photographs."""
    folder = tmp_path_factory.mktemp("inputs") / "inputs"
    folder.mkdir()
    for name in ("one", "two"):
        asked = [*MEASURED, "--model=noise", f"--name={name}", f"--run.folder=evaluated/{name}"]
        assert not run("evaluate", asked, folder).said
    shutil.rmtree(folder / "stages")
    (folder / "space.yaml").write_text("trainer.lr: {low: 1e-4, high: 1e-2, log: true}\n")
    noise = np.random.default_rng(0)
    for number in range(24):
        path = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return folder


def content(path: Path) -> Any:
    """What a whole file holds but for times; raises where it is not whole."""
    if path.suffix == ".safetensors":
        return {name: t.float().numpy().tobytes() for name, t in checkpoint.read_tensors(path).tensors.items()}
    if path.suffix == ".ckpt":
        return {name: tensor.numpy().tobytes() for name, tensor in run_checkpoint.read(path)["state_dict"].items()}
    if path.suffix == ".json" or path.name == MARKER:
        record = read_json(path)[0]
        # A page's sentences speak of seconds.
        return [row["name"] for row in record["rows"]] if path.name == "report.json" else without_times(record)
    if path.suffix == ".csv":
        return without_times(list(csv.DictReader(path.read_text().splitlines())))
    if path.suffix == ".yaml":
        return yaml.safe_load(path.read_text())
    if path.suffix in (".png", ".gif", ".jpg"):
        with Image.open(path) as picture:
            return picture.size, picture.convert("RGB").tobytes()
    if path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
        return None
    return path.read_bytes() if path.suffix in (".npz", ".npy", ".bin", ".txt") else len(path.read_bytes()) > 0


def without_times(value: Any) -> Any:
    """A record without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not OF_THE_RUN.search(key)}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def files_of(folder: Path) -> dict[str, Path]:
    """All files by their names but TensorBoard's, the checkpoint before the last, and those of a user.

    A cache of images has a name that depends on where these are, and a demo's latents on how far its autoencoder came.
    """
    own = {path: path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    varies = re.compile(r"(content|folder-16|samples|run/latents/[a-z-]+)[-/][0-9a-f]+")
    names = {varies.sub(r"\1", name): path for path, name in own.items()}
    return {name: path for name, path in names.items() if not re.search(r"tfevents|previous\.ckpt|mine", name)}


def temporary(folder: Path) -> list[Path]:
    """Whatever a process leaves that is no result."""
    return [path for path in folder.rglob("*") if re.search(r"latentdiff-tmp|/tmp[^/]*$|\.previous\.ckpt", str(path))]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_is_given_again(name, run, inputs, tmp_path):
    stage, arguments, kills = COMMANDS[name]
    arguments = [argument for argument in arguments if argument]
    whole = tmp_path / "whole"
    shutil.copytree(inputs, whole)
    ended = run(stage, arguments, whole)
    assert not ended.said, ended
    wanted = {file: content(path) for file, path in files_of(whole).items()}
    assert not temporary(whole)
    killed, tries, numbers = 0, 0, random.Random(f"kills of {name}")
    while killed < kills:
        tries += 1
        assert tries <= 2 * kills, "the process ends before it is killed"
        folder = tmp_path / f"killed-{tries}"
        shutil.copytree(inputs, folder)
        change = 1 + int(ended.changes * (killed + numbers.random()) / kills)
        kill = change, numbers.choice((0.0, numbers.uniform(0, 0.01)))
        if run(stage, arguments, folder, *kill).status == 0:
            continue
        killed += 1
        for file in files_of(folder).values():
            if not any("latentdiff-tmp" in part for part in file.parts):
                content(file)
        marked = [folder, *(mark.parent for mark in folder.rglob(MARKER) if "latentdiff-tmp" not in str(mark))]
        mine = [place / "mine.txt" for place in marked]
        for path in mine:
            path.write_text("mine")
        again = run(stage, arguments, folder)
        if "already holds an unfinished" in again.said:
            again = run(stage, [*arguments, "--run.resume"], folder)
        elif "already holds" in again.said:
            assert read_mark(folder / "run").finished
            again = None
        elif "is there already" in again.said:  # a release whose card, the last file, is there
            assert (folder / "run" / "latent.md").is_file()
            again = None
        assert again is None or not again.said, (kill, again)
        found = files_of(folder)
        assert found.keys() == wanted.keys(), kill
        for file, path in found.items():
            now = content(path)
            assert name in OF_SECONDS or now == wanted[file], (kill, file)
        assert all(path.read_text() == "mine" for path in mine)
        assert not temporary(folder), kill
        shutil.rmtree(folder)


def test_there_are_as_many_kills_as_promised():
    assert sum(kills for _, _, kills in COMMANDS.values()) >= 50
