"""A search as files: a self-contained page, and its figures as PNGs."""

from __future__ import annotations

from functools import partial
from typing import Any

from latentdiff import __version__
from latentdiff.report.formats import amount, duration, scientific
from latentdiff.report.page import templates
from latentdiff.report.pictures import Picture, plot
from latentdiff.report.search_figures import QUALITIES, history, importance, parallel_coordinates

FIGURES = ("parallel.png", "history.png", "importance.png")
SAMPLERS = {"tpe": "a tree-structured Parzen estimator", "gp": "a Gaussian process"}
PRUNERS = {
    "median": "a trial that was worse than the median of the others at the same point was ended early",
    "hyperband": "Hyperband ended trials early",
    "none": "no trial was ended early",
}
STATES = {"complete": "complete", "pruned": "ended early", "failed": "failed", "running": "running"}


def search_page(record: dict[str, Any]) -> dict[str, bytes]:
    """The page ``index.html`` and its figures, by the names of their files.

    Args:
        record: A search's ``search.json``, as :mod:`latentdiff.comparison.search` gathers it.
    """
    plots = _plots(record)
    best = _best(record)
    names = list(record["space"])
    content = {
        "title": f"Search {record['name']} on {record['data']}",
        "finding": finding(record),
        "sentences": sentences(record),
        "best": [(name, _shown(value)) for name, value in best["settings"].items()] if best else [],
        "train": record["train"],
        "go_on": record["go_on"],
        "plots": plots,
        "columns": ["Trial", "Figure", *names, "Images seen", "Seconds", "Parameters", "End"],
        "rows": [_row(trial, names, record) for trial in _in_order(record)],
        "notes": _notes(record),
        "version": __version__,
    }
    files = {picture.file: picture.data for picture in plots}
    return files | {"index.html": templates().get_template("search.html.j2").render(content).encode()}


def finding(record: dict[str, Any]) -> str:
    """What a search found, in one sentence."""
    best = _best(record)
    if best is None:
        return "No trial is complete yet."
    what = QUALITIES.get(record["metric"], record["metric"])
    return f"The best of {_number(record)} trials is number {best['number']}, with a {what} of {best['value']:.4g}."


def sentences(record: dict[str, Any]) -> list[str]:
    """What there is to know of a search before its result is used."""
    states = [trial["state"] for trial in record["trials"]]
    counts = [f"{states.count(state)} {words}" for state, words in STATES.items() if state in states]
    found = [f"Trials: {', '.join(counts)}, of {record['trials_wanted']}."] if counts else []
    found.append(
        f"Each was {budget_words(record)} of training; {record['num_images']:,} samples were compared with validation "
        "images. Test images were not used."
    )
    found.append(
        "Settings that are best in a short training need not be best in a long one. Train the best few for longer."
    )
    first = next((trial for trial in record["trials"] if trial["is_first"] and trial["value"] is not None), None)
    if first:
        found.append(f"The settings that the search began from, trial {first['number']}, have {first['value']:.4g}.")
    complete = sorted(trial["value"] for trial in record["trials"] if trial["state"] == "complete")
    if len(complete) > 1:
        found.append(
            f"The second best has {complete[1]:.4g}. Each was trained once, so a small difference may be luck."
        )
    return found


def budget_words(record: dict[str, Any]) -> str:
    """The length of a trial in words."""
    size, unit = record["budget"]["amount"], record["budget"]["unit"]
    if unit == "seconds":
        return duration(size)
    return f"{size:,.0f} images" if unit == "images" else f"{scientific(size)} floating-point operations"


def trial_sentence(trial: dict[str, Any], metric: str) -> str:
    """How a trial ended, in a line for the screen."""
    chosen = ", ".join(f"{name} {_shown(value)}" for name, value in trial["values"].items())
    if trial["state"] == "complete":
        end = f"{metric} {trial['value']:.4g}"
    elif trial["why"]:
        end = f"failed: {trial['why']}"
    else:
        looks = list(trial["looks"].items())
        end = f"ended early at look {looks[-1][0]}, {metric} {looks[-1][1]:.4g}" if looks else "ended early"
    return f"trial {trial['number']}: {end} ({chosen})"


