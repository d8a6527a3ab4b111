"""Every metric of one set of images under one feature net, beside the floor that real images reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.data import ImageDataset
from latentdiff.errors import ConfigError
from latentdiff.evaluation.feature_extraction import cached_features, extract_features
from latentdiff.evaluation.feature_nets import FeatureNet, Features
from latentdiff.evaluation.fid import (
    Moments,
    frechet_distance,
    frechet_distance_between,
    frechet_standard_error,
    moments,
)
from latentdiff.evaluation.inception_score import SPLITS, inception_score
from latentdiff.evaluation.kid import SUBSETS, Subsets, kernel_distance, kernel_standard_error
from latentdiff.evaluation.precision_recall import COVERAGE_NEIGHBOUR, Manifold, memorisation, precision_recall
from latentdiff.evaluation.reference_subset import REFERENCE_SEED, choose_subset

# A share of samples closer to a training image than 99 % of the test images are, from which on a reader is warned.
MAX_SHARE_CLOSER = 0.1
# Test images of which a hundredth is one at least. Of fewer, honest samples can pass that share by chance.
LEAST_FOR_A_HUNDREDTH = 100
# An Inception Score is at most the number of images in a split.
LEAST_IN_SPLIT = 10

# Images that a class must have on both sides for a distance of its own, by metric.
MIN_CLASS_IMAGES = {"fid": 100, "distance": 2}


@dataclass(frozen=True, eq=False)
class ReferenceFeatures:
    """What samples are measured against: one net's features of real images.

    Attributes:
        net: Name, metric, dim, weights_sha256 and resize of the net, which each result states.
        class_names: The data set's classes.
        knows_classes: Whether the net tells these classes apart, so that accuracy can be measured.
        train: Features of the training images, or of as many as were asked for.
        train_labels: int64 [n].
        train_index: int64 [n], which of the training images they are.
        test: Features of the test images.
        test_labels: int64 [m].
        data: Data set, source and fingerprints of both splits.
    """

    net: dict[str, Any]
    class_names: tuple[str, ...]
    knows_classes: bool
    train: Features
    train_labels: Tensor
    train_index: Tensor
    test: Features
    test_labels: Tensor
    data: dict[str, str]

    @classmethod
    def build(
        cls,
        net: FeatureNet,
        train: ImageDataset,
        test: ImageDataset,
        folder: Path | str | None = None,
        max_real_images: int | None = None,
        seed: int = REFERENCE_SEED,
        progress: bool = True,
    ) -> ReferenceFeatures:
        """Take the features of both splits.

        Args:
            net: The feature net.
            train: Training images.
            test: Test images.
            folder: Where the features are cached; none takes them anew.
            max_real_images: At most this many of each split, drawn with ``seed``: Inception needs about 45 minutes for
                60,000 images on two CPU cores.
            seed: Seed of that draw.
            progress: Show a progress bar while extracting.
        """
        # As many of each class, for the distances within classes.
        index, test_index = (
            choose_subset(each.labels if each.num_classes else None, len(each), max_real_images or len(each), seed)
            for each in (train, test)
        )
        train, test = train.take(index), test.take(test_index)

        def features(images: ImageDataset) -> Features:
            if folder is None:
                return extract_features(net, images.images, progress=progress)
            return cached_features(net, images.images, folder, images.fingerprint, progress=progress)

        stated = {key: getattr(net, key) for key in ("name", "metric", "dim", "weights_sha256", "resize")}
        data = {
            "name": test.name,
            "source": test.source,
            "train_fingerprint": train.fingerprint,
            "test_fingerprint": test.fingerprint,
        }
        if net.class_names and net.class_names != test.class_names:
            raise ConfigError(f"the {net.name} knows other classes than {test.name}: {', '.join(net.class_names)}")
        knows_classes = bool(net.class_names)
        sides = (features(train), train.labels, index, features(test), test.labels)
        return cls(stated, test.class_names, knows_classes, *sides, data)

    @cached_property
    def train_moments(self) -> Moments:
        """Mean and covariance of the training images' features."""
        return moments(self.train.pooled)

    @cached_property
    def test_moments(self) -> Moments:
        """Mean and covariance of the test images' features."""
        return moments(self.test.pooled)

    @cached_property
    def test_manifold(self) -> Manifold:
        """The test images' features with the distances to their neighbours."""
        return Manifold(self.test.pooled)

    def floor(self, count: int, seed: int = 0, subsets: Subsets = SUBSETS) -> dict[str, Any]:
        """The metrics of ``count`` real training images (all, if there are fewer), drawn with ``seed``, and ``images``.

        A generator that gave perfect new images would score about this; 0 is out of reach. The accuracy is an
        exception: it is that of the test images, since the classifier has learnt the training images' classes.
        """
        index = choose_subset(self.train_labels if self.class_names else None, len(self.train), count, seed)
        features = self.train[index]
        result = _metrics_against_test(
            features, moments(features.pooled), self.train_labels[index], self, seed, subsets
        )
        if self.knows_classes:
            result["class_accuracy"] = _accuracy(self.test, self.test_labels)
        return result | {"images": len(index)}


