"""Each request is what Python's own call gives, within limits, or is refused in one line."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from latentdiff.app.kept_drawings import Drawing, KeptDrawings
from latentdiff.app.studio import ALL_CLASSES, DRAWN, NO_CLASS, Studio
from latentdiff.app.training_images import TrainingImages
from latentdiff.data import ImageDataset
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.errors import ConfigError, DataError
from latentdiff.inference.inpainting import inpaint
from latentdiff.inference.inversion import interpolate
from latentdiff.inference.noising import forward_process, reconstruct
from latentdiff.report.grids import grid

GREY, COLOUR = "grey", "colour"
USUAL = {"num_images": 4, "steps": 3, "guidance_scale": 1.5, "sampler": "dpmpp_2m", "seed": 7}


def draw(studio, name=GREY, label="Dress", **settings):
    return list(studio.draw(name, label, **{**USUAL, **settings}))


def as_shown(images, columns):
    """The picture of images as the page holds it, pixel for pixel."""
    return grid(images, columns, min_side=1)


@pytest.mark.parametrize(("label", "labels"), [("Dress", "Dress"), (ALL_CLASSES, None), ("T-shirt, top", 2)])
def test_a_seed_draws_what_sample_draws(studio, pictures_in, label, labels):
    moments = draw(studio, label=label)
    model = studio.catalogue.get(GREY).model
    images = model.sample(4, labels=labels, steps=3, guidance_scale=1.5, seed=7)
    assert images.float().std() > 3
    assert torch.equal(studio.kept.get(moments[-1].token).images, images)
    (picture,) = pictures_in(moments[-1].html)
    np.testing.assert_array_equal(picture, as_shown(images, 2))


def test_each_step_is_shown_and_kept(studio, pictures_in):
    moments = draw(studio, COLOUR, None, guidance_scale=1.0)
    assert [(moment.step, moment.steps) for moment in moments] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert ["aria-busy" in moment.html for moment in moments] == [True, True, True, False]
    shown = [pictures_in(moment.html)[0].astype(int) for moment in moments]
    for step, before in enumerate(shown):
        (again,) = pictures_in(studio.step(moments[0].token, step))
        np.testing.assert_array_equal(again, before)
    assert all(
        np.abs(one - other).mean() > 1
        for one, other in pairwise(shown[:-1])  # the last is a PNG, of another size
    )
    assert "pure noise" in moments[0].html
    assert "step 2 of 3" in moments[2].html
    assert 'download="colour-seed-7.png"' in moments[-1].html


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_images": 10}, "from 1 to 9"),
        ({"num_images": 0}, "from 1 to 9"),
        ({"num_images": "many"}, "number of images"),
        ({"num_images": None}, "number of images"),
        ({"steps": 13}, "from 1 to 12"),
        ({"steps": 2.5}, "whole number"),
        ({"seed": -1}, "the seed"),
        ({"seed": 2**40}, "the seed"),
        ({"guidance_scale": math.nan}, "guidance"),
        ({"guidance_scale": math.inf}, "guidance"),
        ({"sampler": "../etc"}, "the sampler"),
        ({"label": "Sandal"}, "no such class"),
        ({"label": ["Dress"]}, "no such class"),
        ({"name": "other"}, "no model of that name"),
        ({"name": {"a": 1}}, "no model of that name"),
        ({"name": COLOUR, "label": None}, "unconditional"),
    ],
)
def test_what_is_beyond_the_limits_is_refused_in_one_line(studio, settings, words):
    with pytest.raises(ConfigError, match=words) as error:
        draw(studio, **settings)
    assert "\n" not in str(error.value)


def test_a_drawing_that_was_stopped_keeps_its_steps(studio):
    drawing = studio.draw(GREY, "Coat", **USUAL)
    first = next(drawing)
    next(drawing)
    drawing.close()
    assert "step 1 of" in studio.step(first.token, 1)
    assert studio.step(first.token, 2) == studio.step(first.token, 1)  # the slider goes on to its end
    with pytest.raises(ConfigError, match="the step"):
        studio.step(first.token, USUAL["steps"] + 1)
    for ask in (studio.nearest, studio.baseline):
        with pytest.raises(ConfigError, match="not finished"):
            ask(first.token)


def test_the_oldest_drawings_are_forgotten():
    kept = KeptDrawings(budget=1000)
    tokens = [kept.add(Drawing("m", 0, 3, "t", frames=["x" * 400])) for _ in range(4)]
    for token in tokens[:2]:
        with pytest.raises(ConfigError, match="draw it again"):
            kept.get(token)
    assert [kept.get(token).seed for token in tokens[2:]] == [0, 0]
    assert len(set(tokens)) == 4
    with pytest.raises(ConfigError):
        kept.get(None)


def test_the_baseline_decodes_noise_of_the_seed(studio, pictures_in):
    token = draw(studio)[-1].token
    codec = studio.catalogue.get(GREY).baseline
    diffusion, decoded = pictures_in(studio.baseline(token))
    images = codec.decode_prior(PerImageNoise(7, range(4), codec.latent_shape)())
    np.testing.assert_array_equal(decoded, as_shown(images, 2))
    assert not np.array_equal(diffusion, decoded)
    assert "trained to compress" in studio.baseline(token)
    token = draw(studio, COLOUR, None, guidance_scale=1.0)[-1].token
    with pytest.raises(ConfigError, match="works on pixels"):
        studio.baseline(token)


@pytest.fixture
def trained_on(studio, monkeypatch):
    """Makes the grey model one that was trained on other data."""

    def set_data(data):
        monkeypatch.setattr(studio.catalogue.get(GREY).model, "provenance", {"config": {"data": data}})

    return set_data


def test_the_nearest_training_images_are_found(studio, pictures_in, trained_on):
    token = draw(studio)[-1].token
    images = studio.kept.get(token).images
    others = torch.randint(0, 256, (50, 1, 10, 10), dtype=torch.uint8)
    train = torch.cat([others, images.flip(0)])
    asked = []

    def load(config, split):
        asked.append((config.name, config.root, split))
        return ImageDataset(train, torch.zeros(54, dtype=torch.int64), "mine", "train", "full", ())

    studio = Studio(studio.config, studio.catalogue, TrainingImages("/somewhere", load))
    token = studio.kept.add(Drawing("grey", 7, 3, "t", images=images))
    trained_on({"name": "folder", "path": "mine"})
    drawn, nearest = pictures_in(studio.nearest(token))
    np.testing.assert_array_equal(nearest, drawn)
    assert "differs by 0 of 255" in studio.nearest(token)
    assert asked == [("folder", "/somewhere", "train")]  # read once


@pytest.mark.parametrize("data", [{}, {"name": "tensors"}, {"name": "celeba"}, {"name": "folder", "path": "nowhere"}])
def test_data_that_is_not_at_hand_is_said_without_asking_a_server(studio, monkeypatch, trained_on, data):
    monkeypatch.setattr("latentdiff.data.download.server_answers", lambda *_: pytest.fail("a server was asked"))
    trained_on(data)
    with pytest.raises(DataError, match=r"not on this machine|does not say"):
        studio.nearest(draw(studio)[-1].token)


def test_images_that_are_still_being_read_are_said(studio, trained_on):
    go = threading.Event()
    images = TrainingImages(load=lambda config, split: go.wait(5))
    trained_on({"name": "folder"})
    with pytest.raises(DataError, match="in a minute"):
        images.of(studio.catalogue.get(GREY).model, patience=0.01)
    go.set()


def test_an_image_is_noised_and_brought_back(studio, pictures_in, png):
    file = png()
    model = studio.catalogue.get(GREY).model
    given = studio.look(GREY, file)
    assert given.shape == (1, 1, 10, 10)
    shown = pictures_in(studio.reconstruct(GREY, file, "Coat", 0.6, 4, 3))
    decoded, noised = forward_process(model, given, (0.0, 0.6), 3)
    again = reconstruct(model, given, (0.6,), 0, steps=4, seed=3)[0]
    for picture, image in zip(shown, (given, decoded, noised, again), strict=True):
        np.testing.assert_array_equal(picture, as_shown(image, 1))
    # On pixels there is nothing to compress.
    assert len(pictures_in(studio.reconstruct(COLOUR, None, None, 0.5, 2, 0))) == 3


@pytest.mark.parametrize("part", ["Right half", DRAWN])
def test_a_part_is_filled_and_the_rest_stays(studio, pictures_in, png, part):
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:, 5:] = True
    painted = {"mask": "".join(str(int(each)) for each in mask.flatten())}
    given, _, filled = pictures_in(studio.fill(GREY, png(), part, painted, NO_CLASS, 2, 3, 1))
    image = torch.from_numpy(given[None, :, :, :1].transpose(0, 3, 1, 2).copy())
    model = studio.catalogue.get(GREY).model
    np.testing.assert_array_equal(filled, as_shown(inpaint(model, image, mask, None, 2, 3, 1), 1))
    np.testing.assert_array_equal(filled[:, :5], given[:, :5])


@pytest.mark.parametrize(
    ("part", "painted"),
    [
        (DRAWN, None),
        (DRAWN, {}),
        (DRAWN, {"mask": ""}),
        (DRAWN, {"mask": "0" * 100}),
        (DRAWN, {"mask": "1" * 99}),
        (DRAWN, {"mask": "2" * 100}),
        (DRAWN, {"mask": [1] * 100}),
        (DRAWN, "1" * 100),
        ("Everything", {"mask": "1" * 100}),
        (None, None),
    ],
)
def test_a_mask_that_is_none_is_refused(studio, part, painted):
    with pytest.raises(ConfigError, match=r"paint|no such part"):
        studio.fill(GREY, None, part, painted, NO_CLASS, 1, 2, 0)


def test_the_way_between_two_images(studio, pictures_in, png):
    file = png()
    shown = pictures_in(studio.between(GREY, file, None, 4, "Coat", 2, 5))
    model = studio.catalogue.get(GREY).model
    ends = studio.look(GREY, file), model.sample(1, labels=0, seed=6, steps=20)
    way = interpolate(model, *ends, 4, 0, 2)[:, 0]
    for picture, image in zip(shown, (*way[:, None], *ends), strict=True):
        np.testing.assert_array_equal(picture, as_shown(image, 1))
    with pytest.raises(ConfigError, match="from 3 to 12"):
        studio.between(GREY, file, None, 13, "Coat", 2, 5)


def test_without_class_dropout_an_image_needs_a_class(studio):
    assert studio.classes_of_image(GREY) == [NO_CLASS, "Coat", "Dress", "T-shirt, top"]
    assert studio.classes(COLOUR) == []
    model = studio.catalogue.get(GREY).model
    before = model.diffusion
    model.diffusion = replace(before, class_dropout=0.0)
    try:
        assert studio.classes_of_image(GREY) == ["Coat", "Dress", "T-shirt, top"]
        with pytest.raises(ConfigError, match="no such class"):
            studio.reconstruct(GREY, None, NO_CLASS, 0.5, 2, 0)
    finally:
        model.diffusion = before