def _best(record: dict[str, Any]) -> dict[str, Any] | None:
    return next((trial for trial in record["trials"] if trial["number"] == record["best"]), None)


def _number(record: dict[str, Any]) -> int:
    return sum(trial["state"] != "running" for trial in record["trials"])


def _in_order(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The complete trials by their figures, then the others by how far they came."""

    def key(trial: dict[str, Any]) -> tuple[Any, ...]:
        if trial["state"] == "complete":
            return 0, trial["value"], trial["number"]
        return 1, -len(trial["looks"]), trial["number"]

    return sorted(record["trials"], key=key)


def _row(trial: dict[str, Any], names: list[str], record: dict[str, Any]) -> dict[str, Any]:
    """A trial's cells: what is shown, and what they are sorted by."""
    facts, looks = trial["facts"], list(trial["looks"].values())
    reached = trial["value"] if trial["state"] == "complete" else looks[-1] if looks else None
    end = STATES[trial["state"]]
    if trial["state"] == "pruned" and looks:
        end += f", look {len(looks)} of {record['looks']}"
    cells = [("–" if reached is None else f"{reached:.4g}", "" if reached is None else reached)]
    cells += [(_shown(trial["values"].get(name)), _key(trial["values"].get(name))) for name in names]
    for fact in ("images_seen", "seconds", "parameters"):
        value = facts.get(fact)
        text = "–" if value is None else f"{value:.1f}" if fact == "seconds" else amount(value)
        cells.append((text, "" if value is None else value))
    cells.append((f"{end}: {trial['why']}" if trial["why"] else end, end))
    return {
        "number": trial["number"],
        "mark": "best" if trial["number"] == record["best"] else "given" if trial["is_first"] else "",
        "is_best": trial["number"] == record["best"],
        "cells": [{"text": text, "value": value} for text, value in cells],
    }


def _key(value: Any) -> Any:
    return "" if value is None else value


def _shown(value: Any) -> str:
    """A value that was chosen: numbers to three digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)


def _plots(record: dict[str, Any]) -> list[Picture]:
    drawn = (
        (
            "All complete trials",
            "Each setting has an axis, and the last axis is the result. Each line is a trial. The line with dots is "
            "the best trial, and the best tenth is blue. A setting mattered if the blue lines meet on its axis.",
            parallel_coordinates,
            FIGURES[0],
        ),
        (
            "The trials in their order",
            "Lower is better. A cross is a trial that was ended early, with its last result. It might have become "
            "better.",
            history,
            FIGURES[1],
        ),
        (
            "What mattered",
            "How well each setting alone separates the best trials from the others, in per cent of the sum (PED-ANOVA, "
            "Watanabe et al. 2023). With few trials it is only a hint.",
            importance,
            FIGURES[2],
        ),
    )
    found = [plot(title, text, partial(draw, record), file) for title, text, draw, file in drawn]
    return [picture for picture in found if picture]


def _notes(record: dict[str, Any]) -> dict[str, str]:
    quality = {
        "distance": "The Fréchet distance of samples to validation images in the features of the data set's "
        "classifier. It depends on the number of samples, so compare only trials of this search.",
        "kid": "The kernel distance (KID) of samples to validation images in Inception's features. Near 0 it may be "
        "negative.",
    }
    return {
        "Figure": f"{quality.get(record['metric'], '')} Lower is better.".strip(),
        "How it was searched": f"By {SAMPLERS[record['sampler']]} with the seed {record['seed']}; "
        f"{PRUNERS[record['pruner']]}.",
        "Failed": "The network could not be built or did not fit into memory, or the training diverged."
        + (" The search then avoids similar settings." if record["sampler"] == "tpe" else ""),
        "Go on": "Repeat the command with more --trials to continue. Any machine that sees the folder can join the "
        "search with the command below.",
    }
