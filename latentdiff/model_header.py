"""What the header of a model file must look like, checked before anything is built from it.

A header is text that anybody can have written. What it asks for is compared with what is in the file: a network of so
many layers has as many tensors, and none of its sizes is larger than all numbers of the file together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from latentdiff.config import DiffusionConfig, Settings, Spacing, from_dict
from latentdiff.config.diffusers_models import (
    DiffusersAutoencoderConfig,
    DiffusersNetworkConfig,
    autoencoder_config_class,
    network_config_class,
)
from latentdiff.errors import CheckpointError

KINDS = ("autoencoder", "diffusion", "classifier")
# Characters of a value that a message shows.
SHOWN = 60
MOST_CHANNELS, LARGEST_SIDE, MOST_CLASSES, MOST_TRAIN_STEPS = 1024, 4096, 1_000_000, 1_000_000
# Tokens of a caption.
MOST_CONTEXT = 512
# No layer is wider than this, unless the file has more numbers.
USUAL_WIDTH = 65_536
# Numbers of a provenance that need not be whole.
FIGURES = (
    "seconds",
    "images_per_second",
    "energy_joules",
    "flops",
    "stage_one_seconds",
    "stage_one_flops",
    "encode_seconds",
)


def check_header(header: Any, path: Path, num_tensors: int, num_values: int) -> None:
    """Raise :class:`CheckpointError` unless ``header`` describes a model that so many tensors can be the weights of.

    Args:
        header: The JSON of a file's header.
        path: The file, for messages.
        num_tensors: How many tensors the file has.
        num_values: How many numbers all of them have.
    """
    check = _Check(path)
    check.that(isinstance(header, dict), "the header", "a JSON object", header)
    kind = header.get("kind")
    check.that(kind in KINDS, "kind", f"one of {', '.join(KINDS)}", kind)
    # A codec in a file of its own is built from that file's header and tensors.
    own = (num_tensors, num_values) if not header.get("codec_file") else (math.inf, math.inf)
    if kind == "autoencoder":
        _check_codec(check, header.get("codec"), *own)
    elif kind == "diffusion":
        check.shape("image_shape", header.get("image_shape"))
        check.names("class_names", header.get("class_names"))
        if header.get("codec") is not None:
            _check_codec(check, header["codec"], *own)
        network = check.settings(network_config_class(header.get("network")), "network", header.get("network"))
        check.size("network", network, network.num_res_blocks, num_tensors, num_values)
        if isinstance(network, DiffusersNetworkConfig):
            check.numbers("network.unet", vars(network.unet), num_values)
        _check_sampling(check, header.get("sampling"))
        diffusion = check.settings(DiffusionConfig, "diffusion", header.get("diffusion"))
        check.number("diffusion.num_train_steps", diffusion.num_train_steps or 1, 1, MOST_TRAIN_STEPS)
        if header.get("codec_file") is not None:
            _check_codec_file(check, header["codec_file"])
        _check_text(check, header, network, num_values)
    else:
        _check_classifier(check, header, num_tensors, num_values)
    _check_provenance(check, header.get("provenance"))


def _check_codec(check: _Check, codec: Any, num_tensors: float, num_values: float) -> None:
    check.that(isinstance(codec, dict), "codec", "an object", codec)
    check.shape("codec.image_shape", codec.get("image_shape"))
    values = codec.get("autoencoder")
    config = check.settings(autoencoder_config_class(values), "codec.autoencoder", values)
    if isinstance(config, DiffusersAutoencoderConfig):
        check.numbers("codec.autoencoder.vae", vars(config.vae), num_values)
    blocks = config.encoder_blocks + config.decoder_blocks
    check.size("codec.autoencoder", config, blocks, num_tensors, num_values)


def _check_sampling(check: _Check, sampling: Any) -> None:
    """The defaults of sampling that a model from diffusers brings."""
    if sampling is None:
        return
    check.that(isinstance(sampling, dict), "sampling", "an object", sampling)
    known = {
        "spacing": get_args(Spacing),
        "variance": ("small", "large", "learned"),
        "clip": (True, False),
        "unit_noise": (True, False),
    }
    for key, value in sampling.items():
        allowed = known.get(key, ())
        right = any(type(value) is type(item) and value == item for item in allowed)
        check.that(right, f"sampling.{str(key)[:SHOWN]}", f"one of {', '.join(map(str, allowed))}", value)


def _check_codec_file(check: _Check, named: Any) -> None:
    check.that(isinstance(named, dict), "codec_file", "an object", named)
    name, digest = named.get("name"), named.get("sha256")
    plain = isinstance(name, str) and name not in ("", ".", "..") and not re.search(r"[/\\:\0]", name)
    check.that(plain, "codec_file.name", "the bare name of a file", name)
    known = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
    check.that(bool(known), "codec_file.sha256", "64 hex digits", digest)


def _check_text(check: _Check, header: dict[str, Any], network: Any, num_values: int) -> None:
    """What reads captions: a vocabulary, or the name and the digest of a frozen encoder; nothing where none is read."""
    text, captions = header.get("text"), header.get("captions")
    check.that((text is None) == (network.text == "none"), "text", f"what network.text {network.text} reads with", text)
    check.names("captions", captions or [])
    if text is None:
        return
    check.that(isinstance(text, dict), "text", "an object", text)
    kinds = "own" if network.text == "own" else "transformers"
    check.that(text.get("kind") == kinds, "text.kind", kinds, text.get("kind"))
    check.number("text.context", text.get("context"), 1, MOST_CONTEXT)
    if kinds == "own":
        words = text.get("words")
        check.names("text.words", words)
        check.that(len(set(words)) == len(words), "text.words", "words that differ", words)
        # Each has a row of numbers in the file.
        check.number("the number of words", len(words), 0, num_values)
    else:
        check.that(isinstance(text.get("name"), str), "text.name", "a folder or an ID", text.get("name"))
        digest = text.get("sha256")
        known = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
        check.that(bool(known), "text.sha256", "64 hex digits", digest)


def _check_classifier(check: _Check, header: dict[str, Any], num_tensors: int, num_values: int) -> None:
    network = header.get("network")
    check.that(isinstance(network, dict), "network", "an object", network)
    extra = network.keys() - {"image_shape", "num_classes", "channels"}
    check.that(not extra, "network", "image_shape, num_classes and channels", sorted(map(str, network)))
    check.shape("network.image_shape", network.get("image_shape"))
    check.number("network.num_classes", network.get("num_classes"), 1, MOST_CLASSES)
    channels = network.get("channels")
    fits = isinstance(channels, list) and 0 < len(channels) <= num_tensors
    check.that(fits, "network.channels", "a list of widths", channels)
    for width in channels:
        check.number("network.channels", width, 1, max(num_values, USUAL_WIDTH))
    check.names("class_names", header.get("class_names"))
    check.that(isinstance(header.get("data"), dict), "data", "an object", header.get("data"))
    check.that(isinstance(header["data"].get("name"), str), "data.name", "a text", header["data"].get("name"))
    check.number("test_accuracy", header.get("test_accuracy"), 0, 1, whole=False)


def _check_provenance(check: _Check, made: Any) -> None:
    """What is there must be of its type; a model from Python may know nothing of its training."""
    check.that(made is None or isinstance(made, dict), "provenance", "an object", made)
    made = made or {}
    for key, value in made.items():
        where = f"provenance.{key}"
        if key in ("data", "config", "environment", "started_from", "decoder"):
            check.that(value is None or isinstance(value, dict), where, "an object", value)
        elif key in ("images_seen", "peak_memory_bytes"):
            check.number(where, value or 0, 0, 2**62)
        elif key in FIGURES:
            check.number(where, value or 0, 0, 1e30, whole=False)
        elif key in ("device", "command", "stage_one_device", "stage_one_sha256"):
            check.that(value is None or isinstance(value, str), where, "a text", value)
        elif key == "history":
            rows = isinstance(value, list) and all(isinstance(row, dict) for row in value)
            check.that(rows, where, "a list of rows", value)
            for row in value:
                plain = all(item is None or isinstance(item, int | float) for item in row.values())
                check.that(plain, where, "rows of numbers", row)


class _Check:
    """Raises :class:`CheckpointError` that names the file, the place in its header, and what is wrong there."""

    def __init__(self, path: Path):
        self.path = path

    def that(self, holds: bool, where: str, wanted: str, found: Any) -> None:
        if not holds:
            shown = repr(found)
            shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
            raise CheckpointError(
                f"{self.path} has a header that no model can have: {where} must be {wanted}, not {shown}"
            )

    def number(self, where: str, value: Any, low: float, high: float, whole: bool = True) -> None:
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        wanted = f"a {'whole ' if whole else ''}number from {low:,} to {high:,}"
        self.that(right and low <= value <= high, where, wanted, value)

    def shape(self, where: str, value: Any) -> None:
        self.that(isinstance(value, list) and len(value) == 3, where, "[channels, height, width]", value)
        for item, high in zip(value, (MOST_CHANNELS, LARGEST_SIDE, LARGEST_SIDE), strict=True):
            self.number(where, item, 1, high)

    def names(self, where: str, value: Any) -> None:
        texts = isinstance(value, list) and len(value) <= MOST_CLASSES and all(isinstance(name, str) for name in value)
        self.that(texts, where, "a list of names", value)

    def settings(self, cls: type[Settings], where: str, value: Any) -> Any:
        """The settings dataclass that ``value`` describes."""
        self.that(isinstance(value, dict), where, "an object", value)
        unknown = sorted(map(str, value.keys() - set(cls.__dataclass_fields__)))
        self.that(not unknown, where, "settings that this version of latentdiff knows", unknown)
        _each_number(value, lambda number: self.that(math.isfinite(number), where, "finite numbers", number))
        try:
            return from_dict(cls, value)
        except (TypeError, ValueError) as error:
            message = " ".join(str(error).split())[: 4 * SHOWN]
            raise CheckpointError(f"{self.path} has a header that no model can have: {where}: {message}") from error

    def size(self, where: str, settings: Any, blocks: Any, num_tensors: float, num_values: float) -> None:
        """Check that a network is not larger than the file.

        Args:
            where: What messages call the network.
            settings: Its settings; ``channels`` are the widths.
            blocks: Its layers at each width.
            num_tensors: Of the file. Each layer has one at least.
            num_values: Of the file. No layer is wider.
        """
        widths = settings.channels
        self.that(isinstance(widths, tuple | list) and len(widths) > 0, f"{where}.channels", "a list of widths", widths)
        self.that(len(widths) <= num_tensors, f"{where}.channels", "of as many widths as the file has", len(widths))
        self.number(f"the number of blocks in {where}", blocks, 0, math.inf)
        fits = blocks * len(widths) <= num_tensors
        self.that(fits, f"the number of layers in {where}", "what the file has tensors for", blocks * len(widths))
        self.numbers(where, vars(settings), num_values)

    def numbers(self, where: str, values: dict[str, Any], num_values: float) -> None:
        """Check that no setting of a network is larger than all numbers of the file together."""
        _each_number(
            values, lambda number: self.number(where, number, -math.inf, max(num_values, USUAL_WIDTH), whole=False)
        )


def _each_number(value: Any, check: Callable[[float], None]) -> None:
    """Call ``check`` with each number in nested plain values."""
    if isinstance(value, dict):
        for item in value.values():
            _each_number(item, check)
    elif isinstance(value, list | tuple):
        for item in value:
            _each_number(item, check)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check(value)
