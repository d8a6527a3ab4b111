"""Train on images that are mapped from a file, beside the same images in memory: images/s of both, and memory.

``python -m benchmarks.larger_than_memory --images 128000`` writes a file of so many random images of 64 pixels (12,288
bytes each), trains on both in turn, and prints the ratio within the run. On a machine that does other work the ratio of
the processor's time says more than that of the images/s.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from latentdiff.benchmark.networks import NUM_CLASSES
from latentdiff.benchmark.timing import TimedCall, time_interleaved
from latentdiff.benchmark.training_speed import TimedTrainer
from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.data.loader import Batches, StreamedBatches
from latentdiff.data.mapped import map_file
from latentdiff.files import temporary_folder
from latentdiff.training.diffusion_module import DiffusionModule

SIDE = 64
NETWORK = NetworkConfig(channels=(16, 32, 32), num_res_blocks=1, attention_levels=(), head_channels=8)
# Bytes that a training may take, for one that streams: half of them are for data.
LITTLE = 10**6


def write_images(path: Path, count: int) -> None:
    """Write ``count`` images of random pixels, uint8 [count, 3, 64, 64], without holding them."""
    with open(path, "wb") as file:
        for start in range(0, count, 1000):
            file.write(os.urandom(min(1000, count - start) * 3 * SIDE**2))


def resident_bytes() -> tuple[int, int]:
    """Bytes of this process that are in memory now, and at most since :func:`forget_peak`. Linux alone."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(1024 * int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def forget_peak() -> None:
    """Let the peak of :func:`resident_bytes` begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def loading_speed(batches: Batches, steps: int) -> float:
    """Images/s of ``steps`` batches that nothing is done with."""
    start = time.perf_counter()
    for step in range(steps):
        batches.at(step * batches.batch_size)
    return steps * batches.batch_size / (time.perf_counter() - start)


def with_processor_time(call: TimedCall, found: list[float]) -> TimedCall:
    """``call``, whose seconds of the processor, of all threads, are added to ``found`` each time."""

    def measured() -> float:
        start = time.process_time()
        seconds = call()
        found.append(time.process_time() - start)
        return seconds

    return measured


def trainer_of(images: Tensor, labels: Tensor, memory: int | None, arguments: argparse.Namespace) -> TimedTrainer:
    """A timed training of a small pixel U-Net."""
    settings = TrainerConfig(
        batch_size=arguments.batch, max_images=10**9, precision="fp32", accelerator="cpu", memory=memory, loggers=()
    )
    torch.manual_seed(0)
    module = DiffusionModule(IdentityCodec((3, SIDE, SIDE)), NUM_CLASSES, NETWORK, DiffusionConfig(), settings)
    return TimedTrainer(module, (images, labels), arguments.steps)


def ratio_of_turns(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of each turn's ratio, to three decimals: a change of the machine's load touches one turn alone."""
    return round(statistics.median(map(operator.truediv, over, under)), 3)


def main() -> None:
    """Measure, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128_000)
    parser.add_argument("--folder", type=Path, default=Path("stages/benchmarks"), help="where the file is for a while")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8, help="training steps of a turn")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    with temporary_folder(arguments.folder / "larger") as folder:
        write_images(folder / "images.bin", arguments.images)
        mapped = map_file(folder / "images.bin", (arguments.images, 3, SIDE, SIDE))
        labels = torch.arange(arguments.images) % NUM_CLASSES
        options = {"batch_size": arguments.batch, "seed": 0}
        loads = max(1, arguments.images // arguments.batch)

        streamed = trainer_of(mapped, labels, LITTLE, arguments)
        streamed()  # what is set up once is no part of the images' memory
        before, _ = resident_bytes()
        forget_peak()
        loading = {"streamed": loading_speed(StreamedBatches(mapped, labels, device="cpu", **options), loads)}
        streamed()
        peak = resident_bytes()[1]

        inside = mapped.clone()
        resident = trainer_of(inside, labels, None, arguments)
        resident()
        loading["resident"] = loading_speed(Batches(inside, labels, **options), loads)
        processor: dict[str, list[float]] = {"streamed": [], "resident": []}
        turns = time_interleaved(
            {
                name: with_processor_time(trainer, processor[name])
                for name, trainer in (("streamed", streamed), ("resident", resident))
            },
            seconds=0,
            min_rounds=arguments.turns,
            warm_up_rounds=0,
        )
        equal = all(
            torch.equal(one, other)
            for step in range(20)
            for one, other in zip(
                StreamedBatches(mapped, labels, device="cpu", **options).at(step * arguments.batch),
                Batches(inside, labels, **options).at(step * arguments.batch),
                strict=True,
            )
        )
    rates = {name: arguments.steps * arguments.batch / turns[name].median for name in turns}
    result = {
        "images": arguments.images,
        "gigabytes": round(arguments.images * 3 * SIDE**2 / 1e9, 2),
        "batches_equal": equal,
        "memory_while_streaming_MB": round(peak / 1e6),
        "memory_that_streaming_adds_MB": round((peak - before) / 1e6),
        "loading_images_per_second": {name: round(rate) for name, rate in loading.items()},
        "training_images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "training_speed_of_resident": ratio_of_turns(turns["resident"].seconds, turns["streamed"].seconds),
        "training_processor_time_of_resident": ratio_of_turns(processor["streamed"], processor["resident"]),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
