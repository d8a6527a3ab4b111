"""What a user writes for a model that reads captions."""

from __future__ import annotations

from latentdiff.app.catalogue import Entry
from latentdiff.errors import ConfigError

# Letters of a prompt. A model reads some dozens of words.
MOST_LETTERS = 500
SHOWN_LETTERS = 60


def prompt_of(entry: Entry, text: object, what: str = "the prompt") -> str | None:
    """The text that a user wrote, None for an empty one, and for a model that reads none.

    Raises :class:`~latentdiff.errors.ConfigError` for what is no text, or is too long.
    """
    if not entry.reads or text is None:
        return None
    if not isinstance(text, str):
        raise ConfigError(f"{what} must be a text")
    if len(text) > MOST_LETTERS:
        raise ConfigError(f"{what} may have {MOST_LETTERS} letters, and has {len(text):,}")
    return text.strip() or None


def in_title(prompt: str | None) -> str:
    """A prompt as the title of a drawing shows it."""
    if prompt is None:
        return "captions of its training"
    return f"“{prompt[:SHOWN_LETTERS]}{'…' if len(prompt) > SHOWN_LETTERS else ''}”"


def new_words(entry: Entry, prompt: str | None) -> str:
    """The words that the model has never read, as a title goes on; empty where it knows all."""
    tokenizer = entry.model.network.tokenizer
    new = tokenizer.unknown_words(prompt) if tokenizer is not None and prompt else []
    return f" (new to the model: {', '.join(new[:8])})" if new else ""
