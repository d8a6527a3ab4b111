from __future__ import annotations

import pytest

from latentdiff.data.identity import differences

RECORD = {
    "fingerprint": "a",
    "class_names": ["cat"],
    "class_counts": [4],
    "images": 4,
    "image_shape": [3, 32, 32],
    "split_description": None,
}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({}, "some images have different pixels, or a different order"),
        ({"image_shape": [1, 28, 32]}, "images are 1x28x32 now, and were 3x32x32"),
        (
            {"split_description": "split 8/1/1"},
            "the images were split differently (the official split, now split 8/1/1)",
        ),
    ],
)
def test_what_distinguishes_two_records_is_said(now, words):
    assert differences(RECORD, RECORD) == []
    assert differences(RECORD, {**RECORD, "fingerprint": "b", **now}, [], []) == [words]
