"""What an engine is."""

from __future__ import annotations

from typing import Protocol

from latentdiff.codec import CodecEngine
from latentdiff.diffusion.denoiser import Network


class Engine(CodecEngine, Protocol):
    """Runs the networks of a model: a pass of the denoising network, the encoder, the decoder.

    Attributes:
        name: As the setting ``engine`` names it.
    """

    name: str

    def network(self, precision: str) -> Network:
        """Return the denoising network in ``fp32``, ``bf16`` or ``int8``.

        Raises :class:`~latentdiff.errors.ConfigError` for a precision that the engine does not support.
        """
        ...
