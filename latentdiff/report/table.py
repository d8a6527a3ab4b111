"""The comparison in numbers: rows and columns formatted once for every output, and the verdict they allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from latentdiff.report.evaluation import Evaluation, in_order
from latentdiff.report.formats import (
    amount,
    by,
    distance,
    duration,
    energy,
    kid,
    memory,
    percent,
    plus_minus,
    scientific,
    score,
    setting,
)

MISSING = "–"
SAME_BUDGET = 1.1  # Training times up to this ratio count as the same budget.
LEVEL = 1.02  # A lead below this ratio is none, whatever the standard errors say.
ERRORS = 2.0  # Nor is one below so many standard errors of the difference.
FEWEST_FOR_FID = 2048  # Inception's feature dimensions: with fewer images the covariance is singular.
MOST_COLUMNS = 10  # Of quality in one table: more of them, with their errors, are wider than a sheet of A4.

# What a column tells: how far the images are from real ones, how good and various they are, or what they took.
Group = Literal["distance", "fidelity", "cost"]


@dataclass(frozen=True)
class Column:
    """One measure.

    Args:
        key: Its name in ``report.json``.
        group: Which of a page's tables it stands in, see :meth:`Table.parts`.
        title: Its heading, in two lines.
        path: Where ``evaluation.json`` holds it.
        show: Its value as text, given its standard error if it has one.
        error: Where that is, if anywhere.
    """

    key: str
    group: Group
    title: tuple[str, str]
    path: tuple[str, ...]
    show: Callable[..., str]
    error: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A number to sort by, None where it is not known, and the text that shows it."""

    value: float | None = None
    text: str = MISSING


