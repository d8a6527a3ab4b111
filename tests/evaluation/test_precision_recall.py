from __future__ import annotations

import pytest
import torch

from latentdiff.evaluation import precision_recall as manifold
from latentdiff.evaluation.precision_recall import Manifold, memorisation, nearest_distances, precision_recall


def normal(n, d, seed, scale=1.0, shift=0.0):
    return shift + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [7, 1000])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.0), (1.5, 0.3), (1.0, 5.0)])
def test_precision_and_recall_are_torch_fidelitys(monkeypatch, rows, scale, shift):
    from torch_fidelity.metric_prc import prc_features_to_metric

    monkeypatch.setattr(manifold, "ROWS", rows)
    samples, real = normal(90, 6, 0, scale, shift), normal(120, 6, 1)
    ours = precision_recall(Manifold(samples), Manifold(real))
    settings = {"prc_neighborhood": 3, "prc_batch_size": 50, "save_cpu_ram": False, "verbose": False}
    theirs = prc_features_to_metric(samples, real, **settings)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=1e-6)


def test_density_and_coverage_by_counting():
    samples, real = normal(60, 3, 2), normal(80, 3, 3)
    distances = torch.cdist(samples, real)
    radii = torch.tensor([sorted(row.tolist())[5] for row in torch.cdist(real, real)])
    inside = torch.tensor([[float(distances[i, j]) <= float(radii[j]) for j in range(80)] for i in range(60)])
    ours = precision_recall(Manifold(samples), Manifold(real))
    assert ours["density"] == pytest.approx(float(inside.sum()) / 300)
    assert ours["coverage"] == pytest.approx(float(inside.any(0).double().mean()))


def test_the_four_say_what_they_are_for():
    real = Manifold(normal(400, 4, 0))
    same = precision_recall(Manifold(normal(400, 4, 1)), real)
    collapsed = precision_recall(Manifold(normal(400, 4, 2, 0.05)), real)
    far = precision_recall(Manifold(normal(400, 4, 3, shift=20.0)), real)
    assert min(same.values()) > 0.8
    assert collapsed["precision"] > 0.95 > 0.1 > collapsed["recall"]
    assert collapsed["coverage"] < 0.2
    assert max(far.values()) == 0.0


def test_repeated_training_images_are_seen():
    train, test, new = (normal(500, 8, seed) for seed in (0, 1, 2))
    honest = memorisation(new, train, test)
    copying = memorisation(torch.cat([new[:250], train[:250] + 0.01]), train, test)
    assert honest["share_closer"] < 0.05
    assert 0.5 <= copying["share_closer"] < 0.55
    assert honest["median"] == pytest.approx(honest["test_median"], rel=0.1)
    distances, which = nearest_distances(train[10:20], train)
    assert which.tolist() == list(range(10, 20))
    assert float(distances.max()) < 1e-2


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="more than 5"):
        Manifold(normal(5, 3, 0))


def test_plain_copies_are_told_from_new_images_pixel_by_pixel():
    from latentdiff.evaluation.precision_recall import nearest_by_pixels, pixel_memorisation

    generator = torch.Generator().manual_seed(0)
    train, test, new = (
        torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8, generator=generator) for n in (5000, 200, 100)
    )
    difference, which = nearest_by_pixels(train[[4999, 7]] // 2 * 2, train)  # the last bit apart, in the last piece
    assert difference.max() < 1.0
    assert which.tolist() == [4999, 7]
    found, differences, nearest_distances = pixel_memorisation(new, train, test)
    expected = (new[0].float() - train[nearest_distances[0]].float()).square().mean().sqrt()
    assert differences[0] == pytest.approx(float(expected), rel=1e-4)
    assert (found["copied"], found["train_images"]) == (0.0, 5000)
    assert found["median"] == pytest.approx(found["test_median"], rel=0.05)
    half = torch.cat([new[:50], train[-50:]])
    found, *_ = pixel_memorisation(half, train, test)
    assert found["copied"] == 0.5
    assert found["least"] == pytest.approx(0.0, abs=0.1)
    near = torch.tensor([4, 5], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 6, 6)
    found, *_ = pixel_memorisation(near, torch.zeros_like(near), test)
    assert (found["least"], found["copied"]) == (4.0, 0.5)  # 5 grey levels off is no copy any more


def test_copies_that_went_through_a_codec_are_told_by_what_it_makes_of_the_training_images():
    generator = torch.Generator().manual_seed(0)
    train, test, new = (
        torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8, generator=generator) for n in (3000, 200, 60)
    )

    def reconstruct(images):
        return (images // 2 + 40).to(torch.uint8)  # flat and brighter: 31 grey levels off

    samples = torch.cat([reconstruct(train[-40:]), reconstruct(new)])
    blind, *_ = manifold.pixel_memorisation(samples, train, test)
    assert blind["copied"] == 0.0
    found, *_ = manifold.pixel_memorisation(samples, train, test, reconstruct)
    assert 0.36 < found["copied"] <= 0.4  # the nearest of a flattened image may be another than its own
    assert found["least"] == 0.0


@pytest.mark.parametrize("coded", [False, True])
def test_copies_of_mirrored_training_images_are_found_where_these_were_trained_on(coded):
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8, generator=generator) for n in (500, 100))

    def reconstruct(images):
        return (images // 4 * 3 + 8 * torch.arange(6)).clamp(0, 255).to(torch.uint8)  # which is no mirror's

    decode = reconstruct if coded else None
    copies = train[:20].flip(-1) if decode is None else reconstruct(train[:20].flip(-1))
    assert manifold.pixel_memorisation(copies, train, test, decode)[0]["copied"] == 0.0
    found, *_ = manifold.pixel_memorisation(copies, train, test, decode, mirrored=True)
    assert found["copied"] == 1.0
