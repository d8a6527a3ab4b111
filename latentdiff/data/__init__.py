"""Data sets by name, from folders and from memory; the resident loader. Knows no model."""

from latentdiff.data.dataset import ImageDataset
from latentdiff.data.dataset_splits import DatasetSplits, load_dataset
from latentdiff.data.load import NoSplitError, array_shapes, load_split, open_files
from latentdiff.data.loader import Batches

__all__ = [
    "Batches",
    "DatasetSplits",
    "ImageDataset",
    "NoSplitError",
    "array_shapes",
    "load_dataset",
    "load_split",
    "open_files",
]
