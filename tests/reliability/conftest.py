"""A small disk that can be full, and tiny settings for every stage."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from latentdiff import command_line
from latentdiff.evaluation import feature_nets
from latentdiff.stages import evaluate
from tests.conftest import CODEC as TINY_CODEC
from tests.conftest import TRAINER, UNET

PLENTY = 1 << 28
DATA = ["--data.source=embedded", "--data.max_train_images=48"]
MEASURED = ["--data.source=embedded", "--num_images=20", "--steps=1", "--inception=off", "--lpips=off"]
RELEASED = "checkpoints/fashion-mnist/latent.safetensors"
CODEC = "checkpoints/fashion-mnist/autoencoder.safetensors"
PIXEL = [*UNET[:4], "--quality_images=0", "--validation_images=16", "--autoencoder=none"]
SHORT = [*PIXEL[:-1], "--network.middle_attention=false", "--trainer.accelerator=cpu", "--trainer.batch_size=16"]
SWEEP = ["--seconds=0.2", "--num_images=20", "--finalists=1", "--finalist_images=10", "--settings=demo/pixel.yaml"]
SWEEP += [f"--flags={json.dumps(SHORT)}", *DATA]
SWEEP += [f"--runs={json.dumps({'base': [], 'wide': ['--network.channels=[16]']})}"]
SEARCH = ["--settings=demo/pixel.yaml", f"--flags={json.dumps(SHORT)}", *DATA]
DEMO = [*(f"--{name}_seconds=0.3" for name in ("autoencoder", "vae", "diffusion")), "--num_images=20"]
TRAINED = ["--data.max_train_images=48", *TRAINER[1:]]
RECIPE = {
    "autoencoder": ["autoencoder", *TRAINED, *TINY_CODEC],
    "latent": ["diffusion", *TRAINED, *PIXEL[:-1]],
}
REPRODUCE = [f"--runs={json.dumps(RECIPE)}", f"--evaluations={json.dumps({'latent': []})}", "--num_images=20"]
REPRODUCE += ["--data.source=embedded"]
FOLDER = "--run.folder={}"
# By name, each stage that writes: tiny settings, and the setting that names its folder. A sweep has none: it fills
# ``stages/`` where it is started.
STAGES: dict[str, tuple[list[str], str]] = {
    "autoencoder": ([*TRAINER, *TINY_CODEC], FOLDER),
    "diffusion": ([*TRAINER, *PIXEL], FOLDER),
    "classifier": ([*DATA, "--epochs=1", "--batch_size=6", "--channels=[8,8]"], FOLDER),
    "latents": ([*DATA, f"--autoencoder={CODEC}"], "--folder={}"),
    "sample": (
        [f"--model={RELEASED}", "--num_images=4", "--steps=1", "--pngs", "--npz", "--strip=2", "--gif"],
        FOLDER,
    ),
    "evaluate": ([*MEASURED, f"--model={RELEASED}"], FOLDER),
    "compare": (["evaluated/one", "evaluated/two"], FOLDER),
    "analyse": ([*DATA, "--near=0"], FOLDER),
    "samplers": ([*DATA, "--num_images=20", "--steps=[1,2]", "--samplers=[ddim]"], FOLDER),
    "sweep": (SWEEP, ""),
    "demo": (DEMO, FOLDER),
    "reproduce": (REPRODUCE, "--folder={}"),
    "export": ([f"--model={RELEASED}", "--steps=[2]"], FOLDER),
    "release": ([f"--model={RELEASED}"], "--to={}/latent.safetensors"),
    "benchmark": (["--parts=[encoding]"], "--folder={}"),
}


class SmallDisk:
    """A folder on a disk of its own that can be made small, or else one where writing fails at a given place.

    Attributes:
        path: The folder.
        mounted: Whether it is a file system of its own.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        self.path, self._left, self._real = path, -1, (os.replace, os.fsync)
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={PLENTY}", "tmpfs", str(path)]
        try:
            self.mounted = subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            self.mounted = False
        if not self.mounted:
            for name in ("replace", "fsync"):
                monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function: Callable) -> Callable:
        def call(*arguments):
            self._left -= 1
            if self._left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments)

        return call

    def used(self) -> int:
        """Bytes on the disk."""
        status = os.statvfs(self.path)
        return (status.f_blocks - status.f_bfree) * status.f_bsize

    def limit(self, size: int, place: int) -> None:
        """Leave ``size`` bytes in all; or, without a file system of its own, let the write of that number fail."""
        self._left = place
        if self.mounted:
            subprocess.run(["mount", "-o", f"remount,size={max(size, 8192)}", str(self.path)], check=True)

    def free(self) -> None:
        """Let everything be written again."""
        self.limit(PLENTY, -1)

    def close(self) -> None:
        """Take the disk away."""
        if self.mounted:
            with suppress(OSError):
                subprocess.run(["umount", "-l", str(self.path)], capture_output=True)


@pytest.fixture
def small_disk(tmp_path, monkeypatch) -> Iterator[SmallDisk]:
    """See :class:`SmallDisk`."""
    disk = SmallDisk(tmp_path / "disk", monkeypatch)
    yield disk
    disk.close()


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Nothing is downloaded."""
    monkeypatch.setattr(feature_nets, "server_answers", lambda *_: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("latentdiff.models.lpips.server_answers", lambda *_: False)


@pytest.fixture
def in_one_process(monkeypatch) -> None:
    """Stages that a stage starts run in this process, on few images, and a benchmark is of the smallest size."""
    from tests.reliability import killing  # it imports all stages' work

    monkeypatch.setattr(subprocess, "run", killing.run_inside)
    monkeypatch.setattr("latentdiff.benchmark.run_benchmark.build_context", killing.small_benchmark)
    for name in ("MEASURED_SECONDS", "LEAST_SECONDS"):
        monkeypatch.setattr(f"latentdiff.comparison.training_plan.{name}", 0.1)


@pytest.fixture
def evaluated(isolated) -> None:
    """Two evaluations to compare."""
    for name in ("one", "two"):
        evaluate.main([*MEASURED, "--model=noise", f"--name={name}", f"--run.folder=evaluated/{name}"])


def run(stage: str, arguments: list[str]) -> str | None:
    """Run a stage as the command line does: None where it ended well, else what it ended with.

    An exception that the command line would not put into words goes through.
    """
    try:
        main = import_module(f"latentdiff.stages.{stage}").main
        command_line._run(lambda: main(arguments), several_processes=False)
    except SystemExit as end:
        return str(end.code)
    return None
