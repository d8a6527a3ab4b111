from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from latentdiff.data.splits import (
    digest_pixels,
    draw_by_content,
    seed_without_empty_split,
    split_by_content,
    split_indices,
)

# The second letters of train, val and test of forty images: r, a, e.
PINNED = "rerrrraeerraeaaeereerrrrrraeaeerarrreaea"


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.8, 0.2, 0.0), (1.0, 0.0, 0.0)])
def test_splits_are_balanced_disjoint_and_seeded(fractions):
    labels = torch.randint(0, 7, (1003,), generator=torch.Generator().manual_seed(0))
    splits = split_indices(labels, fractions, seed=3)
    together = torch.cat(list(splits.values()))
    assert together.sort().values.tolist() == list(range(1003))
    totals = torch.bincount(labels, minlength=7)
    for share, indices in zip(fractions, splits.values(), strict=True):
        assert (torch.bincount(labels[indices], minlength=7) - share * totals).abs().max() <= 2
        assert abs(len(indices) - share * 1003) <= 1
    again, other = (split_indices(labels, fractions, seed) for seed in (3, 4))
    assert torch.equal(splits["train"], again["train"])
    if fractions[0] < 1:
        assert not torch.equal(splits["train"], other["train"])


def test_a_class_the_rounding_would_forget_is_made_up_for():
    splits = split_indices(torch.arange(100), (0.8, 0.1, 0.1), seed=0)
    assert [len(indices) for indices in splits.values()] == [80, 10, 10]


def test_other_fractions_are_refused():
    for fractions in ((0.5, 0.5, 0.5), (1.1, -0.1, 0.0), (0.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="sum to 1"):
            split_indices(torch.zeros(10, dtype=torch.int64), fractions, 0)


def splits_digest(labels, fractions, seed):
    together = torch.cat([*split_indices(labels, fractions, seed).values()])
    return hashlib.sha256(together.numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("images", "classes", "digests"),
    [
        (8_189, 102, ("ddd932326fcd5563", "12b6706357d0eb25")),
        (70_000, 10, ("cd7fc969d73ad9e6", "3e81172f05c8a344")),
        (60_000, 10, ("f6603a6a731dd718", "19f9712ee8598212")),
        (10_000, 40, ("9459dd8ebf9a10df", "af4c360ed4ad41d0")),
        (7_349, 37, ("93ad77771ebfc1b1", "c4bf1f0f13d5ff46")),
    ],
)
def test_the_splits_of_released_data_sets_never_change(images, classes, digests):
    """Models were released that are measured on these test images. Sizes of released sets, labels made up."""
    labels = (torch.arange(images) * 7919) % classes
    assert splits_digest(labels, (0.8, 0.1, 0.1), 0) == digests[0]
    assert splits_digest(labels, (0.5, 0.25, 0.25), 3) == digests[1]


# by content


def contents(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**62), 2**62, (count,), generator=generator)


def split_of(content, fractions, seed):
    """The split of each image by its content."""
    return {
        int(content[index]): name
        for name, indices in split_by_content(content, fractions, seed).items()
        for index in indices
    }


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.8, 0.2, 0.0)])
def test_an_image_more_or_less_moves_no_other(count, fractions):
    for seed in range(20):
        content = contents(count + 1, seed)
        before = split_of(content[:-1], fractions, seed)
        after = split_of(content[torch.randperm(count + 1)], fractions, seed)
        assert len(after) == count + 1
        assert before.items() <= after.items()


def test_splits_by_content_are_disjoint_seeded_and_of_their_shares():
    content = contents(10_000)
    splits = split_by_content(content, (0.7, 0.2, 0.1), 0)
    assert torch.cat([*splits.values()]).sort().values.tolist() == list(range(10_000))
    # Four standard deviations of a draw.
    for share, indices in zip((0.7, 0.2, 0.1), splits.values(), strict=True):
        assert abs(len(indices) - 10_000 * share) < 4 * (10_000 * share * (1 - share)) ** 0.5
        assert (indices.diff() > 0).all()
    # Another seed is another draw: a tenth of the test images are test images again.
    other = split_by_content(content, (0.7, 0.2, 0.1), 1)
    again = len(set(splits["test"].tolist()) & set(other["test"].tolist()))
    assert 60 < again < 140
    assert [len(part) for part in split_by_content(content, (1.0, 0.0, 0.0), 5).values()] == [10_000, 0, 0]
    assert [len(part) for part in split_by_content(contents(1), (0.8, 0.1, 0.1), 0).values()] == [1, 0, 0]


def test_consecutive_digests_are_no_pattern():
    sizes = [len(part) for part in split_by_content(torch.arange(10_000), (0.8, 0.1, 0.1), 0).values()]
    assert abs(sizes[1] - 1000) < 120
    assert abs(sizes[2] - 1000) < 120


def test_larger_test_fractions_take_no_validation_images():
    content = contents(1000)
    small, large = (split_by_content(content, fractions, 0) for fractions in ((0.8, 0.1, 0.1), (0.6, 0.2, 0.2)))
    for split in ("val", "test"):
        assert set(small[split].tolist()) < set(large[split].tolist())


def test_splits_by_content_stay_as_they_are():
    """A user's models were trained on these images."""
    place = split_of(torch.arange(40), (0.5, 0.25, 0.25), 7)
    assert "".join(place[index][1] for index in range(40)) == PINNED


def test_a_draw_of_some_images_loses_at_most_one_to_a_new_one():
    for seed in range(20):
        content = contents(101, seed)
        before, after = (set(content[draw_by_content(content[:n], 30, seed)].tolist()) for n in (100, 101))
        assert len(before) == len(after) == 30
        assert len(before - after) <= 1
    # It is no part of the draw of the split.
    content = contents(10_000)
    drawn = set(draw_by_content(content, 1000, 0).tolist())
    assert 60 < len(drawn & set(split_by_content(content, (0.8, 0.1, 0.1), 0)["test"].tolist())) < 140


def test_the_first_seed_without_an_empty_split_is_found():
    content = contents(6)
    seed = seed_without_empty_split(content, (0.8, 0.1, 0.1))
    assert all(len(part) for part in split_by_content(content, (0.8, 0.1, 0.1), seed).values())
    assert seed_without_empty_split(contents(2), (0.8, 0.1, 0.1)) is None
    assert seed_without_empty_split(torch.zeros(20, dtype=torch.int64), (0.8, 0.1, 0.1)) is None


def test_equal_pixels_have_equal_digests_and_other_shapes_have_others():
    images = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    one, other = digest_pixels(images).tolist()
    assert one != other
    assert digest_pixels([images[0].copy(), np.asfortranarray(images[0])]).tolist() == [one, one]
    assert digest_pixels([images[0].reshape(1, 2, 8)]).tolist() != [one]
