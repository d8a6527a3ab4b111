"""The condition of each training image: its class, or the tokens of its caption."""

from __future__ import annotations

from torch import Tensor

from latentdiff.config import NetworkConfig
from latentdiff.data import ImageDataset
from latentdiff.errors import ConfigError
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.text.build import tokenizer_for
from latentdiff.text.tokenizer import Tokenizer, cut_captions

# Captions that a model keeps as examples: its samples are of these in turn where no prompt is given.
MOST_EXAMPLES = 64


def conditions_of(network: ConditionedNetwork, data: ImageDataset) -> Tensor:
    """The condition of each image: its class, int64 [n], or its caption's tokens, int64 [n, context].

    Raises :class:`~latentdiff.errors.ConfigError` for a network that reads captions, and images without any.
    """
    if network.tokenizer is None:
        return data.labels
    check_captions(data)
    return network.tokenizer.encode(data.captions)


def tokenizer_of(config: NetworkConfig, train: ImageDataset) -> Tokenizer | None:
    """The tokenizer for a training, and a line that says what it is; None for a network without captions.

    Raises :class:`~latentdiff.errors.ConfigError` for images without captions, and what
    :func:`~latentdiff.text.build.tokenizer_for` raises.
    """
    if config.text == "none":
        if train.captions:
            print("captions: not used, since the network has no text encoder; --network.text own adds one")
        return None
    check_captions(train)
    tokenizer = tokenizer_for(config, train.captions)
    assert tokenizer is not None
    distinct = set(train.captions)
    print(f"captions: {len(distinct):,} distinct ones, {tokenizer.describe()}")
    if cut := cut_captions(tokenizer, train.captions):
        print(
            f"captions: {len(cut):,} are longer than {tokenizer.context} tokens and are cut; the first is "
            f"{cut[0][:60]!r}. --network.text_context takes more."
        )
    if empty := sum(not caption.strip() for caption in train.captions):
        print(f"captions: {empty:,} of {len(train):,} images have none: they train the model without a caption")
    return tokenizer


def check_captions(data: ImageDataset) -> None:
    """Raise :class:`~latentdiff.errors.ConfigError` for images without captions."""
    if not data.captions:
        raise ConfigError(
            f"the network reads captions, but the images of {data.name} have none: set --data.captions, such as "
            '"a photo of a {class}"'
        )


def example_captions(captions: tuple[str, ...]) -> tuple[str, ...]:
    """At most 64 of the distinct captions, spread over all of them in the order of their letters."""
    distinct = sorted({caption for caption in captions if caption.strip()})
    count = min(MOST_EXAMPLES, len(distinct))
    return tuple(distinct[index * len(distinct) // count] for index in range(count))
