"""The report as files: a self-contained page, the same in Markdown, and the numbers as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from latentdiff import __version__
from latentdiff.folder_mark import write_files
from latentdiff.report import curves
from latentdiff.report.class_figure import class_distances_figure
from latentdiff.report.evaluation import SCHEMA, Evaluation, check_comparable, in_order
from latentdiff.report.figure_style import Format, Theme
from latentdiff.report.galleries import class_sheets, galleries
from latentdiff.report.method_notes import commands, data_line, facts, how_to_read, settings
from latentdiff.report.missing import missing_baselines, missing_samplers
from latentdiff.report.notebook import html_table
from latentdiff.report.pictures import Picture, plot
from latentdiff.report.pixel_density import draw_pixel_density
from latentdiff.report.sampler_figure import sampler_figure
from latentdiff.report.table import Table, build_table
from latentdiff.report.verdict import verdict, verdict_sentences

SAMPLING_STEPS = "Quality against sampling steps"


@dataclass(frozen=True, repr=False)
class Report:
    """A comparison of evaluated models: what :func:`~latentdiff.compare` returns.

    ``print(report)`` shows the verdict and the table. A notebook shows them as HTML. :meth:`save` writes the page.

    Attributes:
        evaluations: The models' measurements, in any order; they must compare.
        title: The page's heading.
        groups: Sets of the evaluations that are compared with each other, by what they have in common, such as a
            budget. Without groups all are compared with each other.
        samplers: What the samplers stage has measured (``samplers.json``) of models among these, by the model's name.
        folder: Where the report was written; None while it is in memory alone.
    """

    evaluations: list[Evaluation]
    title: str = "Pixel against latent"
    groups: dict[str, list[Evaluation]] = field(default_factory=dict[str, list[Evaluation]])
    samplers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_comparable(self.evaluations)

    def __repr__(self) -> str:
        names = ", ".join(evaluation.name for evaluation in in_order(self.evaluations))
        return f"Report({self.title!r}: {names})"

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows from noise to the floor: ``name``, ``role``, and the value of each column by its key, or None."""
        return [
            {"name": row["name"], "role": row["role"], **{key: cell["value"] for key, cell in row["cells"].items()}}
            for row in self._table().to_dicts()
        ]

    @property
    def verdict(self) -> str:
        """Whether latent beat pixel, by how much and at which cost, and what the numbers do not allow to say."""
        return " ".join(f"At {words}. {verdict(group)}" if words else verdict(group) for words, group in self._judged())

    def __str__(self) -> str:
        return f"{self.verdict}\n\n{self._table().text()}"

    def _repr_html_(self) -> str:
        """The title, the table and the verdict; it needs no other file."""
        table = self._table()
        columns = ["Model", *(" ".join(column.title).strip() for column in table.columns)]
        rows = [[row.name, *(cell.text for cell in row.cells)] for row in table.rows]
        return html_table(self.title, columns, rows, [self.verdict])

    def save(self, folder: Path | str) -> Path:
        """Write ``index.html``, ``report.md`` with its PNGs and ``report.json`` into ``folder``.

        Returns the path of the page, which needs no other file and no network. Raises
        :class:`~latentdiff.errors.FolderError` where a file of another's would be lost.
        """
        return write_report(self.evaluations, folder, self.title, self.groups, self.samplers)

    def _table(self) -> Table:
        return build_table(self.evaluations)

    def _judged(self) -> list[tuple[str, list[Evaluation]]]:
        return list((self.groups or {"": self.evaluations}).items())


