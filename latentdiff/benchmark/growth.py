"""Latents against pixels at equal parameters, and how the costs of each grow with the image's side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.limits import training_work
from latentdiff.benchmark.memory import Case, peak_memories
from latentdiff.benchmark.peers import CLASSES, counted_parameters, equal_pixel_network
from latentdiff.benchmark.rows import Figure, Growth, Row, Target
from latentdiff.benchmark.sampling import least_seconds, our_sampler, race_samplers, untrained_model
from latentdiff.benchmark.stage_two import model_of, our_turn
from latentdiff.benchmark.timing import exponent
from latentdiff.config import AutoencoderConfig, NetworkConfig
from latentdiff.evaluation.flops import training_flops
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.network import build_network

PART = "latents against pixels"
TIMES, JUDGED = 12.0, 64  # So many times faster, at this side.
SAME = "same network in pixels"
SMALL = 8  # Pixels: an image that costs no memory to speak of.


@dataclass(frozen=True)
class Path:
    """One of the two: an autoencoder or none, and the network."""

    autoencoder: AutoencoderConfig | None
    network: NetworkConfig


def paths(bench: Bench) -> dict[str, Path]:
    """Latents, and two paths in pixels of as many parameters.

    The very U-Net that denoises the latents, with its two resolutions, and as ``pixels`` the shape that
    configs/ has for them, thin at full side and of more resolutions, its widths found by search.
    """
    setting = bench.scale.growth_setting
    latent, channels = setting.latent, setting.autoencoder.latent_channels
    wanted = counted_parameters(lambda: build_network(channels, CLASSES, latent))
    return {
        "latents": Path(setting.autoencoder, latent),
        "pixels": Path(None, equal_pixel_network(setting.pixel, 3, wanted)),
        SAME: Path(None, latent),
    }


def growth(bench: Bench) -> Iterator[Row | Growth]:
    """Training and sampling at the side that is judged, in a batch such as one trains with; then these and the memory
    of training at every side, in the small batch that the largest side allows; then the exponents."""
    scale, every = bench.scale, paths(bench)
    yield _training(bench, JUDGED, every, scale.judged_batch, scale.training_steps, Target(at_least=TIMES))
    judged = _sampling(bench, JUDGED, every, Target(at_least=TIMES))
    yield judged
    # Attention over every pixel of a large image takes minutes: the third path is for the side that is judged.
    every = {name: path for name, path in every.items() if name != SAME}
    series: dict[str, list[Row]] = {"training": [], "sampling": [], "peak memory of training": []}
    for side in scale.growth:
        # One step: at the largest side it takes seconds.
        trained = _training(bench, side, every, scale.growth_batch, 1, Target())
        memory = _memory(bench, side, every)
        # What was sampled to be judged stands in the table already.
        sampled = judged if side == JUDGED else _sampling(bench, side, every, Target())
        for each, row in zip(series.values(), (trained, sampled, memory), strict=True):
            each.append(row)
        yield from (row for row in (trained, sampled, memory) if row is not judged)
    if len(scale.growth) > 1:
        for what, rows in series.items():
            yield _fitted(what, rows, scale.growth)


def _fitted(what: str, rows: list[Row], sides: tuple[int, ...]) -> Growth:
    values = {name: tuple(row.figures[name].value for row in rows) for name in ("latents", "pixels")}
    if rows[0].more_is_better:
        values = {name: tuple(1 / value for value in series) for name, series in values.items()}
    unit = "s an image" if rows[0].more_is_better else rows[0].unit
    exponents = {name: exponent(list(sides), list(series)) for name, series in values.items()}
    return Growth(part=PART, what=what, unit=unit, sides=sides, values=values, exponents=exponents)


def _row(what: str, side: int, batch: int, figures: dict[str, Figure], **more: Any) -> Row:
    return Row(part=PART, what=f"{what}, {side} px, batch {batch}", figures=figures, **more)


def _training(bench: Bench, side: int, every: dict[str, Path], batch: int, steps: int, target: Target) -> Row:
    turns = {
        name: our_turn(side, path.autoencoder, path.network, bench.trainer(batch), steps, bench.device)
        for name, path in every.items()
    }
    timings = bench.race(turns)
    figures = {name: Figure.rate(timing, steps * batch) for name, timing in timings.items()}
    first = next(iter(turns.values()))
    flops = training_flops(model_of(first, bench.scale.growth_setting.latent))
    work = training_work(batch * flops, first.module.network, [])
    floor = batch / bench.limits.seconds(work, bench.dtype)
    return _row("training", side, batch, figures, unit="images/s", floor=floor, target=target)


def _sampling(bench: Bench, side: int, every: dict[str, Path], target: Target) -> Row:
    scale, batch = bench.scale, bench.scale.grown_sampling
    models = {name: untrained_model(side, path.autoencoder, path.network, bench.device) for name, path in every.items()}
    samplers = {name: our_sampler(model, batch) for name, model in models.items()}
    timings = race_samplers(bench, samplers, scale.steps, scale.growth_steps)
    figures = {name: Figure.rate(timing, batch) for name, timing in timings.items()}
    few, many = scale.growth_steps
    note = f"sampling: {scale.steps} steps, extrapolated from {few} and {many}, with the decoding"
    request = SamplingRequest(num_images=batch, steps=scale.steps)
    floor = batch / least_seconds(bench.limits, next(iter(models.values())), request)
    return _row("sampling", side, batch, figures, unit="images/s", floor=floor, target=target, note=note)


def _memory(bench: Bench, side: int, every: dict[str, Path]) -> Row:
    batch = bench.scale.growth_batch
    settings, small = bench.trainer(batch), bench.trainer(1)
    cases = [
        Case(
            our_turn,
            (side, path.autoencoder, path.network, settings, 1, bench.device),
            (SMALL, path.autoencoder, path.network, small, 1, bench.device),
        )
        for path in every.values()
    ]
    figures = {name: Figure.single(peak.own / 1e6) for name, peak in zip(every, peak_memories(cases), strict=True)}
    note = f"memory: of a process of its own, above what training on one image of {SMALL} px had taken in it"
    return _row("peak memory of training", side, batch, figures, unit="MB", more_is_better=False, note=note)
