"""A frozen text encoder of ``transformers`` (CLIP or T5) with its tokenizer (extra ``text``).

Its weights are not part of a model file, which would be many times as large. The file names the encoder and a digest of
its weights and tokens; another encoder is refused when the file is loaded.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.extras import import_extra
from latentdiff.text.tokenizer import PADDING, context_for, fill_rows

# By the model type of transformers: the class that is its text encoder.
ENCODERS = {
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
}
# States that are kept, in bytes: those of the latest distinct captions.
MOST_KEPT_BYTES = 2**30
# Captions that are encoded at once.
BATCH = 64


class PretrainedText:
    """A frozen text encoder of transformers. It turns captions into tokens, and tokens into states.

    A token is the tokenizer's own number plus 1, so that 0 is padding in every tokenizer. The states of each distinct
    caption are computed once and kept.

    Args:
        name: A folder that ``save_pretrained`` wrote, or an ID of the Hub.
        context: Tokens of a caption. Default: as many as the longest of ``captions`` has, 77 at most.
        captions: Of the training, for that default.
        sha256: The digest that the encoder must have, where there is one.

    Raises:
        ConfigError: ``transformers`` is not installed, or the model is of a kind that it does not take.
        CheckpointError: There is no such encoder here, or it is not the one with that digest.
    """

    kind = "transformers"

    def __init__(self, name: str, context: int | None = None, captions: Sequence[str] = (), sha256: str | None = None):
        self.name = name
        self._tokenizer, self._encoder = _load(name)
        # T5 has no longest caption, and says so with an enormous number.
        longest = min(int(self._tokenizer.model_max_length), _most_positions(self._encoder) or 512)
        self._empty = self._ids("")
        needed = max(map(self.count, dict.fromkeys(captions)), default=0)
        self.context = min(longest, context_for(needed, context))
        if context and context > longest:
            raise ConfigError(f"--network.text_context {context}: {name} takes {longest} tokens at most")
        if sha256 is not None and sha256 != self.sha256:
            raise CheckpointError(
                f"{name} is not the text encoder that the model was trained with (SHA-256 {sha256[:12]}, here "
                f"{self.sha256[:12]}): put that one in its place"
            )
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> PretrainedText:
        """Itself: it is frozen, and the average of a network's weights shares it."""
        return self

    @property
    def width(self) -> int:
        """Channels of a state."""
        config = self._encoder.config
        return int(getattr(config, "d_model", None) or config.hidden_size)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the names, shapes and numbers of the weights, and the tokenizer's tokens."""
        digest = hashlib.sha256(repr(sorted(self._tokenizer.get_vocab().items())).encode())
        for name, tensor in sorted(self._encoder.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
        return digest.hexdigest()

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return the tokens of captions, int64 [n, context], filled up with 0; 0 alone for an empty caption."""
        return fill_rows(captions, self._tokens, self.context)

    def count(self, caption: str) -> int:
        """Return how many tokens a caption has before it is cut."""
        return len(self._ids(caption)) if caption.strip() else 0

    def unknown_words(self, caption: str) -> list[str]:
        """Return nothing: its tokens are of a large vocabulary."""
        return []

    def header(self) -> dict[str, Any]:
        """Return what rebuilds it: ``kind``, ``name``, ``sha256`` and ``context``."""
        return {"kind": self.kind, "name": self.name, "sha256": self.sha256, "context": self.context}

    def describe(self) -> str:
        """Say which encoder it is, and how long a caption may be."""
        return f"{self.name} of transformers, frozen, captions of up to {self.context} tokens"

    @torch.no_grad()
    def states(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of captions, fp32 [b, context, width], and which are not padding, bool [b, context].

        Args:
            tokens: int64 [b, context].
        """
        rows = [tuple(row) for row in tokens.tolist()]
        states = torch.zeros(len(rows), self.context, self.width, device=tokens.device)
        keep = torch.zeros(len(rows), self.context, dtype=torch.bool, device=tokens.device)
        with self._lock:  # of the threads of an app
            new = [row for row in dict.fromkeys(rows) if row not in self._kept]
            with _disable_current_modes():  # of a counter of operations: later steps find the states
                for start in range(0, len(new), BATCH):
                    self._keep(new[start : start + BATCH], tokens.device)
            for index, row in enumerate(rows):
                own = self._kept[row]
                states[index, : len(own)], keep[index, : len(own)] = own.to(tokens.device), True
            self._drop_oldest()
        return states, keep

    def _keep(self, rows: Sequence[tuple[int, ...]], device: torch.device) -> None:
        """Encode captions on ``device``, and keep their states."""
        ids = [[token - 1 for token in row if token != PADDING] or self._empty[: self.context] for row in rows]
        longest = max(map(len, ids))
        filler = self._tokenizer.pad_token_id or 0
        padded = torch.tensor([[*own, *[filler] * (longest - len(own))] for own in ids], device=device)
        mask = torch.tensor([[1] * len(own) + [0] * (longest - len(own)) for own in ids], device=device)
        with torch.autocast(device.type, enabled=False):
            states = self._encoder.to(device)(input_ids=padded, attention_mask=mask).last_hidden_state.float()
        for row, own, state in zip(rows, ids, states, strict=True):
            self._kept[row] = state[: len(own)].clone()

    def _drop_oldest(self) -> None:
        most = max(BATCH, MOST_KEPT_BYTES // (4 * self.context * self.width))
        for row in list(self._kept)[: max(0, len(self._kept) - most)]:
            del self._kept[row]

    def _tokens(self, caption: str) -> list[int]:
        if not caption.strip():
            return []
        ids = self._ids(caption)
        if len(ids) > self.context:  # what ends a caption, where CLIP reads its meaning, stays its end
            ids = [*ids[: self.context - 1], ids[-1]]
        return [token + 1 for token in ids]

    def _ids(self, caption: str) -> list[int]:
        return list(self._tokenizer(caption, add_special_tokens=True, truncation=False)["input_ids"])


def _load(name: str) -> tuple[Any, nn.Module]:
    """The tokenizer and the encoder of a name, in evaluation mode and frozen."""
    transformers: Any = import_extra("transformers", "text")
    if not name:
        raise ConfigError("--network.text transformers: names an encoder: transformers:PATH or transformers:ID")
    where = str(Path(name).expanduser()) if Path(name).expanduser().exists() else name
    try:
        config = transformers.AutoConfig.from_pretrained(where)
        if config.model_type not in ENCODERS:
            raise ConfigError(
                f"{name} is a {config.model_type}, which is no text encoder that is known here: name a CLIP or a T5"
            )
        encoder = getattr(transformers, ENCODERS[config.model_type]).from_pretrained(where).float()
        tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    except ConfigError:
        raise
    # Whatever is not in the folder, or not to be had from the Hub.
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"the text encoder {name} cannot be loaded: {reason}. Name its folder, as transformers:PATH, or let the "
            "Hub be reached once."
        ) from error
    return tokenizer, encoder.eval().requires_grad_(False)


def _most_positions(encoder: nn.Module) -> int | None:
    return getattr(encoder.config, "max_position_embeddings", None)
