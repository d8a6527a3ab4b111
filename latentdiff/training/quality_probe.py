"""A quick look at a model's quality while it trains."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from latentdiff.config import TrainerConfig
from latentdiff.data import ImageDataset
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.evaluation.feature_extraction import cached_features, extract_features
from latentdiff.evaluation.feature_nets import (
    ClassifierFeatures,
    FeatureNet,
    Features,
    InceptionFeatures,
    find_inception,
)
from latentdiff.evaluation.fid import Moments, frechet_distance, moments
from latentdiff.evaluation.kid import kernel_distance
from latentdiff.evaluation.reference_subset import representative
from latentdiff.inference.model import DiffusionModel
from latentdiff.runs.find import find_classifier

QualityNet = Literal["auto", "classifier", "inception"]
STEPS = 20
# Held-out images that KID is taken to: what more of them would add is the same for every look of a training, and 10,000
# take Inception eleven minutes of a CPU core.
HELD_OUT = 2000


@dataclass(frozen=True)
class QualityProbe:
    """How far a few samples, always of the same seeds, are from held-out images.

    In the data set's classifier the measure is the Fréchet ``distance``, which depends on how many samples it is taken
    from: it compares moments of one training, or of two with the same ``num_images``, and is not the distance that an
    evaluation reports. In Inception it is ``kid``, which does not; it is taken to 2,000 of the held-out images at most.
    """

    net: FeatureNet
    reference: Features
    num_images: int
    # Of held-out images, for models that read captions.
    captions: tuple[str, ...] = ()
    labels: Tensor | None = None

    @classmethod
    def build(
        cls,
        held_out: ImageDataset,
        num_images: int,
        device: torch.device,
        net: QualityNet = "auto",
        folder: Path | str | None = None,
    ) -> QualityProbe | None:
        """The probe for a data set.

        Args:
            held_out: Images that are not trained on.
            num_images: Samples for each look; 0 for none at all.
            device: Where the net runs.
            net: ``auto`` is the classifier where the data set has one, else Inception where its weights are.
            folder: Where Inception's features of ``held_out`` are cached.

        Returns: None where there is no net to look with, which is said. Raises
        :class:`~latentdiff.errors.CheckpointError` where the net that was named is not there.
        """
        if not num_images:
            return None
        if len(held_out) < 2:
            print(
                f"no quality figures while training: at least 2 held-out images are needed, there are {len(held_out)}"
            )
            return None
        cls.check(held_out.name, num_images, net)
        classifier, words = find_classifier(held_out.name), _words_of(held_out, num_images)
        if net != "inception" and classifier is not None:
            try:
                own = ClassifierFeatures(classifier, device)
            except CheckpointError as error:
                if net == "classifier":
                    raise
                print(f"no quality figures while training: {error}")
                return None
            if own.fits(held_out):
                return cls(own, extract_features(own, held_out.images, progress=False), num_images, *words)
            if net == "classifier":
                raise CheckpointError(f"{own.wants}; use --quality_net inception")
            print(f"no classifier distance while training: {own.wants}")
        weights = find_inception(None)
        if weights is None:
            print(
                "no quality figures while training: there is no classifier, and the weights of the FID Inception are "
                "missing"
            )
            return None
        inception = InceptionFeatures(weights, device)
        held_out = representative(held_out, HELD_OUT)
        if folder is None:
            return cls(inception, extract_features(inception, held_out.images), num_images, *words)
        features = cached_features(inception, held_out.images, folder, held_out.fingerprint)
        return cls(inception, features, num_images, *words)

    @staticmethod
    def check(data_name: str, num_images: int, net: QualityNet) -> None:
        """Raise what :meth:`build` would for a net that was named and is not there: no image is needed to know it.

        Raises ConfigError for one image, which has no spread.
        """
        if num_images == 1:
            raise ConfigError("--quality_images must be 0, for no measurement, or at least 2, not 1")
        if num_images and net == "classifier" and find_classifier(data_name) is None:
            raise CheckpointError(f"{data_name} has no classifier: use --quality_net inception")
        if num_images and net == "inception" and find_inception(None) is None:
            raise CheckpointError(
                "the weights of the FID Inception are missing and could not be downloaded: name the file with "
                "LATENTDIFF_INCEPTION, or turn quality figures off with --quality_images 0"
            )

    @property
    def metric(self) -> str:
        """The name of the measure: ``kid`` or ``distance``."""
        return "kid" if self.net.metric == "fid" else "distance"

    @cached_property
    def reference_moments(self) -> Moments:
        return moments(self.reference.pooled)

    def distance_of(self, images: Tensor) -> float:
        """The measure of any uint8 images [n, c, h, w]."""
        return self._distance(extract_features(self.net, images, progress=False))

    def _distance(self, features: Features) -> float:
        if self.metric == "kid":
            return kernel_distance(features.pooled, self.reference.pooled).mean
        return frechet_distance(moments(features.pooled), self.reference_moments)

    def __call__(self, model: DiffusionModel) -> dict[str, float]:
        """``distance`` or ``kid``, for a conditional model and a classifier ``class_accuracy``, of samples in 20 steps,
        and the ``quality_seconds`` that the look took."""
        start = time.perf_counter()
        features = extract_features(self.net, self.sample(model), progress=False)
        values = {self.metric: self._distance(features)}
        if self.metric == "distance" and (asked := self._asked(model)) is not None and features.logits is not None:
            values["class_accuracy"] = float((features.logits.argmax(1) == asked).double().mean())
        return values | {"quality_seconds": time.perf_counter() - start}

    def _asked(self, model: DiffusionModel) -> Tensor | None:
        """The class of each sample, int64 [num_images]; None where none is asked for."""
        if model.network.tokenizer is not None:
            return self.labels if self.captions else None
        return torch.arange(self.num_images) % model.network.null_label if model.conditional else None

    def sample(self, model: DiffusionModel) -> Tensor:
        """The samples that are measured: uint8 [num_images, c, h, w]."""
        steps = min(STEPS, model.schedule.num_train_steps or STEPS)
        prompt = self.captions if self.captions and model.network.tokenizer else None
        return model.sample(self.num_images, prompt=prompt, steps=steps, batch_size=100)


def _words_of(held_out: ImageDataset, count: int) -> tuple[tuple[str, ...], Tensor]:
    """The captions and the classes of ``count`` images, spread over all; no captions where there are none."""
    chosen = torch.linspace(0, len(held_out) - 1, count).long()
    captions = tuple(held_out.captions[index] for index in chosen.tolist()) if held_out.captions else ()
    return captions, held_out.labels[chosen]


def choose_monitor(settings: TrainerConfig, probe: QualityProbe | None, held_out: ImageDataset) -> TrainerConfig:
    """Replace the ``monitor`` auto by the name of the run's quality figure, or by None.

    Only validation images may choose a model: a model that is chosen by test images could not be evaluated on them.
    """
    if settings.monitor != "auto":
        return settings
    quality = probe.metric if probe and held_out.split == "val" else None
    if quality:
        print(f"the best model by {quality} on the validation images will be kept as best.safetensors")
    return replace(settings, monitor=quality)


def net_of_run(folder: Path | None, data_name: str) -> QualityNet:
    """The network that an interrupted run has measured its samples with, so that it goes on with the same figure.

    A classifier that was trained since would give another one, and the best model could not be told. ``auto`` where
    that network is not here, which a line then says.

    Args:
        folder: Of the run that goes on; None for a new one.
        data_name: The name of its data set.
    """
    try:
        columns = [] if folder is None else (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    except (OSError, ValueError, IndexError):
        return "auto"
    if ("kid" in columns) == ("distance" in columns):
        return "auto"
    net: QualityNet = "inception" if "kid" in columns else "classifier"
    if (find_inception(None) if net == "inception" else find_classifier(data_name)) is None:
        print(f"the run has measured its samples with the {net} so far, which is not here")
        return "auto"
    return net
