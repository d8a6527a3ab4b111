"""Real short trainings, killed at random moments, in folders with a user's own files: these never change."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentdiff.folder_mark import MARKER
from tests.runs.test_own_files import foreign, strange_files

pytestmark = pytest.mark.slow
KILLS = 6
OWN = {MARKER, "config.yaml", "metrics.csv", "data.json", "hparams.yaml", "last.ckpt", "previous.ckpt"}
OWN |= {"model.safetensors", "last.safetensors", "best.safetensors", ".previous.ckpt"}


def own_names(folder: Path) -> set[str]:
    """The names of what trainings of 64 images write, with TensorBoard's."""
    events = {path.name for path in folder.glob("events.out.tfevents.*")}
    return OWN | events | {"samples/000000032.png", "samples/000000064.png"}


@pytest.mark.parametrize("seed", range(3))
def test_real_trainings_leave_a_users_files_alone(seed, tiny, tmp_path):
    random_numbers, folder, outside = random.Random(seed), tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("mine")
    command = [sys.executable, "-m", "latentdiff.stages.diffusion", *tiny.trainer, *tiny.unet, "--autoencoder=none"]
    command += ["--quality_images=0", f"--run.folder={folder}"]
    begun = subprocess.run([*command, "--trainer.max_images=32"], capture_output=True, text=True)
    assert begun.returncode == 0, begun.stderr
    start = time.perf_counter()
    subprocess.run([*command, "--run.overwrite"], capture_output=True)
    seconds = time.perf_counter() - start
    for number in range(KILLS):
        strange = random_numbers.sample(range(100), 2)[0]
        strange_files(random.Random(strange), folder, outside, 2)
        for name in ("samples", "images"):  # links that a run refuses to write through have a test of their own
            if (folder / name).is_symlink():
                os.unlink(folder / name)
        before = foreign(folder, own_names(folder))
        kind = random_numbers.choice(([], ["--run.resume"], ["--run.overwrite"]))
        process = subprocess.Popen([*command, *kind], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if number < KILLS - 1:
            time.sleep(random_numbers.uniform(0.3, 1.0) * seconds)
            process.kill()
        _, words = process.communicate()
        assert "Traceback" not in words
        assert foreign(folder, own_names(folder)) == before
    done = subprocess.run([*command, "--run.overwrite"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "model.safetensors").is_file()
    assert (outside / "precious.txt").read_text() == "mine"
    assert not list(folder.glob(".latentdiff-tmp-[0-9a-f]*"))


def test_of_two_overwrites_at_once_one_wins_and_the_other_says_so(tiny, tmp_path):
    command = [sys.executable, "-m", "latentdiff.stages.diffusion", *tiny.trainer, *tiny.unet, "--autoencoder=none"]
    command += ["--quality_images=0", f"--run.folder={tmp_path / 'run'}", "--run.overwrite"]
    for _ in range(3):
        both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in "12"]
        ended = [(process.communicate()[1], process.returncode) for process in both]
        assert any(status == 0 for _, status in ended)
        for words, status in ended:
            assert status == 0 or "is writing into" in words
            assert "Traceback" not in words


def test_a_reader_who_leaves_does_not_end_a_training(tiny, tmp_path):
    command = [sys.executable, "-m", "latentdiff.stages.diffusion", *tiny.trainer, *tiny.unet, "--autoencoder=none"]
    command += ["--quality_images=0", f"--run.folder={tmp_path / 'run'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()
