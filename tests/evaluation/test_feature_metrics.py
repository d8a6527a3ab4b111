from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_metrics import ReferenceFeatures, feature_metrics, reliability_warnings
from latentdiff.evaluation.feature_nets import ClassifierFeatures, Features, InceptionFeatures
from latentdiff.evaluation.fid import frechet_distance, moments
from latentdiff.evaluation.kid import Subsets, kernel_distance


@pytest.fixture
def classifier_reference(classifier_file, make_images):
    net = ClassifierFeatures(classifier_file)
    return net, ReferenceFeatures.build(net, make_images(90, 1, "train"), make_images(60, 2), progress=False)


def test_classifier_metrics(classifier_reference, make_images):
    net, reference = classifier_reference
    samples = make_images(45, 3)
    features = extract_features(net, samples.images, progress=False)
    result = feature_metrics(features, samples.labels, reference)
    assert json.loads(json.dumps(result)) == result
    assert not any("fid" in key or "kid" in key for key in (*result, *reference.floor(45)))
    for split in ("test", "train"):
        expected = frechet_distance(moments(features.pooled), moments(getattr(reference, split).pooled))
        assert result[f"distance_{split}"] == pytest.approx(expected, rel=1e-9)
    sides = features[samples.labels == 1], reference.test[reference.test_labels == 1]
    expected = frechet_distance(*(moments(side.pooled) for side in sides))
    assert result["per_class_distance"]["two"] == pytest.approx(expected, rel=1e-9)
    assert result["per_class_mean"] == pytest.approx(sum(result["per_class_distance"].values()) / 3)
    assert result["class_accuracy"] == float((features.logits.argmax(1) == samples.labels).double().mean())
    assert reference.net["weights_sha256"] == net.weights_sha256


def test_images_in_a_wrong_class_show_in_the_accuracy_and_the_classes_distances(classifier_reference, make_images):
    net, reference = classifier_reference
    samples = make_images(60, 3)
    features = extract_features(net, samples.images, progress=False)
    features = replace(features, logits=torch.eye(3)[samples.labels])
    right = feature_metrics(features, samples.labels, reference)
    wrong = feature_metrics(features, (samples.labels + 1) % 3, reference)
    assert (right["class_accuracy"], wrong["class_accuracy"]) == (1.0, 0.0)
    assert wrong["per_class_mean"] > 5 * right["per_class_mean"]
    assert wrong["distance_test"] == right["distance_test"]


def test_inception_has_a_distance_for_each_class_with_enough_images():
    net = {"name": "inception-v3 layer 8", "metric": "fid", "dim": 8}
    labels = torch.arange(330) % 2
    labels[:20] = 2  # too few
    real, test, ours = (Features(torch.randn(330, 8) + labels[:, None], None) for _ in range(3))
    reference = ReferenceFeatures(
        net, ("one", "two", "three"), False, real, labels, torch.arange(330), test, labels, {}
    )
    result = feature_metrics(ours, labels, reference)
    assert result["per_class_distance"].keys() == {"one", "two"}
    expected = frechet_distance(*(moments(features.pooled[labels == 1]) for features in (ours, test)))
    assert result["per_class_distance"]["two"] == pytest.approx(expected, rel=1e-6)
    # A mean of two of the three classes would be another figure under the same name.
    assert "per_class_mean" not in result
    assert "class_accuracy" not in result
    few = labels.clone()
    few[labels == 2] = 0
    reference = ReferenceFeatures(net, ("one", "two"), False, real, few, torch.arange(330), test, few, {})
    result = feature_metrics(ours, few, reference, paired=True)
    assert result["per_class_mean"] == pytest.approx(sum(result["per_class_distance"].values()) / 2)
    assert "fid_test_error" not in result


