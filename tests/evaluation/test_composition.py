"""How often class and colour are what was asked for, on pairs that were seen together and on others."""

from __future__ import annotations

import pytest
import torch

from latentdiff.config import DataConfig, SamplingConfig
from latentdiff.data import fashion_mnist_coloured as coloured
from latentdiff.data import load_split
from latentdiff.errors import ConfigError
from latentdiff.evaluation import composition, flops
from latentdiff.evaluation.asked_captions import with_test_captions
from latentdiff.inference.model import load
from latentdiff.inference.request import SamplingRequest


@pytest.fixture(scope="module")
def test_images():
    return load_split(DataConfig(name="fashion-mnist-coloured", source="embedded"), "test")


def test_real_images_are_known_by_classifier_and_rule(test_images):
    few = test_images.take(torch.arange(500))
    found = composition.real_composition(few)
    assert found[composition.SEEN]["images"] + found[composition.UNSEEN]["images"] == 500
    for row in found.values():
        assert row["colour"] == 1.0
        assert row["class"] > 0.88
        assert row["both"] == row["class"]


def test_each_pair_is_asked_for(test_images, reading_model, monkeypatch):
    """What is drawn is a real image of the class and the colour that the prompt names, but blue for everything red."""
    asked = []

    class Model:
        network = reading_model.network
        codec = type("codec", (), {"image_shape": (3, 28, 28)})

    def drawn(_, request):
        asked.extend(request.prompt)
        grey = coloured.grey_of(test_images.images)
        for prompt in request.prompt:
            _, colour, name = prompt.split(" ", 2)
            label = [each.lower() for each in test_images.class_names].index(name)
            index = torch.nonzero(test_images.labels == label)[0]
            number = coloured.COLOUR_NAMES.index("blue" if colour == "red" else colour)
            yield coloured.paint(grey[index], torch.tensor([number]))

    monkeypatch.setattr(composition, "_drawn", drawn)
    found, images = composition.measure_composition(Model(), 2, SamplingConfig())
    assert len(images) == len(asked) == 120
    assert len(set(asked)) == 60
    assert found[composition.SEEN]["images"] == 100
    assert found[composition.UNSEEN]["images"] == 20
    # Ten classes have red: two of these pairs, T-shirt and shirt, are never seen.
    assert found[composition.SEEN]["colour"] == pytest.approx(42 / 50)
    assert found[composition.UNSEEN]["colour"] == pytest.approx(8 / 10)


def test_another_model_is_refused(tiny_model_file):
    with pytest.raises(ConfigError, match="reads captions"):
        composition.measure_composition(load(tiny_model_file), 1, SamplingConfig())


def test_an_evaluation_asks_for_captions_of_test_images(test_images, reading_model, tiny_model_file):
    request, classes = with_test_captions(reading_model, SamplingRequest(num_images=20), test_images)
    assert torch.bincount(classes).tolist() == [2] * 10
    for caption, label in zip(request.prompt, classes.tolist(), strict=True):
        assert caption.endswith(test_images.class_names[label].lower())
    many, classes = with_test_captions(reading_model, SamplingRequest(num_images=2500), test_images)
    assert len(many.prompt) == len(classes) == 2500
    plain = SamplingRequest(num_images=2)
    assert with_test_captions(load(tiny_model_file), plain, test_images) == (plain, None)
    with pytest.raises(ConfigError, match=r"set --data\.captions"):
        with_test_captions(reading_model, plain, load_split(DataConfig(source="embedded"), "test"))


def test_the_arithmetic_of_a_model_that_reads_is_counted(reading_model):
    request = SamplingRequest(num_images=2, steps=2, prompt=["a", "b"], guidance_scale=2.0, negative_prompt="c")
    once = flops.sampling_flops(reading_model, SamplingRequest(num_images=2, steps=1))
    assert flops.sampling_flops(reading_model, request) == pytest.approx(4 * once)
    assert flops.training_flops(reading_model) > 2 * once
