"""The vocabulary of the training captions: a token a word, and bytes for words that are not in it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from latentdiff.text.tokenizer import context_for, fill_rows

# Token 0 is padding, 1 to 256 are the bytes, and the words follow.
FIRST_BYTE, FIRST_WORD = 1, 257
# Rarer words are spelled, which also teaches the network its bytes.
MOST_WORDS = 16_384
# A word may have hyphens and apostrophes in it: t-shirt, women's. A sign is a word of its own.
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def split_words(caption: str) -> list[str]:
    """The words of a caption, in lower case and Unicode's normal form, in which an accent is stored in one way.

    >>> split_words("A RED T-shirt, plain")
    ['a', 'red', 't-shirt', ',', 'plain']
    """
    return WORD.findall(unicodedata.normalize("NFC", caption).lower())


class Vocabulary:
    """Words as tokens. A word that is not among them is spelled: a space, then its bytes in UTF-8.

    Args:
        words: The words, in the order of their tokens.
        context: Tokens of a caption; longer ones are cut.

    >>> vocabulary = Vocabulary.of_captions(["a red dress", "a blue bag"], context=6)
    >>> vocabulary.encode(["a blue dress", "", "a é"])
    tensor([[257, 259, 260,   0,   0,   0],
            [  0,   0,   0,   0,   0,   0],
            [257,  33, 196, 170,   0,   0]])
    >>> vocabulary.unknown_words("A Red hat")
    ['hat']
    """

    kind = "own"

    def __init__(self, words: Sequence[str], context: int):
        self.words, self.context = tuple(words), context
        self._token = {word: FIRST_WORD + index for index, word in enumerate(self.words)}

    @classmethod
    def of_captions(cls, captions: Iterable[str], context: int | None = None) -> Vocabulary:
        """The vocabulary of the words of ``captions``, most frequent first.

        Args:
            captions: Of the training.
            context: Tokens of a caption. Default: as many as the longest has, 24 at least and 77 at most.
        """
        counts: Counter[str] = Counter()
        distinct = Counter(captions)
        for caption, times in distinct.items():
            for word in split_words(caption):
                counts[word] += times
        words = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS]
        found = cls(words, context or 1)
        found.context = context_for(max(map(found.count, distinct), default=0), context)
        return found

    @property
    def num_tokens(self) -> int:
        """How many tokens there are, with padding and bytes."""
        return FIRST_WORD + len(self.words)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return the tokens of captions, int64 [n, context], filled up with 0."""
        return fill_rows(captions, self._tokens, self.context)

    def count(self, caption: str) -> int:
        """Return how many tokens a caption has before it is cut."""
        return len(self._tokens(caption))

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that are not in the vocabulary, each once."""
        return [word for word in dict.fromkeys(split_words(caption)) if word not in self._token]

    def header(self) -> dict[str, Any]:
        """Return what rebuilds it: ``kind``, ``words`` and ``context``."""
        return {"kind": self.kind, "words": list(self.words), "context": self.context}

    def describe(self) -> str:
        """Say how many words it has, and how long a caption may be."""
        return f"{len(self.words):,} words, captions of up to {self.context} tokens"

    def _tokens(self, caption: str) -> list[int]:
        tokens: list[int] = []
        for word in split_words(caption):
            if word in self._token:
                tokens.append(self._token[word])
            else:  # half of a surrogate pair, which UTF-8 has not, becomes a question mark
                tokens += [FIRST_BYTE + byte for byte in f" {word}".encode("utf-8", "replace")]
        return tokens
