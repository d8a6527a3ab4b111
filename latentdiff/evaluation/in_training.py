"""A quick look at a model's quality while it trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentdiff.checkpoint import CheckpointError
from latentdiff.data import ImageSet
from latentdiff.evaluation.extract import extract
from latentdiff.evaluation.feature_nets import ClassifierFeatures
from latentdiff.evaluation.frechet import Moments, frechet_distance, moments
from latentdiff.pipeline import DiffusionModel
from latentdiff.shelf import find

STEPS = 20


@dataclass(frozen=True)
class QualityProbe:
    """Fréchet distance to the test images in the classifier's features, from a few samples, always the same seeds.

    The number depends on how many samples it is taken from: it compares moments of one training, or of two with the
    same ``num_images``, and is not the distance that an evaluation reports.
    """

    net: ClassifierFeatures
    reference: Moments
    num_images: int

    @classmethod
    def build(cls, test: ImageSet, num_images: int, device: torch.device) -> QualityProbe | None:
        """The probe for a data set; None where it has no classifier or ``num_images`` is 0."""
        path = find(f"{test.name}/classifier.safetensors")
        if not num_images or path is None:
            return None
        try:
            net = ClassifierFeatures(path, device)
        except CheckpointError as error:
            print(f"no quality figures while training: {error}")
            return None
        return cls(net, moments(extract(net, test.images, progress=False).pooled), num_images)

    def __call__(self, model: DiffusionModel) -> dict[str, float]:
        """``distance``, and for a conditional model ``class_accuracy``, of samples in 20 steps."""
        steps = min(STEPS, model.schedule.num_train_steps or STEPS)
        images = model.sample(self.num_images, steps=steps, batch_size=100)
        features = extract(self.net, images, progress=False)
        values = {"distance": frechet_distance(moments(features.pooled), self.reference)}
        if model.conditional:
            asked = torch.arange(self.num_images) % model.network.null_label
            values["class_accuracy"] = float((features.logits.argmax(1) == asked).double().mean())
        return values
