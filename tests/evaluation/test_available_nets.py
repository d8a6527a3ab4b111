"""What there is to measure with, and what an evaluation says of it."""

from __future__ import annotations

from latentdiff.config import DataConfig
from latentdiff.evaluation.available_nets import find_feature_nets
from latentdiff.evaluation.feature_nets import InceptionFeatures
from latentdiff.evaluation.image_sources import noise_images
from latentdiff.evaluation.measurements import RealImages, measure_images
from latentdiff.files import file_sha256

UNPUBLISHED = "are not those that published FIDs use"


def test_weights_that_published_fids_do_not_use_are_told_before_the_work(make_images, inception_file, capsys, device):
    nets = find_feature_nets(make_images(6, 0), device, DataConfig(), weights=str(inception_file))
    assert list(nets) == ["inception"]
    printed = capsys.readouterr().out
    assert UNPUBLISHED in printed
    assert f"(SHA-256 {file_sha256(inception_file)[:12]})" in printed


def test_an_evaluation_notes_that_its_inception_is_not_the_published_one(make_images, inception_file, tmp_path):
    train, test = make_images(12, 0, "train"), make_images(9, 1)
    against = RealImages(train=train, test=test, real_images=12, features_folder=tmp_path, seed=0)
    net = InceptionFeatures(inception_file, layer="64")

    def notes():
        source = noise_images(test, 8, seed=0, batch_size=8)
        return measure_images(
            next(source.batches), source, against, {"inception": net}, lpips=None, infinity=False
        ).notes

    assert [UNPUBLISHED in note for note in notes()].count(True) == 1
    net.caveats = ()
    assert not any(UNPUBLISHED in note for note in notes())
