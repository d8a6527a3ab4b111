"""What happened while the diffusion models trained, as curves: SVG on nothing for the page, PNG on white."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from latentdiff.report.colours import COLOURS, with_colours
from latentdiff.report.evaluation import Evaluation, in_order
from latentdiff.report.figure_style import LINES, Format, Theme, label_ends, new_figure, render, style
from latentdiff.report.lead import Lead, find_lead

# The curves of one run: what a panel is called, and the columns of its lines with their names.
PANELS: dict[str, dict[str, str]] = {
    "loss": {"loss": "training", "val_loss": "held out"},
    "classifier distance": {"distance": "samples"},
    "KID": {"kid": "samples"},
    "PSNR, dB": {"psnr": "held out"},
}
# What a history may hold of the quality of samples, in the order of preference, and what it is called.
QUALITIES = {"distance": "classifier distance", "kid": "KID"}
HEIGHT = 3.4  # Inches.


@dataclass(frozen=True)
class Line:
    """A model's curve: points (x, y) with x rising, and what it had cost before its first."""

    name: str
    colour: str
    points: list[tuple[float, float]]
    start: float = 0.0
    dashed: bool = False


def quality_over_time(evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """The samples' distance to real images against training time, a labelled line for each diffusion model.

    A latent model's line starts after the time that its autoencoder took, which a dotted line stands for. A thin
    vertical line is where the lead changes between latent and pixel. None without a history.
    """
    return _over_time(evaluations, True, theme, format)


def quality_over_own_time(
    evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg"
) -> bytes | None:
    """The same without the autoencoder's time. None where no model's autoencoder took any, or without a history."""
    _, found = _quality(evaluations)
    has_autoencoder = any(item.get("training", "stage_one_seconds") for item, _ in found)
    return _over_time(evaluations, False, theme, format) if has_autoencoder else None


def different_numbers_of_samples(evaluations: list[Evaluation]) -> list[int]:
    """The numbers of samples that the curves were measured on, if they differ and the measure depends on them.

    A Fréchet distance falls with the number of samples; KID does not.
    """
    key, found = _quality(evaluations)
    counts = {item.get("training", "config", "quality_images") for item, _ in found} - {None}
    return sorted(counts) if key == "distance" and len(counts) > 1 else []


def lead_over_time(evaluations: list[Evaluation], counted: bool) -> Lead | None:
    """Which of latent and pixel is ahead, and since when. Of several models of a kind, the best one stands for it.

    None where the two were not measured alike, or where the autoencoder's time is to be counted and is not known.

    Args:
        counted: Whether a latent model begins after the time that its autoencoder took.
    """
    key, found = _quality(evaluations)
    best: list[Evaluation] = []
    for role in ("latent", "pixel"):
        items = [item for item, _ in found if item.role == role]
        if not items:
            return None
        best.append(min(items, key=lambda item: min(y for _, y in _points(item, "seconds", key))))
    latent, pixel = best
    # A Fréchet distance falls with the number of samples; KID does not.
    sizes = {item.get("training", "config", "quality_images") for item in best}
    autoencoder = latent.get("training", "stage_one_seconds")
    if (key == "distance" and len(sizes) > 1) or (counted and autoencoder is None):
        return None
    several = any(sum(item.role == one.role for item, _ in found) > 1 for one in best)
    names = (latent.name, pixel.name) if several else ("latent", "pixel")
    points = [(_start(latent, counted) + x, y) for x, y in _points(latent, "seconds", key)]
    return find_lead(points, _points(pixel, "seconds", key), autoencoder if counted else 0.0, names)


def quality_over_images(evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """The same against the images seen, which leaves speed and the autoencoder out. None without a history."""
    key, found = _quality(evaluations)
    lines = [Line(evaluation.name, colour, _points(evaluation, "images_seen", key)) for evaluation, colour in found]
    return _draw_lines(lines, *_images(lines), QUALITIES[key], theme, format) if lines else None


def losses(evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """Each diffusion model's loss against the images seen: in training a line, of held-out images a dashed one.

    Their level differs with the space and the weighting; a dashed line that turns upwards means overfitting. None
    without a history.
    """
    lines = []
    for evaluation, colour in with_colours(evaluations):
        name = evaluation.name
        for key, dashed in (("loss", False), ("val_loss", True)):
            if points := _points(evaluation, "images_seen", key):
                lines.append(Line(name, colour, points, dashed=dashed))
                name = ""  # The two end close to one another: one of them names both.
    what = "loss (dashed: held out)" if any(line.dashed for line in lines) else "loss"
    return _draw_lines(lines, *_images(lines), what, theme, format) if lines else None


def reconstruction(evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """Held-out PSNR of each autoencoder against the images it has seen. None without a history."""
    lines = []
    for index, evaluation in enumerate(item for item in in_order(evaluations) if _points(item, "images_seen", "psnr")):
        colours = COLOURS["latent"]
        lines.append(Line(evaluation.name, colours[index % len(colours)], _points(evaluation, "images_seen", "psnr")))
    return _draw_lines(lines, *_images(lines), "PSNR, dB", theme, format) if lines else None


def run_curves(rows: list[dict[str, float]], theme: Theme = "light", format: Format = "svg") -> dict[str, bytes]:
    """What one run measured against the images seen, a figure a measure: its loss, and its samples' or reconstructions'
    quality. A measure with fewer than two values has none.

    Args:
        rows: Of the run's ``metrics.csv``: numbers by column, ``images_seen`` among them.
        theme, format: Of the figures.
    """
    found = {}
    for title, columns in PANELS.items():
        lines = []
        for (column, name), colour in zip(columns.items(), LINES, strict=False):
            values = sorted((row["images_seen"], row[column]) for row in rows if {"images_seen", column} <= row.keys())
            if len(values) > 1:
                lines.append(Line(name, colour, values))
        if lines:
            found[title] = _draw_lines(lines, *_images(lines), title, theme, format)
    return found


def _quality(evaluations: list[Evaluation]) -> tuple[str, list[tuple[Evaluation, str]]]:
    """The quality that most of the models' histories hold, and the models whose do."""
    having = {
        key: [(item, colour) for item, colour in with_colours(evaluations) if _points(item, "seconds", key)]
        for key in QUALITIES
    }
    key = max(QUALITIES, key=lambda key: len(having[key]))
    return key, having[key]


def _start(evaluation: Evaluation, counted: bool) -> float:
    """Seconds that a latent model needed before its own training: to encode the images, and for its autoencoder where
    that is ``counted``."""
    encoding, autoencoder = (evaluation.get("training", key) or 0.0 for key in ("encode_seconds", "stage_one_seconds"))
    return encoding + autoencoder * counted


def _over_time(evaluations: list[Evaluation], counted: bool, theme: Theme, format: Format) -> bytes | None:
    key, found = _quality(evaluations)
    lines = []
    for evaluation, colour in found:
        start = _start(evaluation, counted)
        points = [(start + x, y) for x, y in _points(evaluation, "seconds", key)]
        is_known = evaluation.get("training", "stage_one_seconds") is not None
        lines.append(Line(evaluation.name, colour, points, start if counted and is_known else 0.0))
    if not lines:
        return None
    last = max(line.points[-1][0] for line in lines)
    size, unit = next(
        (size, unit)
        for size, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if last >= 3 * size or size == 1
    )
    lead = lead_over_time(evaluations, counted)
    crossing = lead.crossing if lead else None
    return _draw_lines(lines, f"training time, {unit}", size, QUALITIES[key], theme, format, crossing)


def _points(evaluation: Evaluation, x: str, y: str) -> list[tuple[float, float]]:
    rows = evaluation.get("training", "history") or []
    values = ((row.get(x), row.get(y)) for row in rows)
    return sorted((a, b) for a, b in values if a is not None and b is not None and math.isfinite(b))


def _images(lines: list[Line]) -> tuple[str, float]:
    """The axis of images seen, and the unit it counts in."""
    last = max(line.points[-1][0] for line in lines)
    return ("images seen, thousands", 1000) if last >= 3000 else ("images seen", 1)


def _draw_lines(
    lines: list[Line],
    x_label: str,
    size: float,
    what: str,
    theme: Theme,
    format: Format,
    crossing: float | None = None,
) -> bytes:
    with matplotlib.rc_context(style(theme)):
        figure, axes = new_figure(HEIGHT)
        values = [value for line in lines for _, value in line.points]
        # A smaller range would leave a log axis bare, and a KID may be below 0.
        scale = "log" if max(values) > 5 * min(values) > 0 else "linear"
        axes.set_yscale(scale)
        for line in lines:
            _draw_line(axes, line, size)
        if crossing is not None:
            grey = matplotlib.rcParams["axes.labelcolor"]
            axes.axvline(crossing / size, color=grey, linewidth=0.8, alpha=0.6, zorder=1)
        axes.set_xlim(0, 1.02 * max(line.points[-1][0] for line in lines) / size)
        axes.margins(y=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 3, 5, 10), integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if scale == "log" else MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y")
        axes.set_xlabel(x_label)
        axes.set_title(f"{what}, {scale} scale", loc="left")
        ends = [(line.name, line.colour, line.points[-1][0] / size, line.points[-1][1]) for line in lines if line.name]
        label_ends(axes, ends)
        return render(figure, format)


def _draw_line(axes: Axes, line: Line, size: float) -> None:
    x, y = [place / size for place, _ in line.points], [value for _, value in line.points]
    dashes = {"linestyle": (0, (4, 2)), "linewidth": 1.5} if line.dashed else {"linewidth": 2}
    axes.plot(x, y, color=line.colour, solid_capstyle="round", **dashes)
    axes.plot(x[-1], y[-1], "o", color=line.colour, markersize=5)
    if line.start:
        axes.plot([0, line.start / size], [y[0], y[0]], color=line.colour, linewidth=1.4, linestyle=(0, (1, 2)))
        middle = (line.start / size / 2, y[0])
        axes.annotate("autoencoder", middle, (0, 4), textcoords="offset points", color=line.colour, ha="center")
