"""What a bug report must say of the machine: versions, devices, threads, caches. It holds no secret.

Only what is listed here is read. Of environment variables these are names of folders and numbers of threads, never all
that are set: others hold tokens.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

from latentdiff import __version__
from latentdiff.config import DataConfig
from latentdiff.config.tool_stages import EnvStage
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.inference.engines.graphs import cache_folder
from latentdiff.memory import total_memory
from latentdiff.precision import supports_bf16

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "safetensors", "numpy", "pillow")
# Variables whose value is a path of the user's: whether something is there is what matters.
PATHS = ("HF_HOME", "LATENTDIFF_CACHE", "LATENTDIFF_DATA", "LATENTDIFF_INCEPTION", "LATENTDIFF_LPIPS", "TORCH_HOME")
# Variables whose value is a number, or a list of numbers.
NUMBERS = (
    "CUDA_VISIBLE_DEVICES",
    "GOMP_SPINCOUNT",
    "HF_HUB_OFFLINE",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "WORLD_SIZE",
)
IS_NUMBERS = re.compile(r"[\d,\s-]{0,100}")
# Extras for those who change latentdiff, which a user's machine need not have.
OF_MAINTAINERS = ("dev", "docs", "lint", "peers", "test")
MARKER = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")
REQUIREMENT = re.compile(r"[\w.-]+")


def print_environment(config: EnvStage) -> None:
    """Print what :func:`environment_record` finds, as lines or as JSON."""
    record = environment_record()
    print(json.dumps(record, indent=1) if config.json else "\n".join(_lines(record)))


def environment_record() -> dict[str, Any]:
    """What a bug report needs, as plain values; a package or a cache that is missing is None.

    Sizes are in bytes. The home folder is written as ``~``.
    """
    return {
        "versions": {
            "latentdiff": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
            "torch": str(torch.__version__),  # with the build, such as +cu130
        },
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "extras": extras(),
        "devices": devices(),
        "threads": {"torch": torch.get_num_threads(), "cpus": os.cpu_count(), "usable": _usable_cpus()},
        "variables": variables(),
        "caches": {name: _size(path) for name, path in caches().items()},
        "folders": {name: _shown(path) for name, path in caches().items()},
    }


def extras(requirements: Iterable[str] | None = None) -> dict[str, dict[str, str | None]]:
    """The version of each package of each extra, None where it is not installed.

    Args:
        requirements: Those of the package's metadata. Default: of the installed latentdiff; of one that is not
            installed nothing is known.
    """
    if requirements is None:
        try:
            requirements = requires("latentdiff") or ()
        except PackageNotFoundError:
            return {}
    found: dict[str, dict[str, str | None]] = {}
    for line in requirements:
        extra, package = MARKER.search(line), REQUIREMENT.match(line)
        if extra and package and extra[1] not in OF_MAINTAINERS and package[0] != "latentdiff":
            found.setdefault(extra[1], {})[package[0]] = _version(package[0])
    return found


def devices() -> list[dict[str, Any]]:
    """The CPU, then each GPU that torch sees: name, memory in bytes, and whether it multiplies in bf16."""
    cpu = {"kind": "cpu", "name": _cpu_name(), "memory": total_memory(), "bf16": supports_bf16(torch.device("cpu"))}
    found = [cpu]
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(device)
        found.append(
            {
                "kind": "cuda",
                "name": properties.name,
                "memory": properties.total_memory,
                "bf16": supports_bf16(device),
                "capability": f"{properties.major}.{properties.minor}",
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
            }
        )
    return found


def variables() -> dict[str, str]:
    """The variables of :data:`PATHS` and :data:`NUMBERS` that are set, and what may be said of their values."""
    found = {}
    for name in PATHS:
        if value := os.environ.get(name):
            found[name] = "there" if Path(value).expanduser().exists() else "set, but nothing is there"
    for name in NUMBERS:
        if value := os.environ.get(name):
            found[name] = value if IS_NUMBERS.fullmatch(value) else "set"
    return found


def caches() -> dict[str, Path]:
    """Where commands keep what they can make or download again, in the current folder or the user's."""
    stage = DiffusionStage()
    return {
        "graphs of engines": cache_folder(),
        "decoded images": Path(DataConfig().cache_folder),
        "latents": Path(stage.latents_folder or ""),
        "features": Path(stage.features_folder or ""),
        "downloaded nets": Path(torch.hub.get_dir()) / "checkpoints",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _usable_cpus() -> int | None:
    """CPUs that this process may run on, which a container or a job may have made fewer."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _size(folder: Path) -> int | None:
    """Bytes of all files in a folder, links left out; None where there is none."""
    if not folder.is_dir():
        return None
    total = 0
    for path, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:  # gone in the meantime
                continue
    return total


def _shown(path: Path) -> str:
    """A path without the name of the user."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _lines(record: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, str]] = [(name, text or "not installed") for name, text in record["versions"].items()]
    rows.append(("system", record["system"]))
    rows += [(f"extra {name}", _packages(packages)) for name, packages in record["extras"].items()]
    if not record["extras"]:
        rows.append(("extras", "not known: latentdiff runs from its source and is not installed"))
    for device in record["devices"]:
        parts = [device["name"], _bytes(device["memory"]), "bf16" if device["bf16"] else "no bf16"]
        if device["kind"] == "cuda":
            parts += [f"capability {device['capability']}", f"CUDA {device['cuda']}", f"cuDNN {device['cudnn']}"]
        rows.append((device["kind"], ", ".join(parts)))
    if len(record["devices"]) == 1:
        rows.append(("cuda", "torch sees no GPU"))
    threads = record["threads"]
    rows.append(("threads", f"{threads['torch']} of torch, {threads['usable']} of {threads['cpus']} CPUs usable"))
    rows += [(name, text) for name, text in record["variables"].items()]
    for name, size in record["caches"].items():
        text = "none yet" if size is None else _bytes(size)
        rows.append((name, f"{text} in {record['folders'][name]}"))
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def _packages(packages: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {text or 'not installed'}" for name, text in packages.items())


def _bytes(size: int | None) -> str:
    if size is None:
        return "memory not known"
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} bytes"
