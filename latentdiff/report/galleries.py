"""The images of a report: samples, one class at a time, denoising, reconstructions, nearest training images."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from latentdiff.report.evaluation import Evaluation
from latentdiff.report.method_notes import caption
from latentdiff.report.pictures import Picture, data_uri, image_grid


@dataclass(frozen=True)
class Gallery:
    """Pictures under a heading, with what they have in common."""

    title: str
    text: str
    pictures: list[Picture]


@dataclass(frozen=True)
class ClassSheet:
    """A model's samples class by class: one image, a row of ``row`` pixels for each of ``names``."""

    title: str
    image: str
    names: list[str]
    row: int


def galleries(evaluations: list[Evaluation]) -> list[Gallery]:
    """Every gallery that has a picture."""
    found = [
        Gallery("Images", "", _pictures(evaluations, "grid", caption)),
        Gallery(
            "Denoising",
            "States of the first samples, decoded, from pure noise (left) to the image.",
            _pictures(evaluations, "strip", caption) + _pictures(evaluations, "gif", caption),
        ),
        Gallery(
            "Reconstructions beside originals",
            "Real images, each row above the row of what the autoencoder makes of them.",
            _pictures(evaluations, "originals", lambda _: ""),
        ),
        Gallery(
            "Nearest training images",
            "Of all samples those that most resemble a training image (top row), over the training images nearest to "
            "them. Equals in a column would be a copied image.",
            _pictures(evaluations, "neighbours", _among),
        ),
    ]
    return [gallery for gallery in found if gallery.pictures]


def class_sheets(evaluations: list[Evaluation]) -> list[ClassSheet]:
    """The sheets that the page lets one pick a class from."""
    sheets = []
    for evaluation in evaluations:
        data, about = evaluation.picture("classes"), evaluation.get("pictures", "classes")
        if data:
            sheets.append(ClassSheet(evaluation.name, data_uri(data, "png"), about["names"], about["row"]))
    return sheets


def _pictures(
    evaluations: list[Evaluation],
    kind: str,
    describe: Callable[[Evaluation], str],
) -> list[Picture]:
    pictures = []
    for index, evaluation in enumerate(evaluations, 1):
        if data := evaluation.picture(kind):
            file = f"{kind}-{index}-{re.sub(r'[^A-Za-z0-9_-]+', '-', evaluation.name)}"
            pictures.append(image_grid(evaluation.name, describe(evaluation), data, file))
    return pictures


def _among(evaluation: Evaluation) -> str:
    """What the rows are: among how many training images, by pixels and in whose features."""
    net = "inception" if evaluation.get("features", "inception") else "classifier"
    count = evaluation.get("features", net, "train_images")
    named = "Inception's" if net == "inception" else "the classifier's"
    whole = evaluation.get("data", "train_images")
    among = f", among {count:,} of {whole:,} training images" if count and whole else ""
    text = f"earest in {named} features{among}"
    if distances := evaluation.get("pictures", "neighbours", "distances"):
        text += f", at distances of {min(distances):.2f} to {max(distances):.2f}"
    differences = evaluation.get("pictures", "neighbours", "differences")
    if not differences:
        return f"N{text}."
    return (
        f"Second row: nearest by pixels, among all {whole:,} training images, {min(differences):.1f} to "
        f"{max(differences):.1f} grey levels (rms) away. Below: n{text}."
    )
