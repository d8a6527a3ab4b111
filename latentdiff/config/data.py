"""Which images a run takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentdiff.config.base import Settings


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """Which images.

    Args:
        name: The data set. ``folder`` is a directory or zip of one's own images, ``mixed`` several data sets as one.
            ``tensors`` are images in memory, which only Python can give, to ``load_dataset``.
        root: Folder that holds it in torchvision's layout, or where it is downloaded to. Default: the environment
            variable LATENTDIFF_DATA, else ``data``.
        path: A directory or zip of images: of a ``folder``, or of CelebA or the pets where they lie elsewhere. Of a
            ``mix`` with a folder it is the folder's.
        source: Of Fashion-MNIST: ``full`` needs the whole set, ``embedded`` takes the slice inside the package (10,000
            training and 2,000 test images), ``auto`` takes the whole set where it is present or can be downloaded,
            else the slice.
        size: Side of the squares that images become. Default: 28 or 32 where that is what they are, else 64.
        colour: ``rgb``, ``grey``, or ``auto``: as they are (files: RGB).
        crop: What is cut from the shorter side's square: the ``center``, or a ``random`` place by (seed, file).
        hflip: Mirror training images at random. Right for photographs, wrong for shoes that all point left.
        split: ``official`` is that of the data set's authors, ``fractions`` pools all images; ``default`` is the
            official one where there is one, but pools Flowers-102, whose own training split has 1,020 images.
        fractions: Shares of training, validation and test images, the same in every class; refused where the official
            split is taken.
        split_seed: Seed of the split, of random crops and of ``max_train_images``.
        max_train_images: Train on no more than this many images.
        classes: ``labels``, ``none``, an attribute of CelebA (such as ``Smiling``), or a column of ``table``.
        table: Of a ``folder``: a CSV with a header, file names in its first column and classes in its second. Without
            one the sub-folders are the classes.
        mix: The data sets of ``mixed``.
        mix_share: ``balanced`` takes as many images of each as the smallest has, ``proportional`` all.
        on_bad_image: Files that cannot be used are listed by name: as an error, or as a note while they are left out
            (``skip``).
        cache_folder: Where decoded images are kept.
    """

    name: Literal[
        "fashion-mnist", "mnist", "cifar-10", "flowers-102", "celeba", "oxford-iiit-pet", "folder", "mixed", "tensors"
    ] = "fashion-mnist"
    root: str | None = None
    path: str | None = None
    source: Literal["auto", "full", "embedded"] = "auto"
    size: int | None = None
    colour: Literal["auto", "rgb", "grey"] = "auto"
    crop: Literal["center", "random"] = "center"
    hflip: bool = False
    split: Literal["default", "official", "fractions"] = "default"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    max_train_images: int | None = None
    classes: str = "labels"
    table: str | None = None
    mix: tuple[str, ...] = ()
    mix_share: Literal["balanced", "proportional"] = "balanced"
    on_bad_image: Literal["error", "skip"] = "error"
    cache_folder: str = "stages/data"
