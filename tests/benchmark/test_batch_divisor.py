from __future__ import annotations

from dataclasses import replace

import pytest

from latentdiff.benchmark.batch_divisor import batch_divisor, measure_training_speed
from latentdiff.benchmark.sizes import FULL, QUICK


@pytest.mark.parametrize(
    ("speed", "divisor"), [(1000.0, 1), (36.7, 1), (24.6, 1), (12.0, 2), (6.0, 4), (3.0, 8), (0.1, 8)]
)
def test_the_slower_the_machine_the_smaller_the_batches(speed, divisor):
    assert batch_divisor(speed) == divisor


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_must_be_positive(speed):
    with pytest.raises(ValueError, match="positive"):
        batch_divisor(speed)


def test_training_speed_is_measured(context):
    assert measure_training_speed(context, context.sizes.comparison_networks) > 0


@pytest.mark.parametrize("sizes", [FULL, QUICK], ids=["full", "quick"])
def test_smaller_batches_keep_networks_and_the_batches_of_sampling(sizes):
    assert sizes.divided(1) is sizes
    small = sizes.divided(4)
    for whole, part in zip(sizes.networks, small.networks, strict=True):
        batches = {"autoencoder_batch": 0, "latent_batch": 0, "pixel_batch": 0}
        assert replace(part, **batches) == replace(whole, **batches)
        assert part.latent_batch == max(whole.latent_batch // 4, 2)
        assert part.pixel_batch == max(whole.pixel_batch // 4, min(whole.pixel_batch, 2))
    assert small.sampling_batches == sizes.sampling_batches
    assert small.comparison_batch == max(sizes.comparison_batch // 4, 4)