def write_report(
    evaluations: list[Evaluation],
    folder: Path | str,
    title: str = "Pixel against latent",
    groups: dict[str, list[Evaluation]] | None = None,
    samplers: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Write ``index.html``, ``report.md`` with its PNGs, and ``report.json`` into ``folder``; each replaced whole.

    Args:
        evaluations: What :func:`~latentdiff.report.evaluation.read_evaluation` gave, in any order.
        folder: Created if need be.
        title: The page's heading.
        groups: Sets of the evaluations that are to be judged one against another, by what they have in common, such as
            a budget; without them all are judged together.
        samplers: What stages.samplers has measured (``samplers.json``) of models among these, by the model's name.

    Returns:
        The page's path. It needs no other file and no network.

    Raises:
        ReportError: The evaluations do not compare.
    """
    check_comparable(evaluations)
    evaluations, folder = in_order(evaluations), Path(folder)
    table = build_table(evaluations)
    verdicts = [(words, *_split(verdict_sentences(group))) for words, group in (groups or {"": evaluations}).items()]
    plots, shown = [*_plots(evaluations), *_sampler_plots(samplers or {})], galleries(evaluations)
    content = {
        "title": title,
        "verdicts": verdicts,
        "missing": missing_baselines(evaluations),
        "data": data_line(evaluations[0]),
        "tables": table.parts(),
        "notes": how_to_read(evaluations, table),
        "plots": plots,
        "sampling_steps": SAMPLING_STEPS,
        "missing_samplers": missing_samplers(
            evaluations, [record["model"]["sha256"] for record in (samplers or {}).values()]
        ),
        "galleries": shown,
        "sheets": class_sheets(evaluations),
        "num_classes": len(evaluations[0].get("data", "class_names") or ()),
        "models": [
            (evaluation.name, facts(evaluation), commands(evaluation), settings(evaluation))
            for evaluation in evaluations
        ],
        "version": __version__,
    }
    report = {
        "schema": SCHEMA,
        "title": title,
        "verdict": " ".join(
            " ".join([*([f"At {words}."] if words else []), finding, *more]) for words, finding, more in verdicts
        ),
        "columns": [{"key": column.key, "title": " ".join(column.title).strip()} for column in table.columns],
        "rows": table.to_dicts(),
        "evaluations": [evaluation.values for evaluation in evaluations],
        "version": __version__,
    }
    pages = templates()
    files = {
        picture.file: picture.data
        for picture in (*plots, *(picture for gallery in shown for picture in gallery.pictures))
    }
    files["report.md"] = pages.get_template("report.md.j2").render(content).encode()
    files["report.json"] = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False).encode()
    files["index.html"] = pages.get_template("index.html.j2").render(content).encode()
    write_files(folder, files, "compare")
    return folder / "index.html"


def _split(sentences: list[str]) -> tuple[str, list[str]]:
    return sentences[0], sentences[1:]


def templates() -> Environment:
    """The templates of all pages: what goes into HTML is escaped, a name that is not given is an error."""
    environment = Environment(
        loader=PackageLoader("latentdiff.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = _markdown  # pyright: ignore[reportUnknownMemberType]: jinja2 types it half
    environment.filters["code"] = _code  # pyright: ignore[reportUnknownMemberType]
    return environment


def _markdown(text: str) -> str:
    """Text on one line with Markdown's and HTML's own characters escaped; underscores inside words need none."""
    return re.sub(r"([\\`*\[\]<>|&#])", r"\\\1", " ".join(str(text).split()))


def _code(text: str) -> str:
    """Text as Markdown's code within a line, between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _how_to_compare(evaluations: list[Evaluation]) -> str:
    """What the curves of quality may be compared with."""
    if counts := curves.different_numbers_of_samples(evaluations):
        *others, last = (f"{count:,}" for count in counts)
        return (
            f"The curves are of {', '.join(others)} and {last} samples, and a distance depends on that number: do not "
            "compare their heights."
        )
    return "Compare the curves with each other."


def _plots(evaluations: list[Evaluation]) -> list[Picture]:
    pictures: list[Picture | None] = []
    for title, text, draw, file in (
        (
            "Quality against training time",
            f"Measured during training, as a rule on fewer images than the table. {_how_to_compare(evaluations)} "
            "Lower is better. A latent model's curve starts after its autoencoder's training."
            + _lead(evaluations, counted=True),
            curves.quality_over_time,
            "quality.png",
        ),
        (
            "Quality against the diffusion model's own training time",
            "The same with the autoencoder's time left out, for an autoencoder that is there already. The time for "
            "encoding the images is counted." + _lead(evaluations, counted=False),
            curves.quality_over_own_time,
            "quality-own-time.png",
        ),
        (
            "Quality against images seen",
            "The same by what each model has been shown: speed and the autoencoder's time left out.",
            curves.quality_over_images,
            "quality-images.png",
        ),
        (
            "Losses",
            "In training a line, of held-out images dashed. The levels of two spaces do not compare; a dashed line "
            "that turns upwards means overfitting.",
            curves.losses,
            "losses.png",
        ),
        (
            "The autoencoder's reconstructions",
            "PSNR of held-out images while stage one trained, in dB; higher is better. A perceptual or adversarial "
            "loss lowers it and may still make better images.",
            curves.reconstruction,
            "reconstruction.png",
        ),
        (
            "Classifier distance by class",
            "Fréchet distance within each class in the classifier's features, worst class first. Lower is better.",
            class_distances_figure,
            "classes.png",
        ),
        (
            "FID by class",
            "The same in Inception's features: of few images each, so only for comparing the models here.",
            partial(class_distances_figure, net="inception"),
            "classes-fid.png",
        ),
        (
            "Pixel values",
            "How often each value occurs in the test images and in what was measured: where the lines part, the images "
            "are too dark, too bright or too flat, whatever the distances say.",
            _densities,
            "density.png",
        ),
    ):
        pictures.append(plot(title, text, partial(draw, evaluations), file))
    return [picture for picture in pictures if picture]


def _lead(evaluations: list[Evaluation], counted: bool) -> str:
    """When latent and pixel are ahead of each other, to add to a caption; nothing where there are not both."""
    lead = curves.lead_over_time(evaluations, counted)
    return f" {lead.sentence()}" if lead else ""


def _sampler_plots(samplers: dict[str, dict[str, Any]]) -> list[Picture]:
    text = (
        "Distance of samples against the network's passes for one of them, sampler by sampler; lower and further left "
        "is better. Heun's method takes two passes a step."
    )
    pictures: list[Picture | None] = []
    for index, (name, record) in enumerate(samplers.items(), 1):
        title = f"{SAMPLING_STEPS}, {name}"
        pictures.append(plot(title, text, partial(sampler_figure, record), f"samplers-{index}.png"))
    return [picture for picture in pictures if picture]


def _densities(evaluations: list[Evaluation], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """The test images' pixel values and every evaluation's over them; None where none has measured them."""
    own = {evaluation.name: evaluation.get("density", "images") for evaluation in evaluations}
    real = next((density for density in (e.get("density", "test") for e in evaluations) if density), None)
    lines = {"test images": real, **own}
    lines = {name: np.asarray(density) for name, density in lines.items() if density}
    return draw_pixel_density(lines, theme, format) if len(lines) > 1 else None
