"""What our own loop costs: Lightning beside a bare loop of the same work, the resident loader beside a DataLoader."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, TensorDataset

from latentdiff.benchmark.bench import Bench, random_images
from latentdiff.benchmark.limits import Work
from latentdiff.benchmark.loops import bare_steps
from latentdiff.benchmark.rows import Figure, Row, Target
from latentdiff.benchmark.stage_two import our_turn
from latentdiff.benchmark.timing import timed
from latentdiff.data import Batches

LIGHTNING, LOADER = "Lightning's overhead", "data path"
PERCENT = 5.0
STEPS = 4  # In a turn: few, so that both contenders see the same weather on a machine that others share.
ROUNDS = 7  # A few per cent are to be told apart, on machines whose turns differ by as much.
WORKERS = 2


def lightning(bench: Bench) -> Iterator[Row]:
    """Seconds a step of the latent trainer and of a bare loop, and the median of the rounds' ratios, less one."""
    setting = bench.scale.settings[0]
    settings = bench.trainer(setting.latent_batch)
    ours = our_turn(setting.side, setting.autoencoder, setting.latent, settings, STEPS, bench.device)
    bare = bare_steps(ours.module, ours.tensors, bench.dtype)
    timings = bench.race({"latentdiff": ours, "bare loop": timed(bare, bench.device, STEPS)}, ROUNDS)
    steps = {name: Figure.seconds(timing) for name, timing in timings.items()}
    figures = {
        name: replace(figure, **{key: getattr(figure, key) / STEPS for key in ("value", "low", "high")})
        for name, figure in steps.items()
    }
    what = f"latents, {setting.side} px, batch {settings.batch_size}"
    yield Row(part=LIGHTNING, what=f"a step, {what}", unit="s", figures=figures, more_is_better=False)
    rounds = zip(timings["latentdiff"].seconds, timings["bare loop"].seconds, strict=True)
    over = 100 * (statistics.median(long / short for long, short in rounds) - 1)
    yield Row(
        part=LIGHTNING,
        what=f"over bare work, {what}",
        unit="%",
        figures={"latentdiff": Figure.single(over)},
        more_is_better=False,
        target=Target(at_most=PERCENT),
        note="seeding, checks, losses kept and the learning rate's schedule included",
    )


def loader(bench: Bench) -> Iterator[Row]:
    """Images/s of whole passes over images and labels, nothing being done with them."""
    scale, side = bench.scale, bench.scale.settings[0].side
    images = random_images(scale.loader_images, side, torch.device("cpu"))
    labels = torch.zeros(len(images), dtype=torch.long)
    batches = Batches(images.to(bench.device), labels.to(bench.device), batch_size=scale.loader_batch, seed=0)
    dataset = TensorDataset(images, labels)
    theirs = DataLoader(dataset, scale.loader_batch, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    passed = 0

    def ours() -> None:
        nonlocal passed
        for start in range(0, len(images), scale.loader_batch):
            batches.at(passed * len(images) + start)
        passed += 1

    def by_workers() -> None:
        for batch in theirs:
            for tensor in batch:
                tensor.to(bench.device)

    turns = {"latentdiff": timed(ours, bench.device), "DataLoader": timed(by_workers, bench.device)}
    timings = bench.race(turns)
    # Every image is read and written once.
    work = Work(0.0, 2.0 * images.numel())
    yield Row(
        part=LOADER,
        what=f"{side} px, batch {scale.loader_batch}, {len(images):,} images",
        unit="images/s",
        figures={name: Figure.rate(timing, len(images)) for name, timing in timings.items()},
        floor=len(images) / bench.limits.seconds(work, torch.float32),
        note=f"DataLoader with {WORKERS} workers that stay",
    )
