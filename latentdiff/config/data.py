"""Settings of the data set."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from latentdiff.config.base import Settings, to_dict
from latentdiff.config.ranges import Fraction, HeldImages, HubText, PathSetting, Range, Seed

DatasetName = Literal[
    "fashion-mnist",
    "fashion-mnist-coloured",
    "mnist",
    "cifar-10",
    "flowers-102",
    "celeba",
    "oxford-iiit-pet",
    "imagenet-64",
    "folder",
    "parquet",
    "datasets",
    "webdataset",
    "mixed",
    "tensors",
]
HubName = Annotated[str, HubText()]


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """The data set and its split.

    Args:
        name: The data set. ``fashion-mnist-coloured`` is Fashion-MNIST in six colours, whose training images leave out
            ten pairs of class and colour. ``folder`` is a directory or zip of one's own images. ``parquet`` is one or
            several Parquet files. ``datasets`` is a folder that ``save_to_disk`` of Hugging Face's datasets wrote.
            ``webdataset`` is one or several tars. ``hf:ID`` is a data set of the Hugging Face Hub, ``hf:ID/CONFIG`` one
            of its configurations; a suffix @REVISION selects a version. ``mixed`` joins several data sets. ``tensors``
            are images in memory, which only Python can pass, to ``load_dataset``.
        root: The folder of all data sets, each in torchvision's layout. A data set that is missing is downloaded there.
            Default: the environment variable LATENTDIFF_DATA, else ``data``.
        path: Where the images are. For ``folder``, a directory or zip. For ``parquet`` and ``webdataset``, a file, a
            directory, or several files, as in ``shards/*.tar`` or ``shards/{000..012}.tar``. For ``datasets``, the
            folder. For CelebA, the pets and ImageNet, a directory (or a zip, except for ImageNet) outside of ``root``.
            In a mix with ``folder``, the path of ``folder``.
        source: For Fashion-MNIST: ``full`` needs the full set, ``embedded`` takes the slice inside the package (10,000
            training and 2,000 test images), ``auto`` takes the full set where it is present or can be downloaded, else
            the slice.
        size: Side in pixels of the squares that images become. Default: images that come as arrays keep their size
            (28, or 32 for CIFAR-10); files become 64 (CIFAR-10: 32).
        colour: ``rgb``, ``grey``, or ``auto``: images that come as arrays keep their colours, and files become RGB.
        crop: Where the square is cut from an image: at the ``center``, or at a ``random`` place that depends only on
            ``split_seed`` and the file name.
        hflip: Train on mirrored images too. This suits photographs, but not images with a fixed direction, such as
            shoes that all point left.
        split: ``official`` is the split of the data set's authors. ``fractions`` splits all images together.
            ``default`` is the official split where there is one, but ``fractions`` for Flowers-102, whose official
            training split has only 1,020 images.
        fractions: Fractions of training, validation and test images. In a named data set, they hold in every class (in
            CelebA on average, so that ``classes`` moves no image to another split). An image of ``folder`` is assigned
            by its own content. So adding an image moves no other, and the fractions hold on average. They cannot be set
            with the official split.
        split_seed: Seed of the split, of ``val_images``, of random crops and of ``max_train_images``.
        val_images: Number of official training images to set apart for validation, equally many of each class. This is
            for data sets that come as arrays without a validation split: MNIST, Fashion-MNIST, CIFAR-10.
        max_train_images: Train on no more than this many images.
        classes: Source of the classes: ``labels`` (the data set's own), ``none``, an attribute of CelebA (such as
            ``Smiling``), a column of ``table`` or of a ``parquet``, ``datasets`` or ``hf:ID``, or a field of a
            ``webdataset``, such as ``cls`` or ``json.label``.
        image_column: The column of the images in a ``parquet``, ``datasets`` or ``hf:ID``, or the field in a
            ``webdataset``, such as ``jpg``. Default: it is found by its type and name.
        table: For ``folder``: a CSV with a header, with file names in its first column and classes in its second.
            Default: the sub-folders are the classes.
        captions: Captions, for a network with a text encoder (``network.text``). A template such as ``a photo of a
            {class}``; a column of ``table``, or of a ``parquet``, ``datasets`` or ``hf:ID``; a field of a
            ``webdataset``, such as ``json.caption``; ``rule`` for Fashion-MNIST: class, dark or light, long or short,
            plain or patterned, measured in the image; ``none``. ``auto`` takes the captions of a data set that has its
            own: ``fashion-mnist-coloured`` ("a red dress"), and a ``webdataset`` with ``.txt``.
        mix: The data sets of ``mixed``.
        mix_share: ``balanced`` takes as many images of each data set as the smallest has, ``proportional`` takes all.
        value_range: The values that become black and white, for images of floats or of more than 8 bits per channel:
            ``LOW,HIGH``, such as ``0,4095``, the same for all images. For a negative number, write
            ``--data.value_range=-1,1``. ``auto`` takes the full range of integers, and 0 to 1 for floats. It refuses
            images with values beyond this range, and images that use less than an eighth of it. 8-bit images stay as
            they are.
        max_image_pixels: Largest number of pixels of an image. An image with more cannot be used; its header is checked
            before it is decoded.
        max_file_size: Largest size of a file in bytes. A larger file, or an entry of a zip that is larger when
            unpacked, cannot be used.
        on_bad_image: What happens to files that cannot be used. ``error`` lists them and stops, ``skip`` lists them and
            leaves them out.
        cache_folder: Folder where decoded images are kept.
    """

    name: DatasetName | HubName = "fashion-mnist"
    root: PathSetting | None = None
    path: PathSetting | None = None
    source: Literal["auto", "full", "embedded"] = "auto"
    size: Annotated[int, Range(4, 4096)] | None = None
    colour: Literal["auto", "rgb", "grey"] = "auto"
    crop: Literal["center", "random"] = "center"
    hflip: bool = False
    split: Literal["default", "official", "fractions"] = "default"
    fractions: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    split_seed: Seed = 0
    val_images: Annotated[int, Range(2, 10**7)] | None = None
    max_train_images: HeldImages | None = None
    classes: str = "labels"
    image_column: str | None = None
    table: PathSetting | None = None
    captions: str = "auto"
    mix: tuple[str, ...] = ()
    mix_share: Literal["balanced", "proportional"] = "balanced"
    value_range: str = "auto"
    max_image_pixels: Annotated[int, Range(1, 10**10)] = 64 * 1024**2
    max_file_size: Annotated[int, Range(1, 10**13)] = 256 * 1024**2
    on_bad_image: Literal["error", "skip"] = "error"
    cache_folder: PathSetting = "stages/data"

    @property
    def classes_column(self) -> str | None:
        """The attribute or the table's column that ``classes`` names; None where it is ``labels`` or ``none``."""
        return None if self.classes in ("labels", "none") else self.classes


def folder_name(name: str) -> str:
    """A data set's name as a folder can be called: ``hf:ylecun/mnist`` is ``hf-ylecun-mnist``."""
    return re.sub(r"[:/@]", "-", name) if name.startswith("hf:") else name


def data_flags(data: DataConfig, before: DataConfig | None = None) -> list[str]:
    """The flags by which ``data`` differs from ``before``, or from the defaults."""
    usual = to_dict(before or DataConfig())
    changed = {key: value for key, value in to_dict(data).items() if value != usual[key]}
    return [
        part
        for key, value in changed.items()
        for part in (f"--data.{key}", value if isinstance(value, str) else json.dumps(value))
    ]