@dataclass(frozen=True)
class Row:
    """A model or the floor: ``name``, ``role`` in the comparison, ``about`` in a few words, a cell for each column."""

    name: str
    role: str
    about: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Columns that hold at least one value, and rows from noise to the floor."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def text(self) -> str:
        """The table for a terminal: names left, numbers right, two lines of headings."""
        head = [["", *(column.title[line] for column in self.columns)] for line in (0, 1)]
        body = [[f"{row.name}{_SUFFIX.get(row.role, '')}", *(cell.text for cell in row.cells)] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*head, *body, strict=True)]
        lines = [
            "  ".join(
                text.rjust(width) if index else text.ljust(width)
                for index, (text, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in (*head, ["-" * width for width in widths], *body)
        ]
        return "\n".join(line.rstrip() for line in lines)

    def parts(self) -> list[tuple[str, Table]]:
        """The tables that a page draws, by their headings, none wider than a sheet: quality, and cost.

        Quality is in two where it has more than ``MOST_COLUMNS``. The first has every row, the others those that have
        a value in it. A table that would have no column is left out.
        """
        quality: list[tuple[str, tuple[Group, ...]]] = [("Quality", ("distance", "fidelity"))]
        if sum(column.group != "cost" for column in self.columns) > MOST_COLUMNS:
            quality = [
                ("Quality: distances to real images", ("distance",)),
                ("Quality: fidelity and variety", ("fidelity",)),
            ]
        found: list[tuple[str, Table]] = []
        for heading, groups in (*quality, ("Cost", ("cost",))):
            part = self.of([index for index, column in enumerate(self.columns) if column.group in groups])
            if found:
                known = (row for row in part.rows if any(cell.value is not None for cell in row.cells))
                part = replace(part, rows=tuple(known))
            if part.columns:
                found.append((heading, part))
        return found

    def of(self, kept: list[int]) -> Table:
        """The table with these columns alone."""
        return Table(
            tuple(self.columns[index] for index in kept),
            tuple(replace(row, cells=tuple(row.cells[index] for index in kept)) for row in self.rows),
        )

    def plain(self) -> list[dict[str, Any]]:
        """The rows as ``report.json`` holds them, with values and texts by the columns' keys."""
        return [
            {
                "name": row.name,
                "role": row.role,
                "about": row.about,
                "cells": {
                    column.key: {"value": cell.value, "text": cell.text}
                    for column, cell in zip(self.columns, row.cells, strict=True)
                },
            }
            for row in self.rows
        ]


def with_error(value: float, error: float | None = None) -> str:
    """A distance and its standard error."""
    return distance(value) + plus_minus(value, error)


FID_ERROR = ("metrics", "inception", "fid_test_error")
KID_ERROR = ("metrics", "inception", "kid_test_error")
DISTANCE_ERROR = ("metrics", "classifier", "distance_test_error")
DIVERSITY_ERROR = ("metrics", "diversity", "error")
_TAPS = ("metrics", "inception", "taps")
COLUMNS = (
    Column("fid_test", "distance", ("FID", "test"), ("metrics", "inception", "fid_test"), with_error, FID_ERROR),
    Column("fid_train", "distance", ("FID", "train"), ("metrics", "inception", "fid_train"), distance),
    Column("fid_infinity", "distance", ("FID", "n → ∞"), ("metrics", "inception", "fid_infinity", "value"), distance),
    Column("fid_class", "distance", ("Intra-class", "FID"), ("metrics", "inception", "per_class_mean"), distance),
    Column("kid_test", "distance", ("KID", "× 1000"), ("metrics", "inception", "kid_test"), kid, KID_ERROR),
    *(
        Column(f"fid_{layer}", "distance", ("FID of", f"{layer} features"), (*_TAPS, layer, "fid_test"), distance)
        for layer in ("64", "192", "768")
    ),
    Column("precision", "fidelity", ("", "Precision"), ("metrics", "inception", "precision"), percent),
    Column("recall", "fidelity", ("", "Recall"), ("metrics", "inception", "recall"), percent),
    Column("density", "fidelity", ("", "Density"), ("metrics", "inception", "density"), distance),
    Column("coverage", "fidelity", ("", "Coverage"), ("metrics", "inception", "coverage"), percent),
    Column(
        "memorised",
        "fidelity",
        ("Closer", "than new"),
        ("metrics", "inception", "memorisation", "share_closer"),
        percent,
    ),
    Column("inception_score", "fidelity", ("Inception", "Score"), ("metrics", "inception", "inception_score"), score),
    Column(
        "distance_test",
        "distance",
        ("Classifier", "distance"),
        ("metrics", "classifier", "distance_test"),
        with_error,
        DISTANCE_ERROR,
    ),
    Column(
        "diversity", "fidelity", ("Intra-class", "LPIPS"), ("metrics", "diversity", "mean"), with_error, DIVERSITY_ERROR
    ),
    Column("class_accuracy", "fidelity", ("Class", "accuracy"), ("metrics", "classifier", "class_accuracy"), percent),
    Column("parameters", "cost", ("", "Parameters"), ("model", "parameters"), amount),
    Column("train_flops", "cost", ("Training", "FLOPs/image"), ("model", "training_flops"), scientific),
    Column("train_rate", "cost", ("Training", "images/s"), ("training", "images_per_second"), amount),
    Column("images_seen", "cost", ("Images", "seen"), ("training", "images_seen"), amount),
    Column("optimiser_steps", "cost", ("Optimiser", "steps"), ("training", "optimiser_steps"), amount),
    Column("train_seconds", "cost", ("Training", "time"), ("training", "seconds"), duration),
    Column("stage_one_seconds", "cost", ("Stage one", "before it"), ("training", "stage_one_seconds"), duration),
    Column("encode_seconds", "cost", ("Encoding", "before it"), ("training", "encode_seconds"), duration),
    Column("peak_memory", "cost", ("Peak", "memory"), ("training", "peak_memory_bytes"), memory),
    Column("train_energy", "cost", ("Training", "energy"), ("training", "energy_joules"), energy),
    Column("sample_flops", "cost", ("Sampling", "FLOPs/image"), ("sampling", "flops"), scientific),
    Column("sample_rate", "cost", ("Sampling", "images/s"), ("sampling", "images_per_second"), amount),
    Column("steps", "cost", ("", "Steps"), ("sampling", "steps"), lambda steps: f"{steps:d}"),
)
_SUFFIX = {"reconstruction": " (ceiling)", "floor": " (floor)"}


def build_table(evaluations: list[Evaluation]) -> Table:
    """Rows for noise, VAE baseline, pixel, latent, the autoencoder's reconstruction and the train-against-test floor.

    The caller has made sure that they compare (:func:`~latentdiff.report.evaluation.check_comparable`).
    """
    evaluations = in_order(evaluations)
    rows = [Row(item.name, item.role, _about(item), _cells(item)) for item in evaluations]
    if floors := _floors(evaluations):
        floor = Evaluation(Path(), "real images", {"metrics": floors})
        rows.append(Row(floor.name, "floor", "floor: train against test", _cells(floor)))
    kept = [index for index in range(len(COLUMNS)) if any(row.cells[index].value is not None for row in rows)]
    return Table(COLUMNS, tuple(rows)).of(kept)


def _cells(evaluation: Evaluation) -> tuple[Cell, ...]:
    cells = []
    for column in COLUMNS:
        value = evaluation.get(*column.path)
        number = value.get("mean") if isinstance(value, dict) else value
        error = evaluation.get(*column.error) if column.error else None
        if number is None:
            cells.append(Cell())
        else:
            cells.append(Cell(number, column.show(value) if error is None else column.show(value, error)))
    return tuple(cells)


def _about(evaluation: Evaluation) -> str:
    if evaluation.role == "latent":
        return f"diffusion on {by(evaluation.get('model', 'latent_shape'))} latents"
    return {
        "noise": "independent random pixels",
        "gaussian": "random pixels of the training images' mean and covariance",
        "images": "images from files",
        "prior": "decoded random latents",
        "pixel": f"diffusion on {by(evaluation.get('data', 'image_shape'))} pixels",
        "reconstruction": "ceiling: reconstruction",
    }[evaluation.role]


def _floors(evaluations: list[Evaluation]) -> dict[str, Any]:
    """The floors, each from the first evaluation that has it: an older one may lack some."""
    found: dict[str, Any] = {}
    for net in ("inception", "classifier", "diversity"):
        for item in evaluations:
            for key, value in (item.get("floors", net) or {}).items():
                found.setdefault(net, {}).setdefault(key, value)
    return found


def verdict(evaluations: list[Evaluation]) -> str:
    """Whether latent beat pixel, by how much and at which cost, and what the numbers do not allow to say."""
    return " ".join(judge(evaluations))


def judge(evaluations: list[Evaluation]) -> list[str]:
    """The verdict's sentences: the finding first, then each reservation.

    FID to the test images decides; where pixel and latent do not both have one, the classifier's distance does. Of
    several models of a kind the best stands for it.
    """
    evaluations = in_order(evaluations)
    for decider in DECIDERS:
        rivals = [[item for item in decider.measured(evaluations) if item.role == role] for role in ("latent", "pixel")]
        if all(rivals):
            return [*_compare(rivals, decider), *_level_pairs(evaluations, decider)]
    missing = [role for role in ("latent", "pixel") if not any(item.role == role for item in evaluations)]
    reason = f"there is no {' and no '.join(missing)} model here" if missing else "latent and pixel share no metric"
    ranked = next((decider for decider in DECIDERS if len(decider.measured(evaluations)) > 1), None)
    return [
        f"Whether the latent space paid off cannot be said: {reason}.",
        *(_ranking(evaluations, ranked) + _level_pairs(evaluations, ranked) if ranked else []),
        *_data_reservations(evaluations[0]),
    ]


@dataclass(frozen=True)
class Decider:
    """A metric that models are ranked by, less being better: its name, where its value is, and its standard error."""

    metric: str
    path: tuple[str, ...]
    error: tuple[str, ...]

    def measured(self, evaluations: list[Evaluation]) -> list[Evaluation]:
        return [item for item in evaluations if item.get(*self.path) is not None]

    def text(self, evaluation: Evaluation) -> str:
        return with_error(evaluation.get(*self.path), evaluation.get(*self.error))


DECIDERS = (
    Decider("FID to the test images", ("metrics", "inception", "fid_test"), FID_ERROR),
    Decider("classifier distance to the test images", ("metrics", "classifier", "distance_test"), DISTANCE_ERROR),
)


def _ranking(evaluations: list[Evaluation], decider: Decider) -> list[str]:
    ranked = sorted(decider.measured(evaluations), key=lambda item: item.get(*decider.path))
    return [f"By {decider.metric}, best first: {', '.join(f'{item.name} {decider.text(item)}' for item in ranked)}."]


def _level_pairs(evaluations: list[Evaluation], decider: Decider) -> list[str]:
    """Which other models are too close to be told apart by the samples that were drawn; an error that is not known is
    counted as none."""
    # Reconstructions are no draw of samples, and the best latent against the best pixel has its own sentence.
    drawn = [item for item in decider.measured(evaluations) if item.role != "reconstruction"]
    ranked = sorted(drawn, key=lambda item: item.get(*decider.path))
    judged = [next((item for item in ranked if item.role == role), None) for role in ("latent", "pixel")]
    pairs = [
        f"{first.name} and {second.name}"
        for first, second in combinations(ranked, 2)
        if not (None not in judged and first in judged and second in judged)
        and _difference(first, second, decider) <= 0
    ]
    return [f"These cannot be told apart by their {decider.metric}: {'; '.join(pairs)}."] if pairs else []


def _difference(first: Evaluation, second: Evaluation, decider: Decider) -> float:
    """How far ``second`` is behind ``first`` beyond what the draw of their samples may have done."""
    errors = (item.get(*decider.error) or 0.0 for item in (first, second))
    return second.get(*decider.path) - first.get(*decider.path) - ERRORS * math.hypot(*errors)


def _compare(rivals: list[list[Evaluation]], decider: Decider) -> list[str]:
    """The sentences for the best latent and the best pixel model, of which there is at least one each."""
    path = decider.path
    bests = [min(models, key=lambda item: item.get(*path)) for models in rivals]
    first, second = sorted(bests, key=lambda item: item.get(*path))
    low, high = first.get(*path), second.get(*path)
    drawn_apart = _difference(first, second, decider) > 0
    level = high <= low * LEVEL or not drawn_apart
    better, worse = _called(first), _called(second)
    finding = f"{better} and {worse} are level" if level else f"{better} beat {worse}"
    sentences = [
        f"{finding[0].upper()}{finding[1:]}: {decider.metric} {decider.text(first)} against "
        f"{decider.text(second)} (lower is better), "
        f"after {_training(first, ' of training')} against {_training(second)}."
    ]
    if level:
        sentences.append(
            "A difference this small is within what other samples of the same models would change."
            if not drawn_apart
            else f"A lead below {LEVEL - 1:.0%} is taken for none: another training run may well undo it."
        )
    unsure = [item.name for item in (first, second) if item.get(*decider.error) is None]
    if unsure and len(unsure) < 2:
        sentences.append(f"The standard error of {unsure[0]} is not known, and counted as none: evaluate it again.")
    sentences += _budget(first, second, level)
    for models in rivals:
        if len(models) > 1:
            sentences.append(f"The best of {len(models)} {models[0].role} models is compared, chosen by this number.")
    if setting(first) != setting(second):
        sentences.append(f"Sampled differently: {first.name} by {setting(first)}; {second.name} by {setting(second)}.")
    if path[1] == "classifier":
        sentences.append(
            "No FID decides here: this distance is in the features of the package's own classifier "
            "and compares only within this report."
        )
    elif first.values["num_images"] < FEWEST_FOR_FID:
        images = f"{first.values['num_images']:,}"
        sentences.append(f"An FID from {images} images is unreliable: Inception needs at least {FEWEST_FOR_FID:,}.")
    sentences += _data_reservations(first)
    return [*sentences, "One training run each: how far another run would move these numbers is not known."]


def _called(evaluation: Evaluation) -> str:
    name, role = evaluation.name, evaluation.role
    return name if name.startswith(role) else f"{role} ({name})"


def _seconds(evaluation: Evaluation) -> float | None:
    """All that its training took, with the autoencoder's and the encoding where they are known."""
    seconds = evaluation.get("training", "seconds")
    before = (evaluation.get("training", key) or 0 for key in ("stage_one_seconds", "encode_seconds"))
    return None if seconds is None else seconds + sum(before)


def _training(evaluation: Evaluation, noun: str = "") -> str:
    seconds, stage_one = _seconds(evaluation), evaluation.get("training", "stage_one_seconds")
    if seconds is None:
        return f"an unrecorded time{noun}"
    return f"{duration(seconds)}{noun}" + (f" ({duration(stage_one)} of it for the autoencoder)" if stage_one else "")


def _budget(first: Evaluation, second: Evaluation, level: bool) -> list[str]:
    """Reservations about the two training times; ``first`` is the one with the better metric."""
    sentences = []
    times = [_seconds(item) for item in (first, second)]
    if None in times:
        unknown = " and ".join(item.name for item in (first, second) if _seconds(item) is None)
        sentences.append(f"Whether the budget was the same cannot be said: {unknown} has no training time.")
    elif max(times) > SAME_BUDGET * min(times):
        longer, shorter = (first, second) if times[0] > times[1] else (second, first)
        ratio = f"{max(times) / min(times):.1f} times" if min(times) else "far"
        own = [item.get("training", "seconds") for item in (first, second)]
        sentence = f"Not the same time: {longer.name} trained {ratio} as long as {shorter.name}"
        if max(own) <= SAME_BUDGET * min(own):
            sentence = (
                f"The two diffusion models trained equally long; counting the autoencoder's training, {longer.name} "
                f"took {ratio} as long as {shorter.name}"
            )
        elif not level:
            sentence += ", which may be all of its lead" if longer is first else " and was still beaten"
        sentences.append(f"{sentence}.")
    if any(item.role == "latent" and item.get("training", "stage_one_seconds") is None for item in (first, second)):
        sentences.append("The autoencoder's own training time is not known and not counted.")
    devices = [item.get("training", "device") for item in (first, second)]
    if None not in devices and devices[0] != devices[1]:
        sentences.append(f"Trained on different devices ({devices[0]}; {devices[1]}), so the times do not compare.")
    for item in (first, second):
        before, own = item.get("training", "stage_one_device"), item.get("training", "device")
        if None not in (before, own) and before != own:
            sentences.append(
                f"The autoencoder of {item.name} was trained on another device ({before}) than it ({own}), so the time "
                "that counts both is of neither."
            )
    return sentences


def _data_reservations(evaluation: Evaluation) -> list[str]:
    if evaluation.get("data", "source") != "embedded":
        return []
    return [f"Measured on the slice of {evaluation.get('data', 'name')} inside the package, not on the full set."]
