from __future__ import annotations

import pytest
import torch

from latentdiff.evaluation.feature_extraction import cached_features, extract_features
from latentdiff.evaluation.feature_nets import ClassifierFeatures


class Counting:
    """A feature net that counts the images it is shown."""

    def __init__(self, path):
        self.net, self.seen = ClassifierFeatures(path), 0
        self.name, self.weights_sha256, self.batch_size = self.net.name, self.net.weights_sha256, 4

    def __call__(self, images):
        self.seen += len(images)
        return self.net(images)


def take(net, images, folder):
    return cached_features(net, images.images, folder, images.fingerprint, progress=False)


def test_the_second_time_features_come_from_the_cache(tmp_path, classifier_file, make_images):
    net, images = Counting(classifier_file), make_images(10, 0)
    first, second = take(net, images, tmp_path), take(net, images, tmp_path)
    assert net.seen == 10
    assert torch.equal(first.pooled, second.pooled)
    assert torch.equal(first.logits, second.logits)


def test_other_images_and_other_weights_are_other_entries(tmp_path, classifier_file, make_images):
    net = Counting(classifier_file)
    take(net, make_images(10, 0), tmp_path)
    take(net, make_images(10, 1), tmp_path)
    net.weights_sha256 = "other"
    take(net, make_images(10, 0), tmp_path)
    assert net.seen == 30
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["truncated", "altered", "emptied"])
def test_a_damaged_entry_is_rebuilt(tmp_path, classifier_file, damage, capsys, make_images):
    net, images = Counting(classifier_file), make_images(10, 0)
    first = take(net, images, tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"truncated": content[:-40], "altered": content, "emptied": b""}[damage])
    assert torch.equal(take(net, images, tmp_path).pooled, first.pooled)
    assert "is damaged" in capsys.readouterr().out
    take(net, images, tmp_path)
    assert net.seen == 20


def test_no_images_are_refused(classifier_file):
    with pytest.raises(ValueError, match="no images"):
        extract_features(ClassifierFeatures(classifier_file), torch.zeros(0, 1, 12, 12, dtype=torch.uint8))
