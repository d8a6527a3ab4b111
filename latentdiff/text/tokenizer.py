"""What a tokenizer is, and the one that a model file's header describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# A row of these alone is the empty caption, which stands for "no caption".
PADDING = 0
# Of an own vocabulary the context has so many tokens at least, and of any so many at most unless the settings say more:
# a prompt may be longer than the captions were, and a word that is spelled takes a token a letter.
LEAST_CONTEXT, MOST_CONTEXT = 24, 77


class Tokenizer(Protocol):
    """Turns captions into rows of token ids.

    Attributes:
        context: Tokens of a row. Longer captions are cut.
    """

    @property
    def context(self) -> int: ...

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return the tokens of captions, int64 [n, context], filled up with ``PADDING``; all of it for an empty one."""
        ...

    def count(self, caption: str) -> int:
        """Return how many tokens a caption has before it is cut."""
        ...

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that no caption of the training had, each once; none where all are known."""
        ...

    def header(self) -> dict[str, Any]:
        """Return what a model file's header says of it: plain values, of which it is built again."""
        ...

    def describe(self) -> str:
        """Say what it is in a few words."""
        ...


def context_for(longest: int, asked: int | None) -> int:
    """Return the tokens of a row: as the settings ask, else as many as the longest caption has, within bounds."""
    return asked or min(MOST_CONTEXT, max(LEAST_CONTEXT, longest))


def fill_rows(captions: Sequence[str], tokens_of: Callable[[str], Sequence[int]], context: int) -> Tensor:
    """Return rows of tokens, int64 [n, context], cut and filled up. Each distinct caption is read once."""
    place = {caption: index for index, caption in enumerate(dict.fromkeys(captions))}
    rows = torch.full((len(place), context), PADDING, dtype=torch.int64)
    for caption, index in place.items():
        tokens = tokens_of(caption)[:context]
        rows[index, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return rows[torch.tensor([place[caption] for caption in captions], dtype=torch.int64)]


def cut_captions(tokenizer: Tokenizer, captions: Sequence[str]) -> list[str]:
    """Return the distinct captions that are longer than the context."""
    return [caption for caption in dict.fromkeys(captions) if tokenizer.count(caption) > tokenizer.context]
