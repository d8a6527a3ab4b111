from __future__ import annotations

from latentdiff.data.memory_budget import memory_share


def test_four_quarters_are_the_machine():
    assert 0 <= memory_share(1, 0) - 4 * memory_share(4, 0) < 4
    assert memory_share(4, 2**60) == 2**60
