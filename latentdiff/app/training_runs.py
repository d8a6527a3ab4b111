"""Training runs on this machine, as the page shows them: numbers, curves and grids of samples."""

from __future__ import annotations

import base64
import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path

from latentdiff.app.pictures import escape, figure, message
from latentdiff.data.image_formats import kind_of
from latentdiff.errors import ConfigError, FolderError
from latentdiff.folder_mark import read_mark
from latentdiff.report.curves import run_curves

METRICS = "metrics.csv"
# How deep runs lie below the folder, and how many are listed, the newest first.
DEEPEST, MOST_RUNS = 4, 100
# Files that are larger are not what a training writes.
MOST_BYTES = 20 * 1024**2
SHOWN_GRIDS = 4
SHOWN_NUMBERS = ("loss", "val_loss", "distance", "kid", "psnr", "lr")


def find_runs(root: Path) -> list[str]:
    """The training runs below a folder, by their paths in it, the one that wrote last first."""
    found = sorted(_metrics_below(root), reverse=True)
    return [path.parent.relative_to(root).as_posix() for _, path in found[:MOST_RUNS]]


def version_of(root: Path, name: object) -> str:
    """A text that changes when a run has written something new."""
    folder = _folder_of(root, name)
    files = [folder / METRICS, *_grids(folder)[-1:]]
    stamps = [f"{path.name}:{path.stat().st_mtime_ns}" for path in files if path.is_file()]
    return f"{name}|{'|'.join(stamps)}|{_is_finished(folder)}"


def show_run(root: Path, name: object) -> str:
    """A run as HTML: what it has reached, its curves, and its grids of samples, the last one first.

    Args:
        root: The folder of all runs.
        name: One of :func:`find_runs`.

    Raises :class:`~latentdiff.errors.LatentdiffError` for another name, and for a run whose numbers cannot be read.
    """
    folder = _folder_of(root, name)
    rows = read_metrics(folder / METRICS)
    parts = [message(_state(folder, rows), "state")]
    light, dark = (run_curves(rows, theme) for theme in ("light", "dark"))
    curves = "".join(
        f'<div class="ld-curve" role="img" aria-label="{escape(_described(title, rows))}">'
        f'<div class="ld-light">{_inline(light[title])}</div><div class="ld-dark">{_inline(dark[title])}</div></div>'
        for title in light
    )
    parts.append(f'<div class="ld-curves">{curves}</div>' if curves else message("Curves begin with the second epoch."))
    grids = [_grid(path) for path in _grids_to_show(folder)]
    parts.append(f'<div class="ld-grids">{"".join(grids)}</div>' if grids else message("No samples were drawn yet."))
    return "".join(parts)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.csv`` as finite numbers by column. Raises :class:`~latentdiff.errors.FolderError`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FolderError(f"{path} is larger than a run's numbers can be")
        with open(path, newline="") as file:
            rows = [_numbers(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise FolderError(f"the numbers of this run cannot be read: {error}") from error
    return [row for row in rows if "images_seen" in row]


def _numbers(row: dict[str, str | None]) -> dict[str, float]:
    found = {}
    for key, value in row.items():
        try:
            number = float(value or "nan")
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            found[key] = number
    return found


def _metrics_below(root: Path) -> Iterator[tuple[float, Path]]:
    """The files of numbers below a folder, each with the time of its last change. Links are not followed."""
    for folder, inner, files in os.walk(root):
        if len(Path(folder).relative_to(root).parts) >= DEEPEST:
            inner.clear()
        inner[:] = [name for name in inner if not name.startswith(".")]
        if METRICS in files:
            path = Path(folder) / METRICS
            try:
                yield path.stat().st_mtime, path
            except OSError:
                continue


def _folder_of(root: Path, name: object) -> Path:
    """The folder of a listed run. A request cannot name any other folder of this machine."""
    if not isinstance(name, str) or name not in find_runs(root):
        raise ConfigError("there is no such run: choose one from the list")
    return root / name


def _state(folder: Path, rows: list[dict[str, float]]) -> str:
    if not rows:
        return "No epoch has ended yet."
    last = rows[-1]
    state = "Finished" if _is_finished(folder) else "Not finished"
    parts = [f"{state}: {last['images_seen']:,.0f} images seen"]
    if seconds := last.get("seconds"):
        parts.append(f"{seconds / 60:.1f} minutes, {last['images_seen'] / seconds:,.0f} images a second")
    parts += [f"{name} {last[name]:.4g}" for name in SHOWN_NUMBERS if name in last]
    return ", ".join(parts)


def _is_finished(folder: Path) -> bool:
    mark = read_mark(folder)
    return mark is not None and mark.finished


def _described(title: str, rows: list[dict[str, float]]) -> str:
    return f"Curve of {title} over {len(rows)} epochs; its last values are in the line above."


def _inline(svg: bytes) -> str:
    """An SVG without its XML prologue, to be placed in a page."""
    text = svg.decode()
    return text[text.index("<svg") :]


def _grids(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "samples").glob("*.png") if path.stem.isdigit())


def _grids_to_show(folder: Path) -> list[Path]:
    """Some of the grids, evenly spread, the last one first."""
    grids = _grids(folder)
    if len(grids) <= SHOWN_GRIDS:
        return grids[::-1]
    return [grids[round(i * (len(grids) - 1) / (SHOWN_GRIDS - 1))] for i in reversed(range(SHOWN_GRIDS))]


def _grid(path: Path) -> str:
    words = f"Samples after {int(path.stem):,} images"
    try:
        content = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    except OSError:
        content = b""
    if kind_of(content) != "PNG":
        return message(f"{words}: the picture cannot be read")
    return figure(f"data:image/png;base64,{base64.b64encode(content).decode()}", words, words)
