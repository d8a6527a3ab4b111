"""Numbers and settings as a person reads them, in the table, the verdict, the figures and the notes alike."""

from __future__ import annotations

import math
from typing import Any

from latentdiff.config import SamplingConfig


def distance(value: float) -> str:
    """FID or classifier distance: two decimals, three below 1."""
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def plus_minus(value: float, error: float | None) -> str:
    """A standard error behind its distance, to as many decimals; nothing where it is not known."""
    if error is None:
        return ""
    digits = 2 if abs(value) >= 1 else 3
    if 0 < error < 0.5 * 10**-digits:  # Rounded away it would look like certainty.
        digits = -math.floor(math.log10(error))
    return f" ± {error:.{digits}f}"


def kid(value: dict[str, float], error: float | None = None) -> str:
    """KID in thousandths, with its standard error where that is known."""
    thousandths = 1e3 * value["mean"]
    return f"{thousandths:.2f}" + ("" if error is None else plus_minus(1.0, 1e3 * error))


def score(value: dict[str, float]) -> str:
    """Inception Score, with its standard deviation over the parts."""
    return f"{value['mean']:.2f} ± {value['std']:.2f}"


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def amount(value: float) -> str:
    """A count or a rate, to three digits; a count below ten thousand whole."""
    if isinstance(value, int) and value < 1e4:
        return f"{value:,}"
    if value >= 1e6:
        return f"{_three_digits(value / 1e6)} M"
    return f"{_three_digits(value / 1e3)} k" if value >= 1e4 else _three_digits(value)


def scientific(value: float) -> str:
    """A count of many orders of magnitude: 1.2e9."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def percent(share: float) -> str:
    """A share of one in per cent."""
    return f"{100 * share:.1f} %"


def memory(size: float) -> str:
    """Bytes as gigabytes of 10^9."""
    return f"{_three_digits(size / 1e9)} GB"


def energy(joules: float) -> str:
    """Joules as watt-hours."""
    return f"{_three_digits(joules / 3600)} Wh"


def shape_text(shape: list[int]) -> str:
    """A shape as text: 2×7×7."""
    return "×".join(map(str, shape))


# Sampling settings that an evaluation holds only where they were given.
UNUSUAL = (
    "spacing",
    "rho",
    "guidance_interval",
    "guide",
    "thresholding",
    "variance",
    "eta",
    "churn",
    "churn_min",
    "churn_max",
    "churn_noise",
    "corrector_steps",
    "corrector_snr",
    "precision",
)


def sampling_settings(sampling: dict[str, Any] | None) -> str:
    """Sampler, steps and guidance in words, and whatever else was set; ``sampling`` as an evaluation holds it."""
    given = sampling or {}
    sampler, steps, scale = (given.get(key) for key in ("sampler", "steps", "guidance_scale"))
    guidance = "unknown" if scale is None else "off" if scale == 1 else f"{scale:g}"
    more = {key: value for key, value in given.items() if key in UNUSUAL and value != getattr(SamplingConfig, key)}
    if digest := given.get("guide_sha256"):
        more["guide"] = f"{more['guide']} (SHA-256 {digest[:12]})"
    text = f"{sampler or 'unknown sampler'}, {steps or 'unknown'} steps, guidance {guidance}"
    return text + "".join(f", {key.replace('_', ' ')} {value}" for key, value in more.items())


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
