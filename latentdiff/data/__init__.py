"""Data sets by name, and the resident loader. Knows no model."""

from latentdiff.data.dataset import ImageSet
from latentdiff.data.load import NoSplitError, array_shapes, load_data, load_held_out, load_test, open_files
from latentdiff.data.loader import Batches
from latentdiff.errors import DataError

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
