from __future__ import annotations

import pytest
import torch

from latentdiff.diffusion import noise as noise_module
from latentdiff.diffusion.noise import PerImageNoise


@pytest.mark.parametrize("numbers_per_thread", [10, 10**6])
def test_noise_that_is_drawn_ahead_by_threads_is_the_same(numbers_per_thread, monkeypatch):
    monkeypatch.setattr(noise_module, "NUMBERS_PER_THREAD", numbers_per_thread)
    expected = PerImageNoise(3, range(5, 16), (2, 4))
    ahead = PerImageNoise(3, range(5, 16), (2, 4), draw_ahead=True)
    for _ in range(4):
        with torch.inference_mode():
            drawn = ahead()
        assert torch.equal(drawn, expected())


def test_nothing_is_drawn_ahead_for_a_sampler_that_adds_no_noise():
    ahead = PerImageNoise(0, range(2), (3,), draw_ahead=True)
    ahead()
    assert ahead._next is None
    assert not PerImageNoise(0, range(2), (3,)).draw_ahead
    assert PerImageNoise(0, range(2), (3,), "cuda").draw_ahead
