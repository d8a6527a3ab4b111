from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance

from latentdiff import checkpoint
from latentdiff.errors import CheckpointError
from latentdiff.evaluation import feature_nets
from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_nets import ClassifierFeatures, Features, InceptionFeatures, find_inception
from latentdiff.evaluation.fid import frechet_distance, moments
from latentdiff.files import file_sha256
from latentdiff.verify import metrics_against_torch_fidelity
from latentdiff.verify.metrics_against_torch_fidelity import check_metrics

# Read before a test's environment is cleared.
REAL = os.environ.get("LATENTDIFF_INCEPTION")


def clouds(count: int, channels: int, size: tuple[int, int], seed: int) -> torch.Tensor:
    """Smooth images, faint to strong in contrast, every other one grey, so that two sets of them overlap in part."""
    generator = torch.Generator().manual_seed(seed)
    coarse = (
        torch.rand(count, channels, 3, 3, generator=generator) * torch.linspace(30, 180, count)[:, None, None, None]
    )
    coarse[::2] = coarse[::2, :1]
    return (40 + F.interpolate(coarse, size=size, mode="bilinear")).to(torch.uint8)


def agreed(checks) -> dict[str, float]:
    """Our metrics by name, of checks that hold, and that would not hold of distances that are a thousandth off."""
    assert all(check.passed for check in checks)
    assert not [check.name for check in checks[:6] if check.value is None]
    own = {check.name.split(",")[0]: float(check.note) for check in checks[:4]}
    assert list(own) == ["FID", "KID", "precision", "recall"]
    for check in checks[:2]:
        assert check.value < 1e-3 * abs(float(check.note)), check.name
    for name in ("precision", "recall"):
        assert 0.02 < own[name] < 0.98, name  # else agreeing would say nothing
    assert [check.name.split(",")[0] for check in checks[4:6]] == ["FID by torchmetrics", "KID by torchmetrics"]
    return own


@pytest.mark.slow
def test_metrics_of_png_folders_are_torch_fidelitys(inception_file):
    """Grey against colour, of odd sides, and more images than features, so that both covariances are of full rank."""
    agreed(check_metrics(inception_file, clouds(66, 1, (27, 25), 0), clouds(72, 3, (21, 23), 1), layer="64"))


@pytest.mark.slow
def test_the_published_layer_agrees_too(inception_file):
    weights = Path(REAL or inception_file)
    agreed(check_metrics(weights, clouds(40, 1, (28, 28), 0), clouds(50, 3, (21, 25), 1)))


def test_fid_is_that_of_torchmetrics_from_the_images_on(inception_file):
    """By its own network, told to resize as the published FIDs do, and of fewer images than features."""
    sets = clouds(9, 1, (27, 25), 0), clouds(11, 3, (21, 23), 1)
    theirs = FrechetInceptionDistance(64, feature_extractor_weights_path=str(inception_file), antialias=False)
    net = InceptionFeatures(inception_file, layer="64")
    for images, real in zip(sets, (False, True), strict=True):
        theirs.update(images.expand(-1, 3, -1, -1), real=real)
    x, y = (moments(extract_features(net, images, progress=False).pooled) for images in sets)
    assert frechet_distance(x, y) == pytest.approx(float(theirs.compute()), rel=1e-3)


def test_the_check_of_the_features_passes_and_can_fail(inception_file, monkeypatch):
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    features, speed = metrics_against_torch_fidelity.check_features(inception_file, images, layer="64")
    assert features.passed
    assert "images/s against" in speed.note
    monkeypatch.setattr(
        metrics_against_torch_fidelity,
        "extract_features",
        lambda *args, **options: Features(1.001 * extract_features(*args, **options).pooled, None),
    )
    assert not metrics_against_torch_fidelity.check_features(inception_file, images, layer="64")[0].passed


