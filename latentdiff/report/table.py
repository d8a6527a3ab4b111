"""The comparison in numbers: rows and columns formatted once for every output, and the verdict they allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from latentdiff.report.evaluation import Evaluation, in_order
from latentdiff.report.formats import (
    amount,
    distance,
    duration,
    energy,
    kid,
    memory,
    percent,
    plus_minus,
    scientific,
    score,
    shape_text,
)

MISSING = "–"
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
        path: Where ``evaluation.json`` holds it, or what finds it there.
        show: Its value as text, given its standard error if it has one.
        error: Where that is, if anywhere.
    """

    key: str
    group: Group
    title: tuple[str, str]
    path: tuple[str, ...] | Callable[[Evaluation], Any]
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
            part = self.select([index for index, column in enumerate(self.columns) if column.group in groups])
            if found:
                known = (row for row in part.rows if any(cell.value is not None for cell in row.cells))
                part = replace(part, rows=tuple(known))
            if part.columns:
                found.append((heading, part))
        return found

    def select(self, kept: list[int]) -> Table:
        """The table with these columns alone."""
        return Table(
            tuple(self.columns[index] for index in kept),
            tuple(replace(row, cells=tuple(row.cells[index] for index in kept)) for row in self.rows),
        )

    def to_dicts(self) -> list[dict[str, Any]]:
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


def total_training_seconds(evaluation: Evaluation) -> float | None:
    """All that its training took, with the autoencoder's and the encoding where they are known."""
    seconds = evaluation.get("training", "seconds")
    before = (evaluation.get("training", key) or 0 for key in ("stage_one_seconds", "encode_seconds"))
    return None if seconds is None else seconds + sum(before)


def total_training_flops(evaluation: Evaluation) -> float | None:
    """All operations of its training, with the autoencoder's; None where either is not known."""
    flops, before = (evaluation.get("training", key) for key in ("flops", "stage_one_flops"))
    has_stage_one = evaluation.get("training", "stage_one_seconds") is not None or (
        (evaluation.get("training", "config") or {}).get("autoencoder") not in (None, "none")
    )
    if flops is None or not has_stage_one:
        return flops
    return None if before is None else flops + before


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
    Column("train_flops", "cost", ("Training", "FLOPs/img"), ("model", "training_flops"), scientific),
    Column("train_rate", "cost", ("Training", "images/s"), ("training", "images_per_second"), amount),
    Column("images_seen", "cost", ("Images", "seen"), ("training", "images_seen"), amount),
    Column("optimiser_steps", "cost", ("Optimiser", "steps"), ("training", "optimiser_steps"), amount),
    Column("train_seconds", "cost", ("Training", "time"), ("training", "seconds"), duration),
    Column("stage_one_seconds", "cost", ("Stage one", "before it"), ("training", "stage_one_seconds"), duration),
    Column("encode_seconds", "cost", ("Encoding", "before it"), ("training", "encode_seconds"), duration),
    Column("all_seconds", "cost", ("Training", "in all"), total_training_seconds, duration),
    Column("all_flops", "cost", ("FLOPs", "in all"), total_training_flops, scientific),
    Column("peak_memory", "cost", ("Peak", "memory"), ("training", "peak_memory_bytes"), memory),
    Column("train_energy", "cost", ("Training", "energy"), ("training", "energy_joules"), energy),
    Column("sample_flops", "cost", ("Sampling", "FLOPs/img"), ("sampling", "flops"), scientific),
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
    return Table(COLUMNS, tuple(rows)).select(kept)


def _cells(evaluation: Evaluation) -> tuple[Cell, ...]:
    cells = []
    for column in COLUMNS:
        value = column.path(evaluation) if callable(column.path) else evaluation.get(*column.path)
        number = value.get("mean") if isinstance(value, dict) else value
        error = evaluation.get(*column.error) if column.error else None
        if number is None:
            cells.append(Cell())
        else:
            cells.append(Cell(number, column.show(value) if error is None else column.show(value, error)))
    return tuple(cells)


def _about(evaluation: Evaluation) -> str:
    if evaluation.role == "latent":
        return f"diffusion on {shape_text(evaluation.get('model', 'latent_shape'))} latents"
    return {
        "noise": "independent random pixels",
        "gaussian": "random pixels of the training images' mean and covariance",
        "images": "images from files",
        "prior": "decoded random latents",
        "pixel": f"diffusion on {shape_text(evaluation.get('data', 'image_shape'))} pixels",
        "reconstruction": "ceiling: reconstruction" + (" of training images" if evaluation.reconstructs_train else ""),
    }[evaluation.role]


def _floors(evaluations: list[Evaluation]) -> dict[str, Any]:
    """The floors, each from the first evaluation that has it: an older one may lack some."""
    found: dict[str, Any] = {}
    for net in ("inception", "classifier", "diversity"):
        for item in evaluations:
            for key, value in (item.get("floors", net) or {}).items():
                found.setdefault(net, {}).setdefault(key, value)
    return found
