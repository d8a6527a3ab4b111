"""Measure speed and memory beside other people's code and the machine's own limits."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.limits import measure_limits
from latentdiff.benchmark.pace import divisor_for, measure_pace
from latentdiff.benchmark.parts import PARTS
from latentdiff.benchmark.peers import Peers
from latentdiff.benchmark.record import growth_record, part_table, row_record, summary, table
from latentdiff.benchmark.rows import Row
from latentdiff.benchmark.scale import FULL, QUICK
from latentdiff.checkpoint import device_name, environment
from latentdiff.config import to_dict
from latentdiff.config.tool_stages import BenchmarkStage
from latentdiff.files import write_atomically
from latentdiff.precision import resolve_device, resolve_precision
from latentdiff.report.benchmark_figure import benchmark_figure
from latentdiff.training.memory import keep_freed_memory


def run_benchmark(config: BenchmarkStage, command: str = "") -> Path:
    """Measure what ``config`` asks for; return the folder. What is finished is written after every part."""
    if config.threads:
        torch.set_num_threads(config.threads)
        os.environ["OMP_NUM_THREADS"] = str(config.threads)  # Of the processes that are begun.
    device, scale = resolve_device(config.device), QUICK if config.quick else FULL
    if device.type == "cpu":
        keep_freed_memory()  # Our trainers do; here everybody is to have it, whoever comes first.
    bench = Bench(
        scale=scale,
        device=device,
        dtype=resolve_precision("auto", device),
        limits=measure_limits(device, scale.peak_seconds),
        peers=Peers(config.peers),
        inception_weights=config.inception_weights,
    )
    if device.type == "cpu":
        divisor = divisor_for(measure_pace(bench, scale.growth_setting))
        bench = replace(bench, scale=scale.divided(divisor), divisor=divisor)
    return measure(config, bench, command)


def measure(config: BenchmarkStage, bench: Any, command: str = "") -> Path:
    """The parts of ``config`` on a ready :class:`~latentdiff.benchmark.bench.Bench`."""
    folder = Path(config.folder)
    record: dict[str, Any] = {
        "schema": 1,
        "quick": config.quick,
        "divisor": bench.divisor,
        "device": device_name(bench.device),
        "training_precision": str(bench.dtype).removeprefix("torch."),
        "environment": environment(),
        "command": command,
        "limits": to_dict(bench.limits),
        "seconds": {},
        "rows": [],
        "growth": [],
    }
    for name, part in PARTS.items():
        if config.parts and name not in config.parts:
            continue
        start, before = time.perf_counter(), len(record["rows"])
        for found in part(bench):
            own, convert = ("rows", row_record) if isinstance(found, Row) else ("growth", growth_record)
            record[own].append(convert(found))
        record["seconds"][name] = time.perf_counter() - start
        record.update(peers=bench.peers.versions, left_out=bench.peers.left_out)
        write_atomically(folder / "benchmark.json", lambda path: path.write_text(json.dumps(record, indent=1)))
        for title in dict.fromkeys(row["part"] for row in record["rows"][before:]):
            print(f"\n{part_table(record, title)}", flush=True)
    text = table(record)
    write_atomically(folder / "benchmark.md", lambda path: path.write_text(text))
    draw(record, folder)
    print(f"\n{summary(record)}\n{sum(record['seconds'].values()):.0f} s in all\n{folder}")
    return folder


def draw(record: dict[str, Any], folder: Path) -> None:
    """Write benchmark.png and benchmark.svg, where there is anything to compare."""
    if not any(row["ratios"] for row in record["rows"]):
        return
    for format in ("png", "svg"):
        picture = benchmark_figure(record, format=format)
        write_atomically(folder / f"benchmark.{format}", lambda name, picture=picture: name.write_bytes(picture))
