"""The tokenizer of a training's settings, or of a model file's header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latentdiff.config import NetworkConfig
from latentdiff.text.pretrained import PretrainedText
from latentdiff.text.tokenizer import Tokenizer
from latentdiff.text.vocabulary import Vocabulary

TRANSFORMERS = "transformers:"


def tokenizer_for(config: NetworkConfig, captions: Sequence[str]) -> Tokenizer | None:
    """The tokenizer that ``network.text`` asks for, made for the training's captions; None for ``none``.

    Raises what :class:`~latentdiff.text.pretrained.PretrainedText` raises.
    """
    if config.text == "none":
        return None
    if config.text == "own":
        return Vocabulary.of_captions(captions, config.text_context)
    return PretrainedText(config.text.removeprefix(TRANSFORMERS), config.text_context, captions)


def tokenizer_of_header(header: dict[str, Any] | None) -> Tokenizer | None:
    """The tokenizer that a model file's header describes; None where it describes none.

    Raises what :class:`~latentdiff.text.pretrained.PretrainedText` raises.
    """
    if header is None:
        return None
    if header["kind"] == "own":
        return Vocabulary(header["words"], header["context"])
    return PretrainedText(header["name"], header["context"], sha256=header["sha256"])
