"""Data sets by name, and the resident loader. Knows no model."""

from latentdiff.data.door import NoSplitError, array_shapes, load_data, load_held_out, load_test, open_files
from latentdiff.data.image_set import DataError, ImageSet
from latentdiff.data.resident import Batches

__all__ = [
    "Batches",
    "DataError",
    "ImageSet",
    "NoSplitError",
    "array_shapes",
    "load_data",
    "load_held_out",
    "load_test",
    "open_files",
]
