"""Which images stand for a data set where not all are measured."""

from __future__ import annotations

import torch

from latentdiff.data.dataset import ImageDataset
from latentdiff.evaluation.reference_subset import representative


def sorted_by_class(num_classes: int) -> ImageDataset:
    """Ninety images in the order of their classes, as files in folders are; each image is its own number."""
    images = torch.arange(90, dtype=torch.uint8).reshape(90, 1, 1, 1)
    names = tuple("abc"[:num_classes])
    return ImageDataset(images, torch.arange(90) * max(1, num_classes) // 90, "sorted", "val", "memory", names)


def test_a_few_images_are_of_all_classes_though_files_are_sorted_by_class():
    few = representative(sorted_by_class(3), 30)
    assert few.labels.bincount().tolist() == [10, 10, 10]
    assert few.images.flatten().tolist() == sorted(few.images.flatten().tolist())
    assert set(representative(sorted_by_class(3), 12).images.flatten().tolist()) < set(few.images.flatten().tolist())


def test_without_classes_they_are_drawn_from_everywhere_and_all_are_all():
    data = sorted_by_class(0)
    few = representative(data, 30).images.flatten().tolist()
    assert len(set(few)) == 30
    assert min(few) < 15
    assert max(few) > 75
    assert representative(data, 90) is data
    assert len(representative(data, 0)) == 0
