"""The steps of the last drawings, kept for the page's slider within a memory budget."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor

from latentdiff.errors import ConfigError

MEGABYTE = 1024**2


@dataclass
class Drawing:
    """A drawing, while it is made and afterwards.

    Attributes:
        name: That of the model in the list.
        seed: The seed.
        steps: How many it takes.
        title: What was asked for, in a line.
        frames: The pictures of the steps, from noise on, each ready for the page.
        images: The last step's, uint8 [n, c, h, w]; None until then.
        seconds: What it took.
    """

    name: str
    seed: int
    steps: int
    title: str
    frames: list[str] = field(default_factory=list)
    images: Tensor | None = None
    seconds: float = 0.0

    @property
    def size(self) -> int:
        """Bytes, about."""
        images = 0 if self.images is None else self.images.numel()
        return images + sum(map(len, self.frames))


class KeptDrawings:
    """Drawings, each under a token that cannot be guessed. Beyond the budget, the oldest drawings are removed.

    Args:
        budget: Bytes of all pictures together.
    """

    def __init__(self, budget: int = 64 * MEGABYTE):
        self.budget = budget
        self._kept: OrderedDict[str, Drawing] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, drawing: Drawing) -> str:
        """Keep a drawing, and return its token. Its frames may still come."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[token] = drawing
        self.trim()
        return token

    def get(self, token: object) -> Drawing:
        """The drawing of a token. Raises :class:`~latentdiff.errors.ConfigError` if it was removed."""
        with self._lock:
            if not isinstance(token, str) or token not in self._kept:
                raise ConfigError("this drawing is no longer kept: draw it again")
            self._kept.move_to_end(token)
            return self._kept[token]

    def trim(self) -> None:
        """Remove the oldest drawings beyond the budget, but never the newest one."""
        with self._lock:
            total = sum(drawing.size for drawing in self._kept.values())
            while total > self.budget and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                total -= oldest.size
