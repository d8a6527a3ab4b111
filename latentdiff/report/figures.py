"""The report's figures as the bytes of an SVG, drawn on nothing for a light or dark page, or of a PNG on white."""

from __future__ import annotations

import matplotlib
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from latentdiff.report.canvas import SMALL, Format, Theme, canvas, label_ends, rendered, style
from latentdiff.report.evaluation import Evaluation, in_order
from latentdiff.report.formats import distance

# Pixel is warm and latent cold in every figure; all hues read on a light and on a dark ground.
HUES = {"pixel": ("#cf6a1c", "#a8871a", "#b5485d"), "latent": ("#3a7fc4", "#2a9187", "#7d69c4")}
MOST_CLASSES = 20


def quality_over_time(evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """Classifier distance against training time, one labelled line for each diffusion model; None without a history.

    A latent model's line starts after the time that its autoencoder took, which a dotted line stands for.
    """
    lines = []
    for evaluation, hue in _hues(evaluations):
        start = evaluation.get("training", "stage_one_seconds") or 0
        points = [
            (start + point["seconds"], point["distance"])
            for point in evaluation.get("training", "history") or []
            if point.get("seconds") is not None and (point.get("distance") or 0) > 0
        ]
        if points:
            lines.append((evaluation.name, hue, start, sorted(points)))
    if not lines:
        return None
    last = max(points[-1][0] for *_, points in lines)
    size, unit = next(
        (size, unit)
        for size, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if last >= 3 * size or size == 1
    )

    with matplotlib.rc_context(style(theme)):
        figure, axes = canvas(3.4)
        values = [value for *_, points in lines for _, value in points]
        scale = "log" if max(values) > 5 * min(values) else "linear"  # A smaller range would leave a log axis bare.
        axes.set_yscale(scale)
        for _, hue, start, points in lines:
            x, y = [seconds / size for seconds, _ in points], [value for _, value in points]
            axes.plot(x, y, color=hue, linewidth=2, solid_capstyle="round")
            axes.plot(x[-1], y[-1], "o", color=hue, markersize=5)
            if start:
                axes.plot([0, start / size], [y[0], y[0]], color=hue, linewidth=1.4, linestyle=(0, (1, 2)))
                axes.annotate(
                    "autoencoder", (start / size / 2, y[0]), (0, 4), textcoords="offset points", color=hue, ha="center"
                )
        axes.set_xlim(0, 1.02 * last / size)
        axes.margins(y=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 3, 5, 10), integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if scale == "log" else MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y")
        axes.set_xlabel(f"training time, {unit}")
        axes.set_title(f"classifier distance, {scale} scale", loc="left")
        label_ends(axes, [(name, hue, points[-1][0] / size, points[-1][1]) for name, hue, _, points in lines])
        return rendered(figure, format)


def per_class(evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """Bars of the classifier distance within each class for each diffusion model that has it; None if none has.

    Of many classes the twenty worst are drawn.
    """
    found = [
        (item.name, hue, item.get("metrics", "classifier", "per_class_distance")) for item, hue in _hues(evaluations)
    ]
    models = [(name, hue, distances) for name, hue, distances in found if distances]
    if not models:
        return None
    worst: dict[str, float] = {}
    for *_, distances in models:
        for label, value in distances.items():
            worst[label] = max(worst.get(label, 0), value or 0)
    shown = sorted(worst, key=worst.__getitem__, reverse=True)[:MOST_CLASSES]
    thickness = 0.8 / len(models)

    with matplotlib.rc_context(style(theme)):
        figure, axes = canvas(0.6 + len(shown) * (0.1 + 0.17 * len(models)))
        for index, (name, hue, distances) in enumerate(models):
            rows = [row + (index - (len(models) - 1) / 2) * thickness for row in range(len(shown))]
            lengths = [distances.get(label) for label in shown]
            axes.barh(rows, [length or 0 for length in lengths], height=0.85 * thickness, color=hue, label=name)
            for row, length in zip(rows, lengths, strict=True):
                text = "unknown" if length is None else distance(length)
                axes.annotate(text, (length or 0, row), (3, 0), textcoords="offset points", va="center", size=SMALL)
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, 1.12 * max(worst.values()) or 1)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
        if len(worst) > MOST_CLASSES:
            axes.set_title(f"the worst {MOST_CLASSES} of {len(worst)} classes", loc="right")
        return rendered(figure, format)


def _hues(evaluations: list[Evaluation]) -> list[tuple[Evaluation, str]]:
    """The diffusion models in the table's order, each with its colour."""
    ordered, found = in_order(evaluations), []
    for role, hues in HUES.items():
        models = [evaluation for evaluation in ordered if evaluation.role == role]
        found += [(evaluation, hues[index % len(hues)]) for index, evaluation in enumerate(models)]
    return found
