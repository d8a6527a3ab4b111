"""Captions as tokens of an own vocabulary."""

from __future__ import annotations

import pytest
import torch

from latentdiff.text import vocabulary
from latentdiff.text.build import tokenizer_of_header
from latentdiff.text.tokenizer import cut_captions
from latentdiff.text.vocabulary import FIRST_BYTE, FIRST_WORD, Vocabulary, split_words

CAPTIONS = ["a red dress", "a red t-shirt", "a blue dress", "A  Red\tdress"]


def spelled(word):
    return [FIRST_BYTE + byte for byte in f" {word}".encode()]


def test_words_are_in_the_order_of_their_counts():
    found = Vocabulary.of_captions(CAPTIONS)
    assert found.words == ("a", "dress", "red", "blue", "t-shirt")
    assert found.num_tokens == 257 + 5
    assert found.encode(["a blue t-shirt"])[0, :4].tolist() == [FIRST_WORD, FIRST_WORD + 3, FIRST_WORD + 4, 0]


def test_case_spaces_and_the_form_of_an_accent_are_all_the_same():
    found = Vocabulary.of_captions(["a café"])
    same = found.encode(["A  Cafe\u0301", "a caf\u00e9"])
    assert torch.equal(same[0], same[1])
    assert found.unknown_words("A CAFÉ") == []


@pytest.mark.parametrize("word", ["hat", "帽子", "🙂", "naïve", "x" * 9])
def test_a_word_that_no_caption_has_is_spelled_in_bytes(word):
    found = Vocabulary.of_captions(["a red hat?"[:5]], context=40)
    tokens = found.encode([f"a {word}"])[0].tolist()
    assert tokens[: 1 + len(spelled(word))] == [FIRST_WORD, *spelled(word)]
    assert set(tokens[1 + len(spelled(word)) :]) == {0}
    assert found.unknown_words(f"a {word} {word}") == [word]


def test_half_of_a_surrogate_pair_is_written_too():
    assert Vocabulary.of_captions(["a"]).encode(["\ud83d"])[0, :2].tolist() == [FIRST_BYTE + 32, FIRST_BYTE + 63]


@pytest.mark.parametrize("empty", ["", "   ", "\n"])
def test_an_empty_caption_is_padding_alone(empty):
    assert not Vocabulary.of_captions(CAPTIONS).encode([empty]).any()


def test_the_context_is_that_of_the_longest_caption_within_bounds():
    assert Vocabulary.of_captions(["a"]).context == 24
    assert Vocabulary.of_captions(["a " * 30]).context == 30
    assert Vocabulary.of_captions(["a " * 300]).context == 77
    assert Vocabulary.of_captions(["a " * 300], context=200).context == 200
    assert Vocabulary.of_captions([]).encode([""]).shape == (1, 24)


def test_longer_captions_are_cut_and_told():
    found = Vocabulary.of_captions(["a b c d", "a b"], context=3)
    assert cut_captions(found, ["a b c d", "a b", "a b c d"]) == ["a b c d"]
    assert (found.encode(["a b c d"]) > 0).sum() == 3


def test_rare_words_are_spelled_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(vocabulary, "MOST_WORDS", 2)
    found = Vocabulary.of_captions(["a red", "a red", "a blue"])
    assert found.words == ("a", "red")
    assert found.count("a blue") == 1 + len(spelled("blue"))


def test_a_header_rebuilds_it():
    found = Vocabulary.of_captions(CAPTIONS, context=7)
    again = tokenizer_of_header(found.header())
    assert torch.equal(found.encode(CAPTIONS), again.encode(CAPTIONS))
    assert tokenizer_of_header(None) is None


def test_signs_are_words():
    assert split_words("Half-price, 50% (women's)!") == ["half-price", ",", "50", "%", "(", "women's", ")", "!"]
