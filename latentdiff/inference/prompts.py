"""Prompts of text-to-image models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from latentdiff.errors import ConfigError
from latentdiff.inference.request import SamplingRequest
from latentdiff.text.tokenizer import Tokenizer

Prompt = str | Sequence[str] | None
# Words in one message.
SHOWN = 8


def resolve_prompts(tokenizer: Tokenizer, request: SamplingRequest, examples: Sequence[str]) -> Tensor:
    """The prompts of a request as token ids, int64 [n, context]; with a negative prompt [n, 2, context].

    A line says which words are new to the model, and which prompts are cut.

    Args:
        tokenizer: Of the model.
        request: Its ``prompt`` is one for all images, one for each, or None: the examples in turn. ``labels`` are
            refused, unless they are token ids that this function gave.
        examples: Captions of the training.

    Raises :class:`~latentdiff.errors.ConfigError` for labels, and for prompts that are not texts.
    """
    n = request.num_images
    if request.labels is not None:
        given = request.labels
        if isinstance(given, Tensor) and given.ndim > 1 and given.shape[-1] == tokenizer.context and len(given) == n:
            return given
        raise ConfigError('this model takes prompts, not labels: give prompt, such as "a red dress"')
    positive = _tokens(tokenizer, prompts_of(request, examples))
    if request.negative_prompt is None:
        return positive
    return torch.stack([positive, _tokens(tokenizer, _each(request.negative_prompt, n, "negative_prompt"))], dim=1)


def prompts_of(request: SamplingRequest, examples: Sequence[str]) -> list[str]:
    """The prompt of each image: those given, or the examples in turn.

    Raises :class:`~latentdiff.errors.ConfigError` for another number of prompts than of images.
    """
    if request.prompt is not None:
        return _each(request.prompt, request.num_images, "prompt")
    return [examples[index % len(examples)] if examples else "" for index in range(request.num_images)]


def refuse_prompts(request: SamplingRequest) -> None:
    """Raise :class:`~latentdiff.errors.ConfigError` for prompts, which a model without a text encoder cannot use."""
    for name in ("prompt", "negative_prompt"):
        if getattr(request, name) is not None:
            raise ConfigError(f"this model takes no prompts: leave {name} out, or give labels if the model has classes")


def check_negative(request: SamplingRequest) -> None:
    """Raise :class:`~latentdiff.errors.ConfigError` for a negative prompt that guidance would not use."""
    if request.negative_prompt is None:
        return
    if request.guidance_scale in (0.0, 1.0):
        raise ConfigError(
            f"negative_prompt does nothing at guidance_scale {request.guidance_scale:g}: use more than 1, such as 2"
        )
    if request.guide is not None:
        raise ConfigError(
            "negative_prompt and guide cannot be combined, since guidance steers away from either: leave one out"
        )


def split_negative(labels: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Prompts and negative prompts of [b, 2, context]; other labels as they are, and None."""
    if labels is None or labels.ndim < 3:
        return labels, None
    return labels[:, 0], labels[:, 1]


def parse_prompt(given: Any, option: str = "prompt") -> Prompt:
    """The prompt of a command line: a text is one prompt, a JSON list in it is one for each image.

    Raises :class:`~latentdiff.errors.ConfigError` for a text that starts like a list but is not one.
    """
    if not isinstance(given, str) or not given.lstrip().startswith("["):
        return given
    try:
        found = json.loads(given)
    except ValueError as error:
        raise ConfigError(f"--{option} {given[:80]} starts like a JSON list but is not one: {error}") from error
    return found


def _each(given: Any, n: int, name: str) -> list[str]:
    if isinstance(given, str):
        return [given] * n
    if not isinstance(given, Sequence) or not all(isinstance(one, str) for one in given):
        raise ConfigError(f"{name} must be a text, or a list of texts, not {str(given)[:80]!r}")
    if len(given) != n:
        raise ConfigError(f"{len(given)} texts were given as {name} for {n} images: give one for all, or one for each")
    return list(given)


@cache
def _say_once(text: str) -> None:
    """Print a line the first time only: a request is resolved several times."""
    print(text, flush=True)


def _tokens(tokenizer: Tokenizer, prompts: list[str]) -> Tensor:
    for prompt in dict.fromkeys(prompts):
        if new := tokenizer.unknown_words(prompt):
            listed = ", ".join([*new[:SHOWN], *(["…"] if len(new) > SHOWN else [])])
            _say_once(f"the model has never read {listed}: it spells {'them' if len(new) > 1 else 'it'} and guesses")
        if (count := tokenizer.count(prompt)) > tokenizer.context:
            _say_once(
                f"the prompt {prompt[:40]!r} has {count} tokens, but the model reads only {tokenizer.context}: "
                "the rest is cut"
            )
    return tokenizer.encode(prompts)
