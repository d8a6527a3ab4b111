"""The images that an interrupted sampling left: which of them are whole, and whether they are this model's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdiff.errors import FolderError
from latentdiff.files import file_sha256, write_atomically

FOLDER = "images"
# What the images depend on beside the settings, which are in config.yaml.
RECORD = "sampling.json"


def image_path(folder: Path, index: int) -> Path:
    """The PNG of image ``index`` in a run's folder."""
    return folder / FOLDER / f"{index:06d}.png"


def check_record(folder: Path, model: Path, guide: Path | None, keep: bool = True) -> None:
    """Check that ``folder``'s images were made by the same files (model, guide), or record these for new images.

    Args:
        folder: The run's.
        model: The model's file.
        guide: The guide's file, if there is one.
        keep: Whether to record them.

    Raises :class:`~latentdiff.errors.FolderError` if the files differ, or if the record is damaged or missing.
    """
    now = {"model": file_sha256(model), "guide": file_sha256(guide) if guide else None}
    path = folder / RECORD
    try:
        before = json.loads(path.read_text()) if path.is_file() else None
    except ValueError:
        before = {}
    if before is None and not (folder / FOLDER).is_dir():
        if keep:
            write_atomically(path, lambda file: file.write_text(json.dumps(now, indent=1)))
    elif before != now:
        what = "another model, or with another guide" if before else "an unknown model"
        raise FolderError(f"{folder} holds images of {what}: start anew with --run.overwrite, or name another folder")


def read_whole(path: Path, shape: tuple[int, int, int]) -> Tensor | None:
    """The image in a PNG, uint8 [c, h, w]; None where there is none, or not a whole one of this shape."""
    channels, height, width = shape
    wanted = ("PNG", "L" if channels == 1 else "RGB", (width, height))
    try:
        with Image.open(path) as picture:
            if (picture.format, picture.mode, picture.size) != wanted:
                return None
            picture.verify()  # checksums, to the last chunk: a decoder is content with less
        with Image.open(path) as picture:
            array = np.array(picture)
    except Exception:  # whatever is in it
        return None
    return torch.from_numpy(array.reshape(height, width, channels)).permute(2, 0, 1)


def missing_batches(own: range, batch_size: int, missing: Iterable[int]) -> Iterator[range]:
    """The parts of ``own`` that must be drawn: whole batches, as they would be without an interruption.

    So an image is drawn in the same batch as without an interruption. Consecutive batches are one part.

    Args:
        own: This process's images.
        batch_size: Images in a batch; the first begins where ``own`` does.
        missing: Images of ``own`` that are not there.
    """
    starts = sorted({index - (index - own.start) % batch_size for index in missing})
    part: range | None = None
    for start in starts:
        stop = min(start + batch_size, own.stop)
        if part is not None and part.stop == start:
            part = range(part.start, stop)
            continue
        if part is not None:
            yield part
        part = range(start, stop)
    if part is not None:
        yield part
