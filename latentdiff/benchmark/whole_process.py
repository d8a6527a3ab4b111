"""Whole processes, from the command to its end: what somebody waits for who has just typed it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.peers import DIFFUSERS
from latentdiff.benchmark.rows import Figure, Row, Target
from latentdiff.benchmark.sampling import Diffusers, untrained_model
from latentdiff.benchmark.timing import Turn, interleaved, timed

PART = "whole processes"
IMPORT, HELP, COLD = 0.3, 1.0, 6.0  # Seconds at most.
CPU = torch.device("cpu")


def process(*arguments: str) -> Turn:
    """A turn of a new Python with these arguments. Raises CalledProcessError where it fails."""
    return timed(lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True), CPU)


def processes(bench: Bench) -> Iterator[Row]:
    """Seconds of import, of --help, and of the first 16 images, each the median of new processes."""
    alone = min(process("-c", "pass")() for _ in range(3))
    note = f"python alone takes {alone:.3f} s of each"
    yield _row(bench, "import", {"latentdiff": process("-c", "import latentdiff")}, IMPORT, note)
    yield _row(bench, "--help", {"latentdiff": process("-m", "latentdiff.stages.diffusion", "--help")}, HELP, note)
    yield first_images(bench)


def first_images(bench: Bench) -> Row:
    """The first 16 images, in 20 steps, from files of untrained models to a PNG, on the CPU."""
    setting = bench.scale.settings[0]
    with tempfile.TemporaryDirectory(prefix="latentdiff-benchmark-") as name:
        folder = Path(name)
        model = untrained_model(setting.side, setting.autoencoder, setting.latent, CPU)
        path = folder / "model.safetensors"
        model.save(path, provenance={})
        runs = itertools.count()
        stage = ["-m", "latentdiff.stages.sample", "--model", str(path), "--num_images", "16", "--steps", "20"]

        def ours() -> float:
            return process(*stage, "--device", "cpu", "--run.folder", str(folder / f"run-{next(runs)}"))()

        turns = {"latentdiff": ours}
        if bench.peers.get(DIFFUSERS):
            theirs = Diffusers(setting, model)
            theirs.unet.save_pretrained(folder / "unet")
            theirs.vae.save_pretrained(folder / "vae")
            turns[DIFFUSERS] = process("-m", "latentdiff.benchmark.diffusers_pipeline", str(folder))
        return _row(bench, "first 16 images, cold", turns, COLD, "first images: untrained models, 20 steps, a PNG")


def _row(bench: Bench, what: str, turns: dict[str, Turn], limit: float, note: str = "") -> Row:
    runs = bench.scale.process_runs
    # Every run is cold, but the first may compile the sources and read the disk; one alone must do as it is.
    timings = interleaved(turns, 0.0, runs, warm_up=int(runs > 1))
    return Row(
        part=PART,
        what=what,
        unit="s",
        figures={name: Figure.seconds(timing) for name, timing in timings.items()},
        more_is_better=False,
        target=Target(at_most=limit),
        note=note,
    )
