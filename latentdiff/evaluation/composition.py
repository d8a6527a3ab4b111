"""Whether a model composes what it has never seen together: class and colour of coloured Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from latentdiff.config import SamplingConfig
from latentdiff.data import fashion_mnist, fashion_mnist_coloured
from latentdiff.data.dataset import ImageDataset
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_nets import ClassifierFeatures
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.runs.find import find_classifier

SEEN, UNSEEN = "seen", "never seen together"


def measure_composition(
    model: DiffusionModel, images_per_pair: int, settings: SamplingConfig
) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Draw every pair of class and colour, and measure how often both are what was asked for.

    The class is what the released classifier of Fashion-MNIST sees in the largest channel; the colour is read by
    :func:`~latentdiff.data.fashion_mnist_coloured.read_colours`.

    Args:
        model: A model that reads captions, of images of 3x28x28.
        images_per_pair: Images of each of the sixty pairs.
        settings: How to sample.

    Returns: for the pairs that were seen in training, and for those that were not, the number of ``images`` and the
        accuracies ``class``, ``colour`` and ``both``; and the images, uint8 [60 * images_per_pair, 3, 28, 28], class by
        class and colour by colour.

    Raises:
        ConfigError: A model that reads no captions, or has images of another shape.
        CheckpointError: There is no classifier of Fashion-MNIST.
    """
    if model.network.tokenizer is None or model.codec.image_shape != (3, 28, 28):
        raise ConfigError("composition is measured of a model that reads captions and draws images of 3x28x28")
    colours, names = fashion_mnist_coloured.COLOUR_NAMES, fashion_mnist.CLASS_NAMES
    pairs = torch.cartesian_prod(torch.arange(len(names)), torch.arange(len(colours)))
    labels, asked = pairs.repeat_interleave(images_per_pair, dim=0).unbind(1)
    prompt = [
        fashion_mnist_coloured.caption_of(names[label], colours[colour])
        for label, colour in zip(labels.tolist(), asked.tolist(), strict=True)
    ]
    request = SamplingRequest.of(settings, len(prompt), prompt=prompt)
    images = torch.cat(list(_drawn(model, request)))
    return _accuracies(images, labels, asked), images


def real_composition(test: ImageDataset) -> dict[str, dict[str, float]]:
    """The same of real test images: what classifier and rule find where class and colour are known."""
    return _accuracies(test.images, test.labels, fashion_mnist_coloured.colours_of(_grey(test.images)))


def _grey(images: Tensor) -> Tensor:
    return fashion_mnist_coloured.grey_of(images)


def _drawn(model: DiffusionModel, request: SamplingRequest) -> Iterator[Tensor]:
    for _, states in model.batches(request):
        *_, last = states
        yield model.codec.decode(last.x).cpu()


def _accuracies(images: Tensor, labels: Tensor, colours: Tensor) -> dict[str, dict[str, Any]]:
    path = find_classifier("fashion-mnist")
    if path is None:
        raise CheckpointError("there is no classifier of fashion-mnist to tell the classes: train one")
    logits = extract_features(ClassifierFeatures(path), _grey(images), progress=False).logits
    assert logits is not None
    of_class = logits.argmax(1) == labels
    of_colour = fashion_mnist_coloured.read_colours(images) == colours
    left_out = fashion_mnist_coloured.left_out(labels, colours)

    def share(hits: Tensor, which: Tensor) -> float:
        return float(hits[which].double().mean())

    return {
        name: {
            "images": int(which.sum()),
            "class": share(of_class, which),
            "colour": share(of_colour, which),
            "both": share(of_class & of_colour, which),
        }
        for name, which in ((SEEN, ~left_out), (UNSEEN, left_out))
    }