def feature_metrics(
    features: Features,
    labels: Tensor | None,
    reference: ReferenceFeatures,
    seed: int = 0,
    paired: bool = False,
    subsets: Subsets = SUBSETS,
) -> dict[str, Any]:
    """The metrics of one set of images, as plain values for JSON; ``reference.net`` says in whose features.

    Args:
        features: The images' features, by the net of ``reference``.
        labels: int64 [n], the class that was asked for in each image; none for an unconditional model.
        reference: Real images' features.
        seed: Seed of the kernel distance's subsets.
        paired: The images are the test images' own reconstructions: no draw of samples, so that a standard error would
            say nothing.
        subsets: What the kernel distance is averaged over.

    Returns:
        Under Inception ``fid_test`` and its standard error ``fid_test_error``
        (:func:`~latentdiff.evaluation.fid.frechet_standard_error`), ``fid_train``, ``kid_test`` {mean, std,
        subsets, subset_size} and its standard error ``kid_test_error``
        (:func:`~latentdiff.evaluation.kid.kernel_standard_error`), what
        :func:`~latentdiff.evaluation.precision_recall.precision_recall` gives for the test images,
        ``memorisation`` (see there) and, where the weights have a classification head and there are 100 images or more,
        ``inception_score`` {mean, std};
        under a classifier ``distance_test``, ``distance_test_error``, ``distance_train`` (these are not FIDs: another
        net, another scale) and, with labels, ``class_accuracy`` (share of images that the classifier takes for the
        class asked for).
        Under both, with labels, ``per_class_distance`` {class: distance to the test images of that class} and their
        mean ``per_class_mean``; where a class has fewer than :data:`MIN_CLASS_IMAGES` on either side it is left out,
        and there is no mean.

    Raises:
        ConfigError: Fewer than two images, NaN among the features, or labels of another number.
    """
    if labels is not None and len(labels) != len(features):
        raise ConfigError(f"{len(labels)} labels were given for {len(features)} images")
    own = moments(features.pooled)
    to_train = {f"{reference.net['metric']}_train": frechet_distance(own, reference.train_moments)}
    result = (
        _metrics_against_test(features, own, None if labels is None else labels.cpu(), reference, seed, subsets)
        | to_train
    )
    if paired:
        for key in [key for key in result if key.endswith("_error")]:
            del result[key]
    if reference.net["metric"] == "fid":
        result["memorisation"] = memorisation(features.pooled, reference.train.pooled, reference.test.pooled)
        if features.logits is not None and len(features) >= SPLITS * LEAST_IN_SPLIT:
            result["inception_score"] = inception_score(features.logits)
    return result


def reliability_warnings(
    features: Features, labels: Tensor | None, reference: ReferenceFeatures, result: dict[str, Any]
) -> list[str]:
    """What a reader must know before comparing the numbers of ``result``, what :func:`feature_metrics` gave; empty
    where there is nothing."""
    dim, found = reference.net["dim"], []
    counts = {
        "images": len(features),
        "real training images": len(reference.train),
        "real test images": len(reference.test),
    }
    few = " and ".join(f"{count:,} {what}" for what, count in counts.items() if count < dim)
    if few:
        found.append(
            f"{few} are fewer than the {dim:,} features of {reference.net['name']}: compare these distances, and those "
            "within classes, only with others of the same numbers."
        )
    copied = result.get("memorisation", {}).get("share_closer", 0.0)
    if copied > MAX_SHARE_CLOSER and len(reference.test) >= LEAST_FOR_A_HUNDREDTH:
        found.append(
            f"{copied:.0%} of the images are closer to a training image than 99 % of the test images are: the model "
            "may be repeating its training images."
        )
    if labels is not None and result.get("per_class_distance") and not few:
        of_class = torch.bincount(labels.cpu(), minlength=len(reference.class_names))
        if int(of_class.min()) < dim:
            name = reference.class_names[int(of_class.argmin())]
            found.append(
                f"{int(of_class.min()):,} images of a class ({name}) are fewer than the {dim:,} features of "
                f"{reference.net['name']}: the distances for each class compare only with others of equally many."
            )
    return found


def _metrics_against_test(
    features: Features, own: Moments, labels: Tensor | None, reference: ReferenceFeatures, seed: int, subsets: Subsets
) -> dict[str, Any]:
    """The metrics that samples and the floor share; ``own`` are the moments of ``features``."""
    metric = reference.net["metric"]
    result: dict[str, Any] = {
        f"{metric}_test": frechet_distance(own, reference.test_moments),
        f"{metric}_test_error": frechet_standard_error(features.pooled, own, reference.test_moments),
    }
    if metric == "fid":
        result["kid_test"] = kernel_distance(features.pooled, reference.test.pooled, *subsets, seed)._asdict()
        result["kid_test_error"] = kernel_standard_error(features.pooled, reference.test.pooled)
        if min(len(features), len(reference.test)) > COVERAGE_NEIGHBOUR:
            result |= precision_recall(Manifold(features.pooled), reference.test_manifold)
    if labels is not None and reference.knows_classes:
        result["class_accuracy"] = _accuracy(features, labels)
    if labels is not None and (distances := _class_distances(features, labels, reference)):
        result["per_class_distance"] = distances
        if len(distances) == len(reference.class_names):  # else it would be of other classes in every row
            result["per_class_mean"] = sum(distances.values()) / len(distances)
    return result


def _class_distances(features: Features, labels: Tensor, reference: ReferenceFeatures) -> dict[str, float]:
    """The distance of each class's images to the test images of that class, by the class's name."""
    distances = {}
    for k, name in enumerate(reference.class_names):
        ours, theirs = features.pooled[labels == k], reference.test.pooled[reference.test_labels == k]
        if min(len(ours), len(theirs)) >= MIN_CLASS_IMAGES[reference.net["metric"]]:
            distances[name] = frechet_distance_between(ours, theirs)
    return distances


def _accuracy(features: Features, labels: Tensor) -> float:
    return float((features.logits.argmax(dim=1) == labels).double().mean())
