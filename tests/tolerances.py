"""How far apart results may be on two devices, or in two precisions.

A difference is measured against the largest number of the expected tensor. A multiplication is rounded to 24 bits of
mantissa in fp32, to 11 in TF32 and to 8 in bf16; sums are fp32 in all three. Errors of a few dozen layers add up to
about ten roundings, and ten times that is allowed in fp32, where the order of sums matters more than the rounding.
"""

from __future__ import annotations

from torch import Tensor

TOLERANCES = {"fp32": 100 * 2.0**-24, "tf32": 10 * 2.0**-11, "bf16": 10 * 2.0**-8}
# Of uint8 images: a value at the edge between two grey levels falls to either side.
GREY_LEVELS = 1


def assert_close(actual: Tensor, expected: Tensor, precision: str) -> None:
    """Compare two tensors, on any devices, whose products were computed in ``precision``."""
    actual, expected = actual.detach().double().cpu(), expected.detach().double().cpu()
    assert actual.shape == expected.shape
    error = float((actual - expected).abs().max() / expected.abs().max())
    assert error <= TOLERANCES[precision], f"{error:.2g} is more than {TOLERANCES[precision]:.2g}, of {precision}"
