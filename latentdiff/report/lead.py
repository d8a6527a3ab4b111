"""From when on latent diffusion is ahead of pixel diffusion, or the other way round, while the two train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from latentdiff.report.formats import duration

Space = Literal["latent", "pixel"]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Lead:
    """Who is ahead of whom from when on.

    Attributes:
        changes: When a space takes the lead, in seconds, and which; the first is when both have been measured.
        start: When the latent model began, in seconds: what its autoencoder took, or 0 where that is not counted.
    """

    changes: list[tuple[float, Space]]
    start: float

    @property
    def crossing(self) -> float | None:
        """When the lead changed last, in seconds; None if one space leads throughout."""
        if len(self.changes) > 1 or (self.start and self.changes[0][1] == "latent"):
            return self.changes[-1][0]
        return None

    def sentence(self) -> str:
        """The same in words."""
        counted = f"With the autoencoder's {duration(self.start)} counted, " if self.start else ""
        (first, leader), (last, final) = self.changes[0], self.changes[-1]
        if len(self.changes) > 2:
            text = f"the lead changes {len(self.changes) - 1} times, the last time after {duration(last)}, to {final}."
        elif len(self.changes) == 2:
            text = f"{leader} is ahead at first, and {final} from {duration(last)} on."
        elif self.start and final == "latent":
            text = f"pixel is ahead at first, and latent from its first measurement on, after {duration(first)}."
        else:
            text = f"{final} is ahead at every measurement."
        return counted + text if counted else text[0].upper() + text[1:]


def find_lead(latent: Points, pixel: Points, start: float = 0.0) -> Lead | None:
    """Compare the best that each of two trainings had reached by each moment; None without a measurement of both.

    The best so far, and not the last value, is compared, since a measurement on few samples scatters. Between two
    measurements nothing is assumed.

    Args:
        latent, pixel: Seconds of training and distance to real images (lower is better), in any order; those of
            ``latent`` begin after ``start``.
        start: What the latent model's autoencoder took, in seconds, where it is counted.
    """
    events = sorted([(x, y, "latent") for x, y in latent] + [(x, y, "pixel") for x, y in pixel])
    best: dict[Space, float] = {}
    changes: list[tuple[float, Space]] = []
    for place, (x, y, space) in enumerate(events):
        best[space] = min(y, best.get(space, y))
        is_last_of_moment = place + 1 == len(events) or events[place + 1][0] > x
        if len(best) < 2 or not is_last_of_moment or best["latent"] == best["pixel"]:
            continue
        leader: Space = "latent" if best["latent"] < best["pixel"] else "pixel"
        if not changes or changes[-1][1] != leader:
            changes.append((x, leader))
    return Lead(changes, start) if changes else None
