from __future__ import annotations

import pytest
import torch

from latentdiff.data import ImageDataset
from latentdiff.errors import CheckpointError
from latentdiff.evaluation.feature_nets import Features
from latentdiff.evaluation.kid import kernel_distance
from latentdiff.training import quality_probe as in_training
from latentdiff.training.quality_probe import QualityProbe, net_of_run


class Pixels:
    """Images themselves as the features of an Inception."""

    name, metric, dim, weights_sha256, batch_size, class_names = "pixels", "fid", 12, "none", 50, ()

    def __call__(self, images):
        return Features(images.flatten(1).float() / 255, None)


class Model:
    conditional = False
    schedule = type("Schedule", (), {"num_train_steps": None})()

    def __init__(self, images):
        self.images = images

    def sample(self, count, steps, batch_size, prompt=None):
        assert (steps, prompt) == (20, None)
        return self.images[:count]


def pixels(count, seed, top=256):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, top, (count, 3, 2, 2), dtype=torch.uint8, generator=generator)


def held_out(images):
    return ImageDataset(images, torch.zeros(len(images), dtype=torch.int64), "nameless", "val", "full", ())


def test_kid_in_training_is_the_kernel_distance_to_held_out_images(monkeypatch, tmp_path, device):
    monkeypatch.setattr(in_training, "find_inception", lambda _: tmp_path)
    monkeypatch.setattr(in_training, "InceptionFeatures", lambda *_: Pixels())
    real = pixels(200, 0)
    probe = QualityProbe.build(held_out(real), 150, device, folder=tmp_path)
    near, far = (probe(Model(images)) for images in (pixels(150, 1), pixels(150, 1, 99)))
    assert set(near) == {"kid", "quality_seconds"}
    ours, theirs = (images.flatten(1).float() / 255 for images in (pixels(150, 1), real))
    assert near["kid"] == kernel_distance(ours, theirs).mean
    assert abs(near["kid"]) < 0.05 < far["kid"]
    assert list(tmp_path.iterdir())  # the real features are cached


def test_kid_in_training_is_taken_to_so_many_held_out_images_of_every_class_alike(monkeypatch, device):
    monkeypatch.setattr(in_training, "find_inception", lambda _: "somewhere")
    monkeypatch.setattr(in_training, "InceptionFeatures", lambda *_: Pixels())
    monkeypatch.setattr(in_training, "HELD_OUT", 40)
    # Which class an image is of can be read from its pixels.
    labels = torch.arange(100) // 50
    images = (labels * 255).to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    data = ImageDataset(images.contiguous(), labels, "nameless", "val", "full", ("a", "b"))
    reference = QualityProbe.build(data, 5, device).reference.pooled
    assert reference.mean(dim=1).tolist() == [0.0] * 20 + [1.0] * 20


def test_a_net_that_is_not_there_is_an_error_only_where_it_was_named(monkeypatch, capsys, device):
    monkeypatch.setattr(in_training, "find_inception", lambda _: None)
    data = held_out(pixels(9, 0))
    assert QualityProbe.build(data, 0, device, "inception") is None
    assert QualityProbe.build(data, 5, device) is None
    assert "no quality figures" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="LATENTDIFF_INCEPTION"):
        QualityProbe.build(data, 5, device, "inception")
    with pytest.raises(CheckpointError, match="nameless has no classifier"):
        QualityProbe.build(data, 5, device, "classifier")


@pytest.mark.parametrize(
    ("columns", "net"),
    [
        ("images_seen,loss,kid", "inception"),
        ("images_seen,distance", "classifier"),
        ("images_seen,loss", "auto"),
        ("", "auto"),
    ],
)
def test_a_run_that_goes_on_measures_with_the_network_that_it_began_with(tmp_path, columns, net, monkeypatch):
    for name in ("find_inception", "find_classifier"):
        monkeypatch.setattr(in_training, name, lambda _: tmp_path)
    (tmp_path / "metrics.csv").write_text(columns)
    assert net_of_run(tmp_path, "pixels") == net
    assert net_of_run(tmp_path / "none", "pixels") == net_of_run(None, "pixels") == "auto"
    for name in ("find_inception", "find_classifier"):
        monkeypatch.setattr(in_training, name, lambda _: None)
    assert net_of_run(tmp_path, "pixels") == "auto"  # on another machine


def test_one_image_has_no_spread_and_is_refused_before_images_are_read():
    with pytest.raises(ValueError, match="--quality_images must be 0, for no measurement, or at least 2, not 1"):
        QualityProbe.check("fashion-mnist", 1, "auto")
