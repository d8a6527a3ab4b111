"""Commands that run in a process of their own, which is killed at a given change of a file.

The processes are forked from one that has imported everything and computed nothing, so that each starts at once.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from latentdiff import command_line
from latentdiff.benchmark import run_benchmark
from latentdiff.comparison import compare, demo, reproduce, samplers, search, sweep, training_plan  # noqa: F401
from latentdiff.data import decode, image_cache  # noqa: F401
from latentdiff.evaluation import dataset_analysis, feature_nets  # noqa: F401
from latentdiff.export import onnx_folder  # noqa: F401
from latentdiff.inference import edit_images, sample_to_files  # noqa: F401
from latentdiff.models import lpips
from latentdiff.runs import release  # noqa: F401
from latentdiff.training import train_autoencoder, train_classifier, train_diffusion  # noqa: F401

# What the system is asked for when files change, as Python's audit hooks name it. A file that is opened counts where
# it is opened to be written.
_run_outside = subprocess.run
CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.chmod", "os.truncate", "fsync")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: 0, or the number of the signal that ended it, below 0.
        said: What it said of an error; empty where all went well.
        changes: How many changes of files it made.
        log: What it printed.
    """

    status: int
    said: str
    changes: int
    log: str


@contextmanager
def processes() -> Iterator[Callable[..., Ended]]:
    """A function that runs a stage in a folder, as the command line does, and waits for its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:

        def run(stage: str, arguments: list[str], folder: Path, change: int = 0, seconds: float = 0.0) -> Ended:
            print(json.dumps([stage, arguments, str(folder), change, seconds]), file=server.stdin, flush=True)
            status, result = int(server.stdout.readline()), folder.with_suffix(".json")
            said, changes = json.loads(result.read_text()) if status == 0 else ("", 0)
            log = folder.with_suffix(".log").read_text(errors="replace")
            assert status in (0, -signal.SIGKILL, -signal.SIGALRM), log
            return Ended(status, said, changes, log)

        yield run
        server.stdin.close()


def _serve() -> None:
    for line in sys.stdin:
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            _work(*json.loads(line))
            os._exit(0)


def _work(stage: str, arguments: list[str], folder: str, kill_at: int, seconds: float) -> None:
    """Run a stage, and end at the change of that number, or so many seconds after it; 0 lets the process live.

    At once it is SIGKILL. Later it is a timer of the system, whose signal ends the process as it stands, also while it
    is within a library that lets no other thread run.
    """
    os.chdir(folder)
    tempfile.tempdir = folder
    torch.set_num_threads(1)
    changes = 0
    feature_nets.server_answers = lpips.server_answers = lambda *_: False
    torch.hub.get_dir = lambda: folder
    run_benchmark.build_context = small_benchmark
    training_plan.MEASURED_SECONDS = training_plan.LEAST_SECONDS = 0.1
    main = import_module(f"latentdiff.stages.{stage}").main

    def count(event: str, values: tuple) -> None:
        nonlocal changes
        if event not in CHANGES or (event == "open" and not values[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if event != "fsync" and not os.path.join(folder, os.fsdecode(values[0])).startswith(f"{folder}/"):
            return
        changes += 1
        if changes == kill_at:
            if not seconds:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.setitimer(signal.ITIMER_REAL, seconds)

    subprocess.run, os.fsync, said = run_inside, lambda handle: count("fsync", ()), ""
    with open(f"{folder}.log", "w") as log, redirect_stdout(log), redirect_stderr(log):
        sys.addaudithook(count)
        try:
            command_line._run(lambda: main(arguments), several_processes=False)
        except SystemExit as end:
            said = str(end.code)
    signal.setitimer(signal.ITIMER_REAL, 0)
    Path(f"{folder}.json").write_text(json.dumps([said, changes]))


def run_inside(command: list[str], **keywords: Any) -> Any:
    """What subprocess.run does; but a stage that a stage starts runs in this process, on few images."""
    if command[1:2] != ["-m"]:
        return _run_outside(command, **keywords)
    few = [] if any("max_train_images" in part for part in command) else ["--data.max_train_images=48"]
    import_module(command[2]).main([*command[3:], *(few if "compare" not in command[2] else [])])
    return SimpleNamespace(returncode=0)


def small_benchmark(settings: Any) -> Any:
    """The context of a benchmark of the smallest size."""
    small = runpy.run_path(str(Path(__file__).parents[1] / "benchmark" / "conftest.py"))
    return run_benchmark.BenchmarkContext(
        sizes=small["SIZES"], device=torch.device("cpu"), dtype=torch.float32, limits=small["LIMITS"]
    )


if __name__ == "__main__":
    _serve()
