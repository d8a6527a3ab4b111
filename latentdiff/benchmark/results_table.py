"""Write the results of a benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

HEADER = ("What", "Value", "Compared with", "Its value", "Ratio", "Target", "Share of the limit", "Its share")
ALIGNMENT = ("---", "--:", "---", "--:", "--:", "---", "--:", "--:")


def results_table(record: dict[str, Any]) -> str:
    """Write all of a ``benchmark.json`` as Markdown."""
    parts = dict.fromkeys(measurement["part"] for measurement in record["measurements"])
    return "\n\n".join([*(part_table(record, part) for part in parts), summary(record)])


def part_table(record: dict[str, Any], part: str) -> str:
    """Write one part as Markdown: a line for each comparison, the growth with the side, and the notes."""
    measurements = [measurement for measurement in record["measurements"] if measurement["part"] == part]
    lines = [f"**{part}**", "", _line(HEADER), _line(ALIGNMENT)]
    lines += [_line(cells) for measurement in measurements for cells in _cells(measurement)]
    after = [_growth_line(growth) for growth in record["growth"] if growth["part"] == part]
    after += dict.fromkeys(measurement["note"] for measurement in measurements if measurement["note"])
    return "\n".join([*lines, *(f"\n{line}" for line in after)])


def summary(record: dict[str, Any]) -> str:
    """Write the machine's limits, the number of met targets, smaller batches and what was left out."""
    limits = record["limits"]
    peaks = ", ".join(f"{peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in limits["flops"].items())
    lines = [f"Limits of the machine: {peaks}, {limits['bandwidth'] / 1e9:.1f} GB/s."]
    met, count = count_targets(record["measurements"])
    if count:
        lines.append(f"{met} of {count} targets were met.")
    if record["batch_divisor"] > 1:
        lines.append(f"The machine trains slowly: the usual batches are divided by {record['batch_divisor']}.")
    lines += [f"{name} is left out: {reason}" for name, reason in record["left_out"].items()]
    return "\n".join(lines)


def count_targets(measurements: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Count the targets that were met, and all targets."""
    verdicts = [met for measurement in measurements for met in measurement["verdicts"].values()]
    return sum(verdicts), len(verdicts)


def _growth_line(growth: dict[str, Any]) -> str:
    laws = ", ".join(f"side^{value:.2f} ({name})" for name, value in growth["exponents"].items())
    sides = ", ".join(map(str, growth["sides"]))
    return f"{growth['name']}, {growth['unit']}, grows as {laws}, fitted to {sides} px"


def _cells(measurement: dict[str, Any]) -> Iterable[list[str]]:
    """The cells of each line; what concerns the first implementation alone stands on the first line alone."""
    (first_name, first), *others = measurement["values"].items()
    unit, target, verdicts = measurement["unit"], measurement["target"], measurement["verdicts"]
    shares = {name: f"{share:.0%}" for name, share in measurement["shares_of_limit"].items()}
    own = [measurement["name"] + _details(first), f"{_number(first['value'])} {unit}"]
    value_target, share = "", shares.get(first_name, "")
    if target["max_value"] is not None:
        value_target = f"<= {target['max_value']:g} {unit}: {_verdict(verdicts[''])}"
    if not others:
        yield [*own, "", "", "", value_target, share, ""]
    for name, other in others:
        ratio_target = value_target
        if name in verdicts:
            ratio_target = f">= {target['min_ratio']:g}: {_verdict(verdicts[name])}"
        ratio = f"{measurement['ratios'][name]:.2f}"
        number = _number(other["value"])
        yield [*own, name + _details(other), number, ratio, ratio_target, share, shares.get(name, "")]
        own, value_target, share = ["", ""], "", ""


def _details(value: dict[str, Any]) -> str:
    """Parameters, and operations of an image, where they are known."""
    parts = [] if value["parameters"] is None else [f"{value['parameters'] / 1e6:.2f}M parameters"]
    parts += [] if value["flops"] is None else [f"{value['flops'] / 1e9:.2f} GFLOP an image"]
    return f" ({', '.join(parts)})" if parts else ""


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
