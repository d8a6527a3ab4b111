from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.data import duplicates
from latentdiff.data.duplicates import digest_files, find_duplicates, thumbnails
from latentdiff.data.files import open_files


def picture(seed, size=64):
    """A smooth random picture: like a photograph, most of its contrast is coarse."""
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return noise.resize((size, size), Image.Resampling.BICUBIC)


def recoded(image, quality=75):
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality)
    return Image.open(buffer).convert("RGB")


def stack(images):
    return torch.from_numpy(np.stack([np.asarray(image).transpose(2, 0, 1) for image in images]))


def places(found, kind):
    return [(pair.first, pair.second) for pair in found.pairs if pair.kind == kind]


def mirrored(image):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def test_planted_duplicates_are_found_and_nothing_else():
    train = [picture(seed) for seed in range(30)]
    test = [picture(99), picture(3), recoded(picture(7)), recoded(mirrored(picture(12))), picture(98)]
    found = find_duplicates([stack(train), stack(test)], None, 0.1)
    assert places(found, "pixels") == [(3, 31)]
    assert {(pair.first, pair.second, pair.mirrored) for pair in found.pairs if pair.kind == "near"} == {
        (7, 32, False),
        (12, 33, True),
    }
    assert found.counts["near"] == {(0, 1): 2}
    assert found.counts["pixels"] == {(0, 1): 1}
    assert (found.total("file"), found.mirrored) == (0, 1)
    exact = find_duplicates([stack(train), stack(test)], None, 0.0)
    assert [pair.kind for pair in exact.pairs] == ["pixels"]


def test_brightness_and_contrast_do_not_hide_a_duplicate():
    image = np.asarray(picture(1)).astype(np.float64)
    paler = Image.fromarray((image * 0.5 + 90).astype(np.uint8))
    assert places(find_duplicates([stack([picture(1), picture(2), paler])], None, 0.1), "near") == [(0, 2)]


def test_distances_and_counts_agree_with_all_pairs_by_hand(monkeypatch):
    """Small blocks, so that pairs lie within and across them; the thumbnails compared one pair at a time."""
    monkeypatch.setattr(duplicates, "ROWS", 4)
    monkeypatch.setattr(duplicates, "COLUMNS", 8)
    images = torch.randint(0, 256, (23, 1, 6, 6), dtype=torch.uint8)
    threshold = 1.25
    small = thumbnails(images).numpy().astype(np.float64)
    expected = {}
    for a in range(23):
        for b in range(a + 1, 23):
            views = (small[b], small[b][:, ::-1])
            expected[a, b] = min(np.sqrt(np.mean((small[a] - view) ** 2)) for view in views)
    expected = {pair: distance for pair, distance in expected.items() if distance < threshold}
    found = find_duplicates([images[:10], images[10:]], None, threshold, listed=1000)
    assert len(expected) > 20
    assert {(pair.first, pair.second): pair.distance for pair in found.pairs} == pytest.approx(expected, abs=1e-4)
    assert found.counts["near"] == {
        (0, 0): sum(b < 10 for _, b in expected),
        (0, 1): sum(a < 10 <= b for a, b in expected),
        (1, 1): sum(a >= 10 for a, _ in expected),
    }
    few = find_duplicates([images[:10], images[10:]], None, threshold, listed=5)
    assert few.counts == found.counts
    assert few.pairs == found.pairs[:5]
    distances = [pair.distance for pair in found.pairs]
    assert distances == sorted(distances)


def test_each_pair_counts_once_under_the_strongest_kind():
    """Three equal squares, two of them of one file, and a group that would be millions of pairs."""
    one, other = picture(0), picture(1)
    digests = [b"a", b"a", None, None]
    found = find_duplicates([stack([one, one]), stack([one, other])], digests, 0.1)
    assert places(found, "file") == [(0, 1)]
    assert places(found, "pixels") == [(0, 2), (1, 2)]
    assert places(found, "near") == []
    assert found.counts["file"] == {(0, 0): 1}
    assert found.counts["pixels"] == {(0, 1): 2}
    many = torch.randint(0, 256, (1, 1, 8, 8), dtype=torch.uint8).expand(3000, 1, 8, 8)
    found = find_duplicates([many[:1000], many[1000:]], None, 0.1, listed=7)
    assert found.counts["pixels"] == {(0, 0): 499_500, (0, 1): 2_000_000, (1, 1): 1_999_000}
    assert len(found.pairs) == 7
    assert found.total("near") == 0


def test_a_file_that_is_there_twice_is_no_near_pair_though_its_random_crops_differ():
    noise = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    near = torch.cat([noise, noise[:1] // 2 * 2])
    assert find_duplicates([near], [b"a", None, b"a"], 0.1).counts == {"file": {(0, 0): 1}, "pixels": {}, "near": {}}


def test_flat_images_are_near_nothing():
    flat = torch.tensor([10, 10, 200], dtype=torch.uint8)[:, None, None, None].expand(3, 1, 16, 16)
    found = find_duplicates([flat], None, 0.1)
    assert (found.flat, found.total("pixels"), found.total("near")) == (3, 1, 0)


def test_files_are_digested_where_a_size_occurs_twice(tmp_path, monkeypatch):
    for name, content in {"a.png": b"11", "b.png": b"22", "c.png": b"11", "d.png": b"333"}.items():
        (tmp_path / name).write_bytes(content)
    files = open_files(tmp_path)
    read = []
    monkeypatch.setattr(type(files), "read", lambda self, name: read.append(name) or (tmp_path / name).read_bytes())
    digests = digest_files(files, ["a.png", "b.png", "", "c.png", "d.png"])
    assert digests[0] == digests[3] != digests[1]
    assert (digests[2], digests[4], read) == (None, None, ["a.png", "b.png", "c.png"])


def test_thumbnails_are_standardised():
    small = thumbnails(stack([picture(seed) for seed in range(3)]))
    assert small.shape == (3, 16, 16)
    assert torch.allclose(small.mean((1, 2)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(small.std((1, 2), correction=0), torch.ones(3), atol=1e-5)
    assert thumbnails(torch.zeros(2, 3, 5, 5, dtype=torch.uint8)).shape == (2, 5, 5)
