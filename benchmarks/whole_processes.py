"""Whole processes from their start to their end: import, ``--help`` and the first images."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.peak_memory import CHECKOUT
from benchmarks.sampling import DiffusersLatentModel
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import untrained_model
from latentdiff.benchmark.peers import DIFFUSERS, find_peer
from latentdiff.benchmark.results import OURS, Measurement, Target, Value
from latentdiff.benchmark.timing import TimedCall, time_interleaved, timed_call

PART = "whole processes"
IMPORT_SECONDS, HELP_SECONDS, FIRST_IMAGES_SECONDS = 0.3, 1.0, 6.0  # At most.
RUNS = 3
CPU = torch.device("cpu")


def new_python(*arguments: str) -> TimedCall:
    """Return a timed call of a new Python with these arguments. It raises CalledProcessError if the process fails."""
    command = [sys.executable, *arguments]
    return timed_call(lambda: subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT), CPU)


def measure_whole_processes(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure seconds of the import, of ``--help`` and of the first 16 images, each in new processes."""
    python_alone = min(new_python("-c", "pass")() for _ in range(3))
    note = f"python alone takes {python_alone:.3f} s of each"
    imports = {OURS: new_python("-c", "import latentdiff")}
    yield _measure(context, "import", imports, IMPORT_SECONDS, note)
    help_text = {OURS: new_python("-m", "latentdiff.stages.diffusion", "--help")}
    yield _measure(context, "--help", help_text, HELP_SECONDS, note)
    yield measure_first_images(context)


def measure_first_images(context: BenchmarkContext) -> Measurement:
    """Measure seconds from a model's file to a PNG of 16 images in 20 steps, on the CPU, beside diffusers."""
    networks = context.sizes.networks[0]
    with tempfile.TemporaryDirectory(prefix="latentdiff-benchmark-") as name:
        folder = Path(name)
        model = untrained_model(networks.side, networks.autoencoder, networks.latent_network, CPU)
        path = folder / "model.safetensors"
        model.save(path, provenance={})
        runs = itertools.count()
        stage = ["-m", "latentdiff.stages.sample", "--model", str(path), "--num_images", "16", "--steps", "20"]

        def sample_ours() -> float:
            return new_python(*stage, "--device", "cpu", "--run.folder", str(folder / f"run-{next(runs)}"))()

        calls = {OURS: sample_ours}
        if find_peer(context, DIFFUSERS):
            theirs = DiffusersLatentModel(model)
            theirs.unet.save_pretrained(folder / "unet")
            theirs.vae.save_pretrained(folder / "vae")
            calls[DIFFUSERS] = new_python("-m", "benchmarks.diffusers_pipeline", str(folder))
        note = "first images: untrained models, 20 steps, a PNG"
        return _measure(context, "first 16 images, cold", calls, FIRST_IMAGES_SECONDS, note)


def _measure(
    context: BenchmarkContext, name: str, calls: dict[str, TimedCall], max_seconds: float, note: str
) -> Measurement:
    runs = 1 if context.quick else RUNS
    # Every run is cold, but the first may compile the sources and read the disk. One run alone has no warm-up.
    timings = time_interleaved(calls, 0.0, runs, warm_up_rounds=int(runs > 1))
    return Measurement(
        part=PART,
        name=name,
        unit="s",
        values={key: Value.seconds(timing) for key, timing in timings.items()},
        more_is_better=False,
        target=Target(max_value=max_seconds),
        note=note,
    )
