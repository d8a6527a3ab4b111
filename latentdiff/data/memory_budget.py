"""A share of the memory that several threads take from and give back to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from latentdiff.memory import total_memory


class MemoryBudget:
    """Bytes that threads reserve before they use them. A thread waits while too few are left.

    Args:
        total: Bytes in all. A reservation of more waits until it is the only one.
    """

    def __init__(self, total: int):
        self.total = total
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Hold ``amount`` bytes of the budget while the block runs."""
        amount = min(amount, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self._used + amount <= self.total)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


def memory_share(divisor: int, least: int) -> int:
    """The memory that this process can have, divided by ``divisor``, in bytes, but no less than ``least``."""
    return max(least, (total_memory() or 0) // divisor)