def test_features_are_torch_fidelitys(inception_file):
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=inception_file)
    net = InceptionFeatures(inception_file)
    own = net(images)
    expected = theirs(images.expand(-1, 3, -1, -1))[0]
    torch.testing.assert_close(own.pooled, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert (net.dim, own.pooled.shape, own.logits.shape) == (2048, (3, 2048), (3, 1008))
    assert net.weights_sha256 == file_sha256(inception_file)


def test_weights_that_fit_but_are_not_the_published_ones_are_known_by_what_they_compute(inception_file):
    net = InceptionFeatures(inception_file, layer="64")
    assert "caveats" not in vars(net)  # who only builds a net does not wait for it
    (caveat,) = net.caveats
    assert f"(SHA-256 {file_sha256(inception_file)[:12]}) are not those that published FIDs use" in caveat
    assert net(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).pooled.shape == (1, 64)


@pytest.mark.skipif(not REAL, reason="needs the FID Inception's weights, which LATENTDIFF_INCEPTION names")
def test_the_published_weights_are_known_and_a_rounded_copy_is_not_taken_for_them(tmp_path):
    assert InceptionFeatures(REAL).caveats == ()
    assert InceptionFeatures(REAL, layer="64").caveats == ()
    state = torch.load(REAL, weights_only=True)
    torch.save({name: tensor.half().to(tensor.dtype) for name, tensor in state.items()}, tmp_path / "rounded.pth")
    assert len(InceptionFeatures(tmp_path / "rounded.pth").caveats) == 1


def test_an_inception_without_its_head_gives_no_logits(tmp_path, inception_file):
    state = torch.load(inception_file, weights_only=True)
    state["fc.weight"].zero_()
    torch.save(state, tmp_path / "headless.pth")
    assert InceptionFeatures(tmp_path / "headless.pth")(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).logits is None


def test_missing_damaged_and_foreign_inception_files_are_named(tmp_path, inception_file, classifier_file, monkeypatch):
    with pytest.raises(CheckpointError, match=r"no file .*absent\.pth, which the setting names"):
        find_inception(tmp_path / "absent.pth")
    monkeypatch.setenv("LATENTDIFF_INCEPTION", str(tmp_path / "gone.pth"))
    with pytest.raises(CheckpointError, match=r"gone\.pth, which LATENTDIFF_INCEPTION names"):
        find_inception()
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(inception_file.read_bytes()[:1_000_000])
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    for path in (truncated, other, classifier_file):
        with pytest.raises(
            CheckpointError, match=rf"{path.name} \(SHA-256 [0-9a-f]{{12}}\) is damaged or not the FID Inception"
        ):
            InceptionFeatures(path)
    with pytest.raises(CheckpointError, match="Missing key"):
        InceptionFeatures(other)


def test_an_inception_file_that_would_run_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"weight": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(CheckpointError, match="damaged or not the FID Inception"):
        InceptionFeatures(tmp_path / "harmful.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("network", ["refused", "silent"])
def test_without_a_network_there_is_no_inception_and_that_is_known_soon(tmp_path, monkeypatch, network):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if network == "silent":
            server.listen()  # and never answers
        monkeypatch.delenv("LATENTDIFF_INCEPTION", raising=False)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(feature_nets, "DOWNLOAD", f"http://127.0.0.1:{server.getsockname()[1]}/weights-0000.pth")
        started = time.monotonic()
        with pytest.raises(CheckpointError, match="could not be downloaded"):
            InceptionFeatures()
        assert time.monotonic() - started < 120  # for ever, without a limit
    assert not list(tmp_path.iterdir())


def test_a_named_inception_comes_before_the_environments(tmp_path, monkeypatch):
    setting, other = tmp_path / "setting.pth", tmp_path / "environment.pth"
    setting.touch(), other.touch()
    monkeypatch.setenv("LATENTDIFF_INCEPTION", str(other))
    assert find_inception() == other
    assert find_inception(str(setting)) == setting


def test_inception_refuses_what_is_not_an_image(inception_file):
    net = InceptionFeatures(inception_file, layer="64")
    with pytest.raises(ValueError, match="uint8"):
        net(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="1 or 3"):
        net(torch.zeros(1, 2, 8, 8, dtype=torch.uint8))


def test_classifier_features(classifier_file, make_images):
    net, images = ClassifierFeatures(classifier_file), make_images(9, 0).images
    own = net(images)
    assert (net.name, net.dim, net.class_names) == ("stripes classifier", 16, ("one", "two", "three"))
    assert (own.pooled.shape, own.logits.shape) == ((9, 16), (9, 3))
    np.testing.assert_allclose(extract_features(net, images, progress=False).pooled, own.pooled, atol=1e-5)


def test_classifier_refuses_images_of_another_shape_and_files_of_another_kind(tmp_path, classifier_file):
    net = ClassifierFeatures(classifier_file)
    with pytest.raises(ValueError, match=r"stripes classifier takes uint8 images of 1x12x12, not .*\[2, 3, 28, 28\]"):
        net(torch.zeros(2, 3, 28, 28, dtype=torch.uint8))
    with pytest.raises(CheckpointError, match="no model file"):
        ClassifierFeatures(tmp_path / "absent.safetensors")
    header, tensors = checkpoint.read(classifier_file)
    checkpoint.save(tmp_path / "other.safetensors", "diffusion", tensors, {k: header[k] for k in ("network",)})
    with pytest.raises(CheckpointError, match="'diffusion' where 'classifier' is needed"):
        ClassifierFeatures(tmp_path / "other.safetensors")
