"""The engine torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Network
from latentdiff.errors import ConfigError
from latentdiff.inference.engines.passes_in_parts import in_parts
from latentdiff.inference.engines.recorded_passes import RecordedPasses, can_record
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.precision import CastNetwork, call_with_min_batch, resolve_precision


class TorchEngine:
    """Runs the networks as they are. On a GPU, passes of the denoising network are replayed as CUDA graphs.

    Args:
        network: The denoising network, or None.
        autoencoder: The autoencoder, or None.
        exact: Whether an image is the same, bit for bit, whatever the size of its batch. Small batches are then filled
            up, which makes one image two to three times as slow.
    """

    name = "torch"

    def __init__(self, network: ConditionedNetwork | None, autoencoder: Autoencoder | None, exact: bool):
        self._network, self._autoencoder, self.exact = network, autoencoder, exact
        # Copies of the weights by type and device; and recorded passes, which know where the weights lie in memory.
        self._copies: dict[tuple[torch.dtype, torch.device], CastNetwork] = {}
        self._recorded: dict[torch.dtype, tuple[tuple[int, ...], RecordedPasses]] = {}

    def __getstate__(self) -> tuple[ConditionedNetwork | None, Autoencoder | None, bool]:
        return self._network, self._autoencoder, self.exact  # copies and recorded passes are made again

    def __setstate__(self, state: tuple[ConditionedNetwork | None, Autoencoder | None, bool]) -> None:
        TorchEngine.__init__(self, *state)

    def network(self, precision: str) -> Network:
        """Return the network in that precision, with its present weights.

        Raises :class:`~latentdiff.errors.ConfigError` for int8.
        """
        if precision == "int8":
            raise ConfigError(
                "the engine torch does not support the precision int8: use the engine onnxruntime or openvino"
            )
        assert self._network is not None
        weights = next(self._network.parameters())
        device, dtype = weights.device, resolve_precision(precision, weights.device)
        function: Callable[..., Tensor] = self._network if dtype == torch.float32 else self._cast(dtype, device)
        if self.exact:
            function = partial(call_with_min_batch, function)
        if device.type == "cpu" and dtype == torch.float32:  # in bf16 parts are slower
            function = partial(in_parts, function)
        if not can_record(device):
            return function
        # A weight in another place than at the recording is not read by a replay.
        places = tuple(tensor.data_ptr() for tensor in (*self._network.parameters(), *self._network.buffers()))
        if (kept := self._recorded.get(dtype)) is None or kept[0] != places:
            kept = self._recorded[dtype] = (places, RecordedPasses(function))
        return kept[1]

    def _cast(self, dtype: torch.dtype, device: torch.device) -> CastNetwork:
        """The network with its present weights, cast."""
        assert self._network is not None
        if (dtype, device) in self._copies:
            self._copies[dtype, device].refresh()
        else:
            self._copies[dtype, device] = CastNetwork(self._network, dtype)
        return self._copies[dtype, device]

    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images in [-1, 1]."""
        assert self._autoencoder is not None
        return self._autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, about in [-1, 1], of raw latents."""
        assert self._autoencoder is not None
        decode = self._autoencoder.decode
        return call_with_min_batch(decode, latents) if self.exact else decode(latents)
