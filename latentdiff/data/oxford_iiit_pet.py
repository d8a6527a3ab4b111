"""Oxford-IIIT Pet (Parkhi et al. 2012): torchvision's layout, or any directory or zip of its images."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch
from torchvision.datasets import OxfordIIITPet

from latentdiff.config import DataConfig
from latentdiff.data.dataset import Split
from latentdiff.data.download import download
from latentdiff.data.file_list import FileList, encode_classes
from latentdiff.data.files import open_files
from latentdiff.errors import DataError

FOLDER = Path("oxford-iiit-pet")
TAKES_PATH = True
SPLITS = {"train": "trainval.txt", "test": "test.txt"}


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images of the 37 breeds, which the files' names tell (``Abyssinian_12.jpg``).

    The official splits come from the annotations beside the images, where these are.

    Args:
        root: The folder of all data sets.
        config: Its ``path`` is the folder of the data set, or its ``images``. Default: torchvision's place under
            ``root``, or a download.
        split: Not used: the list holds the images of all splits.

    Raises :class:`DataError`.
    """
    folder = Path(config.path).expanduser() if config.path else root / FOLDER
    if config.path is None and not folder.is_dir() and not _fetch(root):
        raise DataError(
            f"the pets are not under {folder} and could not be downloaded. Put images/ (and annotations/) there, or "
            "name a directory or zip of the images with --data.path."
        )
    images = folder / "images" if (folder / "images").is_dir() else folder
    beside = images.parent if images.name == "images" else folder
    source = open_files(images)
    stems = [PurePosixPath(name).stem for name in source.images]
    breeds = [stem.rpartition("_")[0] for stem in stems]
    nameless = next((name for name, breed in zip(source.images, breeds, strict=True) if not breed), None)
    if nameless:
        raise DataError(f"{images / nameless} does not say its breed: the pets' files are named like Abyssinian_12.jpg")
    labels, class_names = encode_classes(breeds)
    number = {stem: index for index, stem in enumerate(stems)}
    official = {}
    for official_split, name in SPLITS.items():
        table = beside / "annotations" / name
        if table.is_file():
            wanted = [line.split()[0] for line in table.read_text().splitlines() if line.strip() and line[0] != "#"]
            missing = [stem for stem in wanted if stem not in number]
            if missing:
                raise DataError(f"{table} names {missing[0]}, which is not in {images} ({len(missing):,} are not)")
            official[official_split] = torch.tensor(sorted(number[stem] for stem in wanted), dtype=torch.int64)
    return FileList("oxford-iiit-pet", source, source.images, labels, class_names, official)


def _fetch(root: Path) -> bool:
    """Download the set through torchvision. Returns False where no server answers."""
    url = OxfordIIITPet._RESOURCES[1][0]
    return download("the Oxford-IIIT pets", root, FOLDER, [url], lambda folder: OxfordIIITPet(folder, download=True))
