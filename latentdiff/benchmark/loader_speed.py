"""Speed of the loader that keeps a data set in memory, beside torch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, TensorDataset

from latentdiff.benchmark.context import BenchmarkContext, random_images
from latentdiff.benchmark.machine_limits import Work
from latentdiff.benchmark.results import OURS, Contender, Measurement, rates
from latentdiff.benchmark.timing import timed_call
from latentdiff.data import Batches

PART = "loading batches"
WORKERS = 2


def measure_loader(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure images/s of whole passes over images and labels, without any work on them."""
    sizes, side = context.sizes, context.sizes.networks[0].side
    images = random_images(sizes.loader_images, side, torch.device("cpu"))
    labels = torch.zeros(len(images), dtype=torch.long)
    batches = Batches(images.to(context.device), labels.to(context.device), batch_size=sizes.loader_batch, seed=0)
    data_loader = DataLoader(
        TensorDataset(images, labels),
        sizes.loader_batch,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    passes = 0

    def load_ours() -> None:
        nonlocal passes
        for start in range(0, len(images), sizes.loader_batch):
            batches.at(passes * len(images) + start)
        passes += 1

    def load_by_workers() -> None:
        for batch in data_loader:
            for tensor in batch:
                tensor.to(context.device)

    # Every image is read and written once.
    limit = len(images) / context.limits.seconds(Work(0.0, 2.0 * images.numel()), torch.float32)
    contenders = [
        Contender(name=OURS, call=timed_call(load_ours, context.device), limit=limit),
        Contender(name="DataLoader", call=timed_call(load_by_workers, context.device)),
    ]
    yield Measurement(
        part=PART,
        name=f"{side} px, batch {sizes.loader_batch}, {len(images):,} images",
        unit="images/s",
        values=rates(contenders, context.time_contenders(contenders), len(images)),
        note=f"DataLoader has {WORKERS} workers that stay",
    )
