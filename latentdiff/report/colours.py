"""Which colour stands for which model, in every figure alike."""

from __future__ import annotations

from latentdiff.report.evaluation import Evaluation, in_order

# Pixel is warm and latent cold; all colours can be read on a light and on a dark ground.
COLOURS = {"pixel": ("#cf6a1c", "#a8871a", "#b5485d"), "latent": ("#3a7fc4", "#2a9187", "#7d69c4")}


def with_colours(evaluations: list[Evaluation]) -> list[tuple[Evaluation, str]]:
    """The diffusion models in the table's order, each with its colour."""
    ordered, found = in_order(evaluations), []
    for role, colours in COLOURS.items():
        models = [evaluation for evaluation in ordered if evaluation.role == role]
        found += [(evaluation, colours[index % len(colours)]) for index, evaluation in enumerate(models)]
    return found
