"""What is said of reconstructions, of test images and of those that the autoencoder learned from."""

from __future__ import annotations

import pytest
import torch

from latentdiff.evaluation import measurements
from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_nets import Features
from latentdiff.evaluation.fid import frechet_distance, moments
from latentdiff.evaluation.image_sources import ImageSource
from latentdiff.evaluation.measurements import RealImages, measure_images


class Blocks:
    """The means of nine blocks of an image, called a FID."""

    name, metric, dim, weights_sha256, resize = "blocks", "fid", 9, "0" * 64, "none"
    device, batch_size, class_names, caveats = torch.device("cpu"), 50, (), ()

    def __call__(self, images):
        return Features(images.float().unflatten(2, (3, 4)).unflatten(4, (3, 4)).mean(dim=(1, 3, 5)).flatten(1), None)


@pytest.fixture
def assessed(make_images, tmp_path):
    def of(split):
        sets = {"test": make_images(60, 2), "train": make_images(60, 1, "train")}
        against = RealImages(train=sets["train"], test=sets["test"], real_images=60, features_folder=tmp_path, seed=0)
        real = sets[split]
        images = (real.images.int() + 1).clamp(max=255).to(torch.uint8)
        source = ImageSource(
            "reconstruction", iter([images]), real.labels, originals=real.images, originals_split=split
        )
        found = measure_images(images, source, against, {"inception": Blocks()}, lpips=None, infinity=False)
        distance = frechet_distance(
            *(moments(extract_features(Blocks(), x, progress=False).pooled) for x in (images, real.images))
        )
        return found, distance

    return of


def test_reconstructions_are_measured_against_their_originals(assessed, capsys):
    found, distance = assessed("test")
    assert "no Inception Score: these weights have no classification head" in capsys.readouterr().out
    own = found.metrics["inception"]
    assert own["fid_test"] == pytest.approx(distance, rel=1e-6)
    assert "fid_test_error" not in own  # no draw of samples
    assert "memorisation" in own
    assert not any("reconstructions" in note for note in found.notes)


def test_those_of_training_images_are_near_to_them_and_no_copies(assessed):
    found, distance = assessed("train")
    own = found.metrics["inception"]
    assert own["fid_train"] == pytest.approx(distance, rel=1e-6)
    assert own["fid_test"] > own["fid_train"]
    assert own["fid_test_error"] > 0  # of the test images they are independent
    assert "memorisation" not in own
    assert not any("repeating" in note for note in found.notes)
    assert any("60 training images' reconstructions" in note for note in found.notes)
    assert found.metrics["reconstruction"]["psnr"] > 40


def test_copies_are_said_and_the_distance_at_infinity_is_inceptions(make_images, tmp_path, monkeypatch):
    monkeypatch.setattr(measurements, "MIN_SAMPLES", 10)
    monkeypatch.setattr(measurements, "extrapolate_fid", lambda x, reference, seed: (len(x), seed))
    test, train = make_images(60, 2), make_images(60, 1, "train")
    against = RealImages(train=train, test=test, real_images=60, features_folder=tmp_path, seed=3)
    for reconstruct, through in ((None, ""), (torch.clone, " as the autoencoder gives them")):
        source = ImageSource("diffusion", iter(()), reconstruct=reconstruct)
        nets = {"inception": Blocks(), "classifier": Blocks()}
        found = measure_images(train.images[:30], source, against, nets, lpips=None, infinity=True)
        assert f"100% of the images are copies of training images{through}, pixel by pixel." in found.notes
        assert [values["inception"]["fid_infinity"] for values in (found.metrics, found.floors)] == [(30, 3), (60, 3)]
        assert "fid_infinity" not in found.metrics["classifier"]
