from __future__ import annotations

import pytest

from latentdiff.benchmark.pace import divisor_for, measure_pace
from latentdiff.benchmark.scale import FULL, QUICK


@pytest.mark.parametrize(
    ("pace", "divisor"), [(1000.0, 1), (36.7, 1), (24.6, 1), (12.0, 2), (6.0, 4), (3.0, 8), (0.1, 8)]
)
def test_the_slower_the_machine_the_smaller_the_batches(pace, divisor):
    assert divisor_for(pace) == divisor


@pytest.mark.parametrize("pace", [0.0, -1.0, float("nan"), float("inf")])
def test_no_pace_is_an_error(pace):
    with pytest.raises(ValueError, match="no pace"):
        divisor_for(pace)


def test_pace_is_measured(bench):
    assert measure_pace(bench, bench.scale.growth_setting) > 0


@pytest.mark.parametrize("scale", [FULL, QUICK], ids=["full", "quick"])
def test_smaller_batches_keep_networks_and_what_sampling_is_judged_in(scale):
    assert scale.divided(1) is scale
    small = scale.divided(4)
    for whole, part in zip(scale.settings, small.settings, strict=True):
        assert (part.side, part.autoencoder, part.latent, part.pixel) == (
            whole.side,
            whole.autoencoder,
            whole.latent,
            whole.pixel,
        )
        assert part.latent_batch == max(whole.latent_batch // 4, 2)
        assert part.pixel_batch == max(whole.pixel_batch // 4, min(whole.pixel_batch, 2))
    assert small.sampling_batches == scale.sampling_batches
    assert (small.growth_batch, small.judged_batch) == (scale.growth_batch // 4, max(scale.judged_batch // 4, 4))
