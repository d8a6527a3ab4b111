"""The engine torch."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Network
from latentdiff.errors import ConfigError
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.precision import call_with_min_batch, cast_weights, resolve_precision


class TorchEngine:
    """Runs the networks as they are.

    Args:
        network: The denoising network, or None.
        autoencoder: The autoencoder, or None.
        exact: Whether an image is the same, bit for bit, whatever the size of its batch. Small batches are then filled
            up, which makes one image two to three times as slow.
    """

    name = "torch"

    def __init__(self, network: ConditionedNetwork | None, autoencoder: Autoencoder | None, exact: bool):
        self._network, self._autoencoder, self.exact = network, autoencoder, exact

    def network(self, precision: str) -> Network:
        """Return the network in that precision, with its present weights.

        Raises :class:`~latentdiff.errors.ConfigError` for int8.
        """
        if precision == "int8":
            raise ConfigError("the engine torch has no precision int8: take the engine onnxruntime or openvino")
        assert self._network is not None
        dtype = resolve_precision(precision, next(self._network.parameters()).device)
        function = self._network if dtype == torch.float32 else cast_weights(self._network, dtype)
        return partial(call_with_min_batch, function) if self.exact else function

    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images in [-1, 1]."""
        assert self._autoencoder is not None
        return self._autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, about in [-1, 1], of raw latents."""
        assert self._autoencoder is not None
        decode = self._autoencoder.decode
        return call_with_min_batch(decode, latents) if self.exact else decode(latents)
