"""Data sets by name, and the resident loader. Knows no model."""

from latentdiff.data.image_set import DataError, ImageSet, load_data
from latentdiff.data.resident import Batches

__all__ = ["Batches", "DataError", "ImageSet", "load_data"]
