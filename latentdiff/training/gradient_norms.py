"""Gradient norms, watched without waiting for the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentdiff.errors import DivergenceError

# Steps between two looks. A look waits until the device has done all that it was given.
STEPS_BETWEEN_CHECKS = 50


class GradientNorms:
    """The gradient norms of the latest steps, which stay on the device until :meth:`check` reads them all at once.

    A run checks them every ``STEPS_BETWEEN_CHECKS`` steps, and before anything is drawn, saved or written. A gradient
    that is NaN or infinite thus ruins no checkpoint, although its step is taken.
    """

    def __init__(self):
        self._norms: list[Tensor] = []
        self._images_seen: list[int] = []

    def append(self, norm: Tensor, images_seen: int) -> None:
        """Keep the norm, a scalar, of a step that began after ``images_seen`` images."""
        self._norms.append(norm.detach())
        self._images_seen.append(images_seen)

    def check(self) -> None:
        """Read the norms since the last check. Raises DivergenceError for the first that is NaN or infinite."""
        if not self._norms:
            return
        values, seen = torch.stack(self._norms).tolist(), self._images_seen
        self._norms, self._images_seen = [], []
        for value, images_seen in zip(values, seen, strict=True):
            if not math.isfinite(value):
                raise DivergenceError(
                    f"the gradient is {value} after {images_seen:,} images. Lower --trainer.lr, or train with "
                    "--trainer.precision fp32; the last checkpoint is from before this step."
                )
