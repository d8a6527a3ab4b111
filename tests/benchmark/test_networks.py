from __future__ import annotations

import pytest

from latentdiff.benchmark.networks import (
    NUM_CLASSES,
    count_parameters,
    count_parameters_of,
    match_pixel_network,
    match_widths,
)
from latentdiff.benchmark.sizes import FULL, QUICK
from latentdiff.models.network import build_network


def test_widths_keep_their_ratio_and_large_multiples_come_first():
    def count(widths):
        return sum(9 * width**2 for width in widths)

    assert match_widths(count, (32, 64), count((64, 128))) == (64, 128)
    found = match_widths(count, (64, 96), round(0.93 * count((64, 96))))
    assert abs(count(found) / (0.93 * count((64, 96))) - 1) <= 0.05
    assert any(width % 32 for width in found), "no multiples of 32 come close enough"


def test_widths_that_cannot_be_found_are_an_error():
    with pytest.raises(ValueError, match="off by"):
        match_widths(lambda widths: 10 * widths[0], (32,), 1_000_000)


@pytest.mark.parametrize("sizes", [FULL, QUICK], ids=["full", "quick"])
def test_pixels_have_the_latents_number_of_parameters(sizes):
    networks = sizes.comparison_networks
    channels, latent = networks.autoencoder.latent_channels, networks.latent_network
    parameters = count_parameters_of(lambda: build_network(channels, NUM_CLASSES, latent))
    config = match_pixel_network(networks.pixel_network, parameters)
    assert abs(count_parameters(build_network(3, NUM_CLASSES, config)) / parameters - 1) <= 0.05