def test_few_real_images_are_drawn_evenly_from_the_classes(classifier_file, make_images):
    reference = ReferenceFeatures.build(
        ClassifierFeatures(classifier_file),
        make_images(90, 1, "train"),
        make_images(60, 2),
        max_real_images=12,
        progress=False,
    )
    assert torch.bincount(reference.test_labels).tolist() == [4, 4, 4]
    assert reference.floor(6)["per_class_distance"].keys() == {"one", "two", "three"}
    drawn = [
        ReferenceFeatures.build(
            ClassifierFeatures(classifier_file),
            make_images(30, 1, "train"),
            make_images(60, 2),
            max_real_images=12,
            seed=seed,
            progress=False,
        ).test.pooled
        for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_unconditional_samples_have_no_class_metrics(classifier_reference, make_images):
    net, reference = classifier_reference
    result = feature_metrics(extract_features(net, make_images(20, 3).images, progress=False), None, reference)
    assert "class_accuracy" not in result
    assert "per_class_distance" not in result


def test_the_floor_is_that_of_as_many_training_images(classifier_reference):
    _, reference = classifier_reference
    assert reference.floor(40, seed=5) == reference.floor(40, seed=5) != reference.floor(40, seed=6)
    everything = reference.floor(1000)
    assert everything["images"] == 90
    expected = frechet_distance(reference.train_moments, reference.test_moments)
    assert everything["distance_test"] == pytest.approx(expected, rel=1e-6)
    assert everything["class_accuracy"] == float(
        (reference.test.logits.argmax(1) == reference.test_labels).double().mean()
    )


def test_inception_metrics_and_warning(inception_file, make_images):
    net = InceptionFeatures(inception_file, layer="64")
    reference = ReferenceFeatures.build(
        net, make_images(32, 1, "train"), make_images(24, 2), max_real_images=24, progress=False
    )
    samples = make_images(20, 3)
    features = extract_features(net, samples.images, progress=False)
    result = feature_metrics(features, samples.labels, reference)
    assert json.loads(json.dumps(result)) == result
    shared = {"fid_test", "fid_test_error", "kid_test", "kid_test_error", "precision", "recall", "density", "coverage"}
    assert result.keys() == {*shared, "fid_train", "memorisation"}
    assert reference.floor(20).keys() == {*shared, "images"}
    assert result["kid_test"].keys() == {"mean", "std", "subsets", "subset_size"}
    assert result["kid_test"]["subset_size"] == 20
    few = Subsets(7, 10)
    own = kernel_distance(features.pooled, reference.test.pooled, 7, 10, seed=3)
    assert feature_metrics(features, None, reference, seed=3, subsets=few)["kid_test"] == own._asdict()
    assert reference.floor(20, subsets=few)["kid_test"]["subset_size"] == 10
    (found,) = reliability_warnings(features, samples.labels, reference, result)
    assert found == (
        "20 images and 24 real training images and 24 real test images are fewer than the 64 features of inception-v3 "
        "layer 64: compare these distances, and those within classes, only with others of the same numbers."
    )


def test_a_reference_from_the_cache_is_the_same(tmp_path, classifier_file, make_images):
    net = ClassifierFeatures(classifier_file)
    sets = (make_images(30, 1, "train"), make_images(30, 2))
    first, second = (
        ReferenceFeatures.build(net, *sets, folder=tmp_path, max_real_images=20, progress=False) for _ in range(2)
    )
    assert torch.equal(first.train.pooled, second.train.pooled)
    assert len(list(tmp_path.iterdir())) == 2


def test_few_images_of_a_class_are_warned_of(classifier_reference, make_images):
    net, reference = classifier_reference
    samples = make_images(45, 3)
    features = extract_features(net, samples.images, progress=False)
    result = feature_metrics(features, samples.labels, reference)
    (found,) = reliability_warnings(features, samples.labels, reference, result)
    assert found.startswith("15 images of a class (one) are fewer than the 16 features of stripes classifier")
    assert reliability_warnings(features, None, reference, result) == []
    result = feature_metrics(features, torch.zeros(45, dtype=torch.long), reference)
    assert result["per_class_distance"].keys() == {"one"}


def test_wrong_classes_nan_and_wrong_numbers_of_labels_are_refused(classifier_file, classifier_reference, make_images):
    net, reference = classifier_reference
    foreign = replace(make_images(9, 1), class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match="knows other classes"):
        ReferenceFeatures.build(net, foreign, foreign, progress=False)
    features = extract_features(net, make_images(9, 1).images, progress=False)
    with pytest.raises(ValueError, match="4 labels were given for 9 images"):
        feature_metrics(features, torch.zeros(4, dtype=torch.long), reference)
    with pytest.raises(ValueError, match="NaN"):
        feature_metrics(Features(features.pooled * float("nan"), features.logits), None, reference)


def test_repeated_training_images_are_warned_of(inception_file, make_images):
    net = InceptionFeatures(inception_file, layer="64")
    for test_images, said in ((100, True), (60, False)):  # of 60 images there is no hundredth
        train, test = make_images(60, 1, "train"), make_images(test_images, 2)
        reference = ReferenceFeatures.build(net, train, test, progress=False)
        result = feature_metrics(reference.train, None, reference)
        assert result["memorisation"]["share_closer"] > 0.9
        found = reliability_warnings(reference.train, None, reference, result)
        assert any("repeating its training images" in line for line in found) == said


@pytest.mark.parametrize(("count", "is_there"), [(99, False), (100, True)])
def test_the_inception_score_of_a_few_images_is_left_out(inception_file, make_images, count, is_there):
    """It is at most the number of images in one of its ten splits."""
    net = InceptionFeatures(inception_file, layer="64")
    reference = ReferenceFeatures.build(net, make_images(20, 1, "train"), make_images(20, 2), progress=False)
    generator = torch.Generator().manual_seed(0)
    features = Features(torch.randn(count, 64, generator=generator), torch.randn(count, 10, generator=generator))
    assert ("inception_score" in feature_metrics(features, None, reference)) == is_there
