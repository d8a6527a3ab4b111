"""What a run leaves: plain values for benchmark.json, and a table of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from latentdiff.benchmark.rows import Growth, Row
from latentdiff.config import to_dict

HEADER = ("What", "Ours", "Beside", "Theirs", "Ratio", "Target", "Of the limit")


def row_record(row: Row) -> dict[str, Any]:
    """A row with what follows from it; ``verdicts`` by contender, "" for our own value."""
    return {
        **to_dict(row),
        "ratios": row.ratios(),
        "verdicts": row.verdicts(),
        "share_of_limit": row.share_of_limit,
    }


def growth_record(growth: Growth) -> dict[str, Any]:
    return to_dict(growth)


def judged(rows: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """How many targets were met, of how many."""
    verdicts = [met for row in rows for met in row["verdicts"].values()]
    return sum(verdicts), len(verdicts)


def table(record: dict[str, Any]) -> str:
    """The whole of a ``benchmark.json`` as Markdown."""
    parts = dict.fromkeys(row["part"] for row in record["rows"])
    return "\n\n".join([*(part_table(record, part) for part in parts), summary(record)])


def part_table(record: dict[str, Any], part: str) -> str:
    """One part: a line for each contender beside ours, how things grow, and what is to be known."""
    rows = [row for row in record["rows"] if row["part"] == part]
    lines = [f"**{part}**", "", _line(HEADER), _line(["---", "--:", "---", "--:", "--:", "---", "--:"])]
    lines += [_line(cells) for row in rows for cells in _cells(row)]
    after = _growth_lines([growth for growth in record["growth"] if growth["part"] == part])
    after += dict.fromkeys(row["note"] for row in rows if row["note"])
    return "\n".join([*lines, *(f"\n{line}" for line in after)])


def summary(record: dict[str, Any]) -> str:
    """Targets met, the machine's limits, batches made smaller, who was left out."""
    met, of = judged(record["rows"])
    limits = record["limits"]
    peaks = ", ".join(f"{peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in limits["flops"].items())
    lines = [f"{met} of {of} targets met. Limits: {peaks}, {limits['bandwidth'] / 1e9:.1f} GB/s."]
    if record["divisor"] > 1:
        lines.append(f"The machine trains slowly: batches are those of other machines divided by {record['divisor']}.")
    lines += [f"{name} is left out: {reason}" for name, reason in record["left_out"].items()]
    return "\n".join(lines)


def _growth_lines(growths: list[dict[str, Any]]) -> list[str]:
    lines = []
    for growth in growths:
        laws = ", ".join(f"side^{value:.2f} ({name})" for name, value in growth["exponents"].items())
        sides = ", ".join(map(str, growth["sides"]))
        lines.append(f"{growth['what']}, {growth['unit']}, grows as {laws}, fitted to {sides} px")
    return lines


def _cells(row: dict[str, Any]) -> Iterable[list[str]]:
    ours, *others = row["figures"].values()
    _, *names = row["figures"]
    unit, target = row["unit"], row["target"]
    share = row["share_of_limit"]
    own = [row["what"] + _size(ours), f"{number(ours['value'])} {unit}"]
    limit = "" if share is None else f"{share:.0%}"
    alone = ""
    if target["at_most"] is not None:
        alone = f"<= {target['at_most']:g} {unit}: {verdict(row['verdicts'][''])}"
    if not others:
        yield [*own, "", "", "", alone, limit]
    for name, figure in zip(names, others, strict=True):
        asked = alone
        if name in row["verdicts"]:
            asked = f">= {target['at_least']:g}: {verdict(row['verdicts'][name])}"
        yield [*own, name + _size(figure), number(figure["value"]), f"{row['ratios'][name]:.2f}", asked, limit]
        own, alone, limit = ["", ""], "", ""


def _size(figure: dict[str, Any]) -> str:
    """Parameters, and operations of an image, where they are known."""
    parts = [] if figure["parameters"] is None else [f"{figure['parameters'] / 1e6:.2f}M parameters"]
    parts += [] if figure["flops"] is None else [f"{figure['flops'] / 1e9:.2f} GFLOP an image"]
    return f" ({', '.join(parts)})" if parts else ""


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
