"""Data sets by name, and the resident loader. Knows no model."""

from latentdiff.data.door import has_split, load_data
from latentdiff.data.image_set import DataError, ImageSet
from latentdiff.data.resident import Batches

__all__ = ["Batches", "DataError", "ImageSet", "has_split", "load_data"]
