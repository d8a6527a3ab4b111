"""Which of a latent and a pixel diffusion model is ahead while the two train, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentdiff.report.formats import duration

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Lead:
    """The lead and its changes.

    Attributes:
        changes: Times in seconds, each with the name of the model that takes the lead then.
        autoencoder: What the latent model's autoencoder took, in seconds, where it is counted, or 0.
    """

    changes: list[tuple[float, str]]
    autoencoder: float

    @property
    def crossing(self) -> float | None:
        """When the lead changed last, in seconds; None if one model leads throughout."""
        return self.changes[-1][0] if len(self.changes) > 1 else None

    def sentence(self) -> str:
        """The same in words."""
        time = f"the autoencoder's {duration(self.autoencoder)} counted" if self.autoencoder else ""
        first, (last, final) = self.changes[0][1], self.changes[-1]
        if len(self.changes) > 2:
            text = f"the lead changes {len(self.changes) - 1} times, the last time after {duration(last)}, to {final}."
        elif len(self.changes) == 2:
            text = f"{first} is ahead at first, and {final} from {duration(last)} on."
        else:
            text = f"{final} is ahead at every measurement."
        return f"With {time}, {text}" if time else f"Without the autoencoder's time, {text}"


def find_lead(
    latent: Points, pixel: Points, autoencoder: float = 0.0, names: tuple[str, str] = ("latent", "pixel")
) -> Lead | None:
    """Compare the best that each of two trainings had reached by each moment; None without a measurement of both.

    The best so far, and not the last value, is compared, since a measurement on few samples scatters. Between two
    measurements nothing is assumed.

    Args:
        latent, pixel: Times in seconds and distances to real images (lower is better), in any order.
        autoencoder: What the latent model's autoencoder took, in seconds, where the times of ``latent`` count it. A
            pixel model that was measured before the latent model is then ahead at first.
        names: What the latent and the pixel model are called.
    """
    if not latent or not pixel:
        return None
    ours, theirs = names
    events = sorted([(x, y, ours) for x, y in latent] + [(x, y, theirs) for x, y in pixel])
    changes: list[tuple[float, str]] = []
    if autoencoder and min(pixel)[0] < min(latent)[0]:
        changes.append((min(pixel)[0], theirs))
    best: dict[str, float] = {}
    for place, (x, y, name) in enumerate(events):
        best[name] = min(y, best.get(name, y))
        is_last_of_moment = place + 1 == len(events) or events[place + 1][0] > x
        if len(best) < 2 or not is_last_of_moment or best[ours] == best[theirs]:
            continue
        leader = min(best, key=best.__getitem__)
        if not changes or changes[-1][1] != leader:
            changes.append((x, leader))
    return Lead(changes, autoencoder) if changes else None
