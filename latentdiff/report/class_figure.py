"""How each class fares, as bars."""

from __future__ import annotations

import matplotlib

from latentdiff.report.colours import with_colours
from latentdiff.report.evaluation import Evaluation
from latentdiff.report.figure_style import SMALL, Format, Theme, legend_columns, new_figure, render, style
from latentdiff.report.formats import distance

MOST_CLASSES = 20


def class_distances_figure(
    evaluations: list[Evaluation], net: str = "classifier", theme: Theme = "light", format: Format = "svg"
) -> bytes | None:
    """Bars of the distance within each class for each diffusion model that has it; None if none has.

    The distance is in the features of ``net``, ``classifier`` or ``inception``. Of many classes the twenty worst are
    drawn.
    """
    found = [
        (item.name, colour, item.get("metrics", net, "per_class_distance"))
        for item, colour in with_colours(evaluations)
    ]
    models = [(name, colour, distances) for name, colour, distances in found if distances]
    if not models:
        return None
    worst: dict[str, float] = {}
    for *_, distances in models:
        for label, value in distances.items():
            worst[label] = max(worst.get(label, 0), value or 0)
    shown = sorted(worst, key=worst.__getitem__, reverse=True)[:MOST_CLASSES]
    thickness = 0.8 / len(models)

    with matplotlib.rc_context(style(theme)):
        columns = legend_columns(name for name, *_ in models)
        figure, axes = new_figure(0.4 + 0.2 * -(-len(models) // columns) + len(shown) * (0.1 + 0.17 * len(models)))
        for index, (name, colour, distances) in enumerate(models):
            rows = [row + (index - (len(models) - 1) / 2) * thickness for row in range(len(shown))]
            lengths = [distances.get(label) for label in shown]
            axes.barh(rows, [length or 0 for length in lengths], height=0.85 * thickness, color=colour, label=name)
            for row, length in zip(rows, lengths, strict=True):
                text = "unknown" if length is None else distance(length)
                axes.annotate(text, (length or 0, row), (3, 0), textcoords="offset points", va="center", size=SMALL)
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, 1.12 * max(worst.values()) or 1)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=columns)
        if len(worst) > MOST_CLASSES:
            axes.set_title(f"the worst {MOST_CLASSES} of {len(worst)} classes", loc="right")
        return render(figure, format)
