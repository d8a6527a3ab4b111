"""A model as a notebook shows it: what it is, what it was trained on, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentdiff.report.notebook import facts_table

SHOWN_CLASSES = 12
SHOWN_METRICS = 6
# Columns of metrics.csv that say how the training went on, and not how good the model is.
OF_THE_WORK = ("images_seen", "seconds", "lr", "images_per_second", "quality_seconds")
# A card is a page of text; whatever else has its name is not read.
MOST_BYTES = 1 << 20


def model_table(heading: str, facts: Mapping[str, str], provenance: Mapping[str, Any], path: Path | None) -> str:
    """An HTML fragment: what a model is, beside its training and the figures of its card.

    Args:
        heading: The line above.
        facts: What it is, by name.
        provenance: The record of its training; whatever is not as expected in it is left out.
        path: The file it was read from. A card beside it, of its name and ``.md``, is looked for.
    """
    rows = {**({"File": str(path)} if path else {}), **facts, **_training(provenance)}
    measured = card_figures(path.with_suffix(".md")) if path else []
    return facts_table(heading, rows, "Measured, by the card beside the file:" if measured else "", measured)


def shape_words(shape: Sequence[int]) -> str:
    """Sizes as ``1 x 28 x 28``."""
    return " x ".join(map(str, shape))


def class_words(names: Sequence[str]) -> str:
    """The number of classes and the first names."""
    if not names:
        return "none: it is unconditional"
    return f"{len(names)}: {', '.join(names[:SHOWN_CLASSES])}{', …' if len(names) > SHOWN_CLASSES else ''}"


def card_figures(card: Path) -> list[str]:
    """The figures of the first evaluation in a model card, a line each; none where there is no card."""
    try:
        if not 0 < card.stat().st_size < MOST_BYTES:
            return []
        lines = card.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    start = next((number for number, line in enumerate(lines) if line.startswith("Measured on this file")), None)
    if start is None:
        return []
    found: list[str] = []
    for line in lines[start + 1 :]:
        if line.startswith("- "):
            found.append(line.removeprefix("- "))
        elif line.strip():
            break
    return found


def _training(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Data, length, machine and last measurements of the training, as far as the record has them."""
    rows: dict[str, str] = {}
    data = provenance.get("data")
    if isinstance(data, dict) and isinstance(data.get("images"), int):
        rows["Trained on"] = f"{data['images']:,} images of {data.get('name', 'a data set')}"
    seen, seconds = provenance.get("images_seen"), provenance.get("seconds")
    if _is_number(seen) and _is_number(seconds):
        rows["Training"] = (
            f"{seen:,} images seen in {seconds / 60:.1f} minutes on {provenance.get('device', 'a device')}"
        )
    history = provenance.get("history")
    last = history[-1] if isinstance(history, list) and history else None
    if isinstance(last, dict):
        names = [name for name in last if name not in OF_THE_WORK and _is_number(last[name])]
        shown = [f"{name} {last[name]:.4g}" for name in names if not name.startswith("latent_")]
        rows |= {"Last epoch": ", ".join(shown[:SHOWN_METRICS])} if shown else {}
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
