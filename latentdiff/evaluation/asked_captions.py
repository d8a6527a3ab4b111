"""What a model that reads captions is asked for when it is measured: the captions of test images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from latentdiff.data import ImageDataset
from latentdiff.errors import ConfigError
from latentdiff.evaluation.reference_subset import REFERENCE_SEED, choose_subset
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest


def with_test_captions(
    model: DiffusionModel, request: SamplingRequest, test: ImageDataset
) -> tuple[SamplingRequest, Tensor | None]:
    """The request with a caption of a test image for each image, and the classes of these images, int64 [n].

    As many captions are of each class as there are; more images than test images take them in turn. A model without
    captions keeps its request, and the classes are None. So they are for images without classes.

    Raises :class:`~latentdiff.errors.ConfigError` for test images without captions.
    """
    if model.network.tokenizer is None or request.prompt is not None:
        return request, None
    if not test.captions:
        raise ConfigError(
            f"the model reads captions, and the images of {test.name} have none here: set --data.captions as in its "
            "training"
        )
    labels = test.labels if test.num_classes else None
    chosen = choose_subset(labels, len(test), request.num_images, REFERENCE_SEED)
    chosen = chosen[torch.arange(request.num_images) % len(chosen)]
    prompt = [test.captions[index] for index in chosen.tolist()]
    return replace(request, prompt=prompt), None if labels is None else labels[chosen]
