"""Fine-tuning on other captions: the rows of a vocabulary's embedding, matched by the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.text_encoder import TextEncoder
from latentdiff.text.vocabulary import FIRST_WORD, Vocabulary

ROWS, POSITIONS = "text.tokens.weight", "text.positions"
# The layer that adds a caption to the embedding of time.
CAPTION = "caption."


def fit_word_embedding(
    weights: dict[str, Tensor],
    network: ConditionedNetwork,
    before: dict[str, Any] | None,
    prefixes: Sequence[str] = ("",),
) -> dict[str, Tensor]:
    """The weights with a row for each word of the network's vocabulary, and a line about it unless these are the same.

    A word that both have keeps its row, and a new one is untrained. To weights that read no captions the network's own
    untrained encoder and cross-attention are added, so that it draws as before.

    Args:
        weights: The state of a trained network.
        network: The network that they are for.
        before: What the weights' file says of the captions that they read; None where they read none.
        prefixes: What the network's names begin with in ``weights``, once for each copy of the network.
    """
    if network.tokenizer is None:
        return weights
    if before is None and network.text is not None:
        print("captions: new to these weights, which read none")
        return _with_untrained_reading(weights, network, prefixes)
    words: list[str] = list((before or {}).get("words") or ())
    if not isinstance(network.tokenizer, Vocabulary) or not isinstance(network.text, TextEncoder) or not words:
        return weights
    now = network.tokenizer
    if words == list(now.words) and (before or {})["context"] == now.context:
        return weights
    given, weights, place = weights, dict(weights), {word: FIRST_WORD + index for index, word in enumerate(words)}
    for prefix in prefixes:
        theirs, rows = weights[prefix + ROWS], network.text.tokens.weight.detach().clone()
        if theirs.shape[1] != rows.shape[1]:
            return given  # of another network, which the caller finds
        rows[:FIRST_WORD] = theirs[:FIRST_WORD]
        for index, word in enumerate(now.words):
            if word in place:
                rows[FIRST_WORD + index] = theirs[place[word]]
        positions, own = weights[prefix + POSITIONS], network.text.positions.detach().clone()
        count = min(len(positions), len(own))
        own[:count] = positions[:count]
        weights |= {prefix + ROWS: rows, prefix + POSITIONS: own}
    kept = sum(word in place for word in now.words)
    print(f"words: {kept} kept, {len(now.words) - kept} new, {len(words) - kept} dropped")
    return weights


def _with_untrained_reading(
    weights: dict[str, Tensor], network: ConditionedNetwork, prefixes: Sequence[str]
) -> dict[str, Tensor]:
    weights = dict(weights)
    for prefix in prefixes:
        for name, tensor in network.state_dict().items():
            if name.startswith(("text.", CAPTION)) or ".cross." in name:
                silent = name.startswith(CAPTION)
                weights[prefix + name] = torch.zeros_like(tensor) if silent else tensor.clone()
    return weights
