"""What can go wrong, as exceptions. Each message says in one to three lines what was wrong, where, and what to do."""

from __future__ import annotations


class LatentdiffError(Exception):
    """Base of every error that a user can mend. The command line prints it without a traceback."""


class ConfigError(LatentdiffError, ValueError):
    """A setting or an argument cannot be used. It is also a ValueError."""


class DataError(LatentdiffError):
    """A data set is missing or damaged."""


class CheckpointError(LatentdiffError):
    """A model file is missing, damaged or of another kind than the one that was asked for."""


class FolderError(LatentdiffError):
    """A run folder cannot be used as asked."""


class ReportError(LatentdiffError):
    """An evaluation cannot be read, or several cannot be compared."""


class DivergenceError(LatentdiffError, FloatingPointError):
    """Numbers that were computed are NaN or infinite. It is also a FloatingPointError."""


class StageError(LatentdiffError):
    """A stage that ran as a process of its own ended with an error, which it has printed."""
