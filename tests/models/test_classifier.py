from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentdiff import checkpoint
from latentdiff import resources as shelf
from latentdiff.config import DataConfig, RunConfig
from latentdiff.config.training_stages import ClassifierStage
from latentdiff.data import ImageDataset, load_split
from latentdiff.errors import ConfigError, FolderError
from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_nets import ClassifierFeatures
from latentdiff.models.classifier import Classifier
from latentdiff.training.classifier_module import accuracy, augment, train
from latentdiff.training.train_classifier import train_classifier

RELEASED = "fashion-mnist/classifier.safetensors"


@pytest.fixture
def edges() -> ImageDataset:
    """Two classes that differ in which half is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (300,), generator=generator)
    images = torch.randint(0, 120, (300, 1, 14, 14), generator=generator)
    images[labels == 0, :, :7] += 60
    images[labels == 1, :, 7:] += 60
    return ImageDataset(images.to(torch.uint8), labels, "edges", "train", "full", ("top", "bottom"))


@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 33, 20)])
def test_shapes_and_size(image_shape):
    model = Classifier(image_shape, 10).eval()
    pooled, logits = model.features(torch.rand(2, *image_shape) * 2 - 1)
    assert (pooled.shape, logits.shape, model.feature_dim) == ((2, 128), (2, 10), 128)
    assert torch.equal(model(torch.zeros(2, *image_shape)), model.features(torch.zeros(2, *image_shape))[1])
    assert sum(p.numel() for p in model.parameters()) < 320_000


def test_training_learns_and_repeats_itself(edges):
    settings = {"epochs": 4, "batch_size": 50, "lr": 0.05, "seed": 3, "channels": (8, 16), "progress": False}
    model, right = train(edges, edges, **settings)
    again, _ = train(edges, edges, **settings)
    assert right > 0.95
    assert right == accuracy(model, edges)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
        assert torch.equal(tensor, tensor.bfloat16().to(tensor.dtype)), name
    with pytest.raises(ValueError, match="0 epochs"):
        train(edges, edges, **settings | {"epochs": 0})


def test_augmentation_moves_by_at_most_two_pixels_and_mirrors_only_if_told():
    generator = torch.Generator().manual_seed(0)
    ramp = torch.arange(28, dtype=torch.uint8).expand(200, 2, 28, 28)
    moved = augment(ramp, False, generator)
    assert moved.shape == ramp.shape
    shifts = moved[:, 0, 10, 10].long() - 10
    assert set(shifts.tolist()) == {-2, -1, 0, 1, 2}
    expected = (torch.arange(28) + shifts[:, None]).clamp(0, 27)
    assert torch.equal(moved.long(), expected[:, None, None].expand(-1, 2, 28, -1))
    mirrored = augment(ramp, True, generator)
    falling = mirrored[:, 0, 0, 10] > mirrored[:, 0, 0, 20]
    assert 60 < falling.sum() < 140


def test_the_stage_writes_a_file_that_the_evaluation_reads(tmp_path):
    folder = tmp_path / "run"
    config = ClassifierStage(
        data=DataConfig(source="embedded"), channels=(4, 8), epochs=1, batch_size=64, run=RunConfig(folder=str(folder))
    )
    path = train_classifier(config, "the command")
    header = checkpoint.read_header(path, "classifier")
    assert (folder / "config.yaml").is_file()
    assert header["data"]["source"] == "embedded"
    assert (header["images_seen"], header["command"]) == (10_048, "the command")  # whole batches of 64
    test = load_split(config.data, "test")
    logits = extract_features(ClassifierFeatures(path), test.images, progress=False).logits
    measured = float((logits.argmax(1) == test.labels).double().mean())
    assert measured == pytest.approx(header["test_accuracy"], abs=0.002)
    assert measured > 0.3
    with pytest.raises(FolderError, match="does not resume"):
        train_classifier(
            ClassifierStage(data=DataConfig(source="embedded"), run=RunConfig(folder=str(folder), resume=True))
        )


def test_too_few_steps_are_refused_before_anything_is_written(tmp_path):
    data = DataConfig(source="embedded", max_train_images=35)
    settings = {"channels": (4,), "data": data, "run": RunConfig(folder=str(tmp_path / "run"))}
    with pytest.raises(
        ConfigError, match=r"12 epochs of 35 images in batches of 128 are 4 steps, .* lower --batch_size"
    ):
        train_classifier(ClassifierStage(**settings))
    assert not (tmp_path / "run").exists()
    assert train_classifier(ClassifierStage(**settings, batch_size=16)).is_file()


def test_the_released_classifier_is_right_about_the_test_images():
    """At least 93 % of the test images inside the package; its card states its accuracy on the whole split."""
    path = shelf.find_checkpoint(RELEASED)
    assert path is not None, f"checkpoints/{RELEASED} is missing"
    assert path.stat().st_size < 1_000_000
    test = load_split(DataConfig(source="embedded"), "test")
    net = ClassifierFeatures(path)
    logits = extract_features(net, test.images, progress=False).logits
    assert float((logits.argmax(1) == test.labels).double().mean()) >= 0.93
    assert net.class_names == test.class_names
    assert net.accuracy >= 0.93


def test_images_without_classes_say_what_a_classifier_needs():
    settings = {"data": DataConfig(source="embedded", classes="none"), "run": RunConfig(folder="classifier")}
    with pytest.raises(
        ConfigError, match="fashion-mnist has fewer than two classes here, and a classifier learns to tell classes"
    ):
        train_classifier(ClassifierStage(**settings))
    assert not Path("classifier").exists()
