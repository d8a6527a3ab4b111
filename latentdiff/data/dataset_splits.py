"""A data set with all its splits: by name, from a folder or a zip, or from what a Python program already holds."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from PIL import Image

from latentdiff.config import DataConfig
from latentdiff.config.checks import HUB_NAME
from latentdiff.config.data import DatasetName
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.load import NoSplitError, check_settings, has, load_split
from latentdiff.data.messages import print_once
from latentdiff.data.path_kind import name_of_path
from latentdiff.data.splits import SPLITS
from latentdiff.data.tensors import Images, Labels, load_tensors
from latentdiff.errors import ConfigError, DataError

NAMES: tuple[DatasetName, ...] = tuple(name for name in get_args(DatasetName) if name != "tensors")
# Class names, and sample images, that a data set shows of itself.
SHOWN_CLASSES, SHOWN_IMAGES = 12, 16


class DatasetSplits:
    """The splits of one data set, each loaded on first use.

    Attributes:
        config: The settings that say which images these are.
    """

    def __init__(
        self,
        config: DataConfig,
        name: str | None = None,
        loaded: Mapping[Split, ImageDataset] | None = None,
        absent: Mapping[Split, str] | None = None,
    ):
        """Make a data set; :func:`load_dataset` does it from any source.

        Args:
            config: Which images.
            name: What the data set is called. Default: as ``config`` names it.
            loaded: Splits that are in memory already.
            absent: Splits that the data set does not have, each with the reason.
        """
        self.config, self._name = config, name
        self._loaded: dict[Split, ImageDataset] = dict(loaded or {})
        self._absent = dict(absent or {})

    @property
    def name(self) -> str:
        """What the data set is called in records and on the screen."""
        return self._name or self.config.name

    @property
    def train(self) -> ImageDataset:
        """The training images. Raises :class:`~latentdiff.errors.DataError` where there are none."""
        return self._load("train")

    @property
    def val(self) -> ImageDataset:
        """The validation images. Raises :class:`~latentdiff.data.NoSplitError` where there is no such split."""
        return self._load("val")

    @property
    def test(self) -> ImageDataset:
        """The test images. Raises :class:`~latentdiff.data.NoSplitError` where there is no such split."""
        return self._load("test")

    @property
    def held_out(self) -> ImageDataset:
        """Images that training does not see: the validation split, or the test split where there is none.

        If one's own images, split by content, have neither, it is an empty validation split, and a line says so. Raises
        :class:`~latentdiff.data.NoSplitError` for other data sets.
        """
        try:
            return self.val
        except NoSplitError:
            pass
        try:
            return self.test
        except NoSplitError:
            if self.train.content is None and not any(has(name, "GROWS") for name in self.config.mix):
                raise
            print_once(f"{self.name} has neither validation nor test images: nothing is measured while training")
            return replace(self.train.take(torch.empty(0, dtype=torch.int64)), split="val")

    @cached_property
    def test_or_val(self) -> ImageDataset:
        """The test split. If there is none, as in an 80/20 split, the validation split, and a line says so."""
        try:
            return self.test
        except NoSplitError as error:
            try:
                stand_in = self.val
            except NoSplitError:
                raise error from None
            print(f"{error}: the validation images are used instead, although the model may have been chosen by them")
            return stand_in

    def _load(self, split: Split) -> ImageDataset:
        """A split, loaded the first time. Raises :class:`~latentdiff.data.NoSplitError` where there is none."""
        if split in self._absent:
            raise NoSplitError(self._absent[split])
        if split not in self._loaded:
            data = load_split(self.config, split)
            if any(known.class_names != data.class_names for known in self._loaded.values()):
                raise DataError(f"the classes of {self.name} have changed while its splits were read: start again")
            self._loaded[split] = replace(data, name=self._name) if self._name else data
        return self._loaded[split]

    def __repr__(self) -> str:
        """The name, the number of images of each split that is loaded, and the classes."""
        parts = [self.name]
        for split in SPLITS:
            if split in self._loaded:
                parts.append(f"{split}: {len(self._loaded[split]):,} images")
            elif split not in self._absent:
                parts.append(f"{split}: not loaded")
        for data in list(self._loaded.values())[:1]:
            parts.append(f"of {'x'.join(map(str, data.image_shape))}")
            more = ", …" if data.num_classes > SHOWN_CLASSES else ""
            names = ", ".join(data.class_names[:SHOWN_CLASSES])
            parts.append(f"{data.num_classes} classes: {names}{more}" if names else "no classes")
        return f"<DatasetSplits {'; '.join(parts)}>"

    def _repr_html_(self) -> str:
        """In a notebook: the same words, and sample images of the first split that is loaded."""
        words = f"<p>{html.escape(repr(self)[1:-1])}</p>"
        for data in list(self._loaded.values())[:1]:
            chosen = torch.linspace(0, len(data) - 1, min(SHOWN_IMAGES, len(data))).long()
            row = torch.cat(list(data.images[chosen]), dim=2)  # b c h w -> c h (b w)
            buffer = io.BytesIO()
            Image.fromarray(row.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()).save(buffer, "png")
            content = base64.b64encode(buffer.getvalue()).decode()
            words += f'<img alt="sample images" src="data:image/png;base64,{content}">'
        return words


def load_dataset(
    source: str | Path | DataConfig | Images | Mapping[str, Images] = "fashion-mnist",
    *,
    labels: Labels | Mapping[str, Labels] | None = None,
    class_names: Sequence[str] | None = None,
    size: int | None = None,
    colour: Literal["auto", "rgb", "grey"] | None = None,
    hflip: bool | None = None,
    fractions: tuple[float, float, float] | None = None,
    split_seed: int | None = None,
    max_train_images: int | None = None,
    captions: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    name: str | None = None,
) -> DatasetSplits:
    """Load a data set with its splits ``train``, ``val`` and ``test``.

    Files are read when a split is first used. Images that a program holds are read at once.

    Args:
        source: One of:

            - the name of a data set, such as ``fashion-mnist``;
            - a folder or a zip of images, Parquet files, what ``save_to_disk`` of datasets wrote, or tars;
            - ``hf:ID`` or ``hf:ID/CONFIG``, a data set of the Hugging Face Hub;
            - a :class:`~latentdiff.config.DataConfig`, which has more settings;
            - a uint8 tensor or array [n, c, h, w] with 1 or 3 channels, or [n, h, w] or [n, h, w, c] if the shape
              is not ambiguous;
            - a torch Dataset of (image, label), such as torchvision's, or any iterable of such pairs, which is read to
              its end. An image is a PIL image, a uint8 tensor, or a float tensor in [0, 1], of shape [c, h, w]. Instead
              of pairs there may be mappings with an ``image`` and a ``label``, as Hugging Face's datasets gives them;
            - a mapping of splits to tensors or Datasets: ``{"train": …, "val": …, "test": …}``. It must have ``train``.
        labels: The class of each image of a tensor: whole numbers from 0, or strings, which become the class names in
            natural order (``class 2`` before ``class 10``). A mapping where the source is one.
        class_names: The name of each class of images in memory. Default: a Dataset's ``classes``, the strings, or the
            numbers.
        size: Side in pixels of the squares that images become, by a crop to the middle and Lanczos resampling (bicubic
            for named data sets that come as arrays, such as Fashion-MNIST). Default: arrays, and images in memory that
            are squares of one size, stay as they are; others become 64 pixels wide.
        colour: ``rgb``, ``grey``, or ``auto``: as they are.
        hflip: Train on mirrored images too.
        fractions: Split all images together into these fractions of train, val and test. A named data set has them in
            every class. An image of one's own is assigned by its content. So adding an image moves no other, and the
            fractions hold on average. Default: the official split where there is one, else 0.8, 0.1 and 0.1.
        split_seed: Seed of the split and of ``max_train_images``. Default: 0.
        max_train_images: Train on no more than this many images.
        captions: Captions for a text-to-image network: a template such as ``a photo of a {class}``, or another value of
            ``DataConfig.captions``. For images in memory, a list with one for each; a mapping where the source is one.
        name: What records call the data set. Default: its name, ``folder``, or ``tensors``.

    Returns:
        The data set. Each split has ``images`` uint8 [n, c, h, w], ``labels`` int64 [n], ``class_names`` and
        ``fingerprint``, a digest of its content.

    Raises:
        ConfigError: Arguments that contradict each other.
        DataError: A source that is none of these, or images or labels that cannot be used.

    Example:
        >>> import torch
        >>> from latentdiff import load_dataset
        >>> generator = torch.Generator().manual_seed(0)
        >>> images = torch.randint(0, 256, (100, 3, 16, 16), dtype=torch.uint8, generator=generator)
        >>> data = load_dataset(images, labels=["circle", "square"] * 50, name="shapes")
        >>> data
        <DatasetSplits shapes; train: 82 images; val: 7 images; test: 11 images; of 3x16x16; 2 classes: circle, square>
        >>> data.train.images.shape, data.train.labels.shape
        (torch.Size([82, 3, 16, 16]), torch.Size([82]))

        Grey images that come with their splits, made smaller:

        >>> digits = {"train": images[:, 0].numpy(), "test": images[:20, 0].numpy()}
        >>> load_dataset(digits, size=8).test.images.shape
        torch.Size([20, 1, 8, 8])

        A torch Dataset of (image, label):

        >>> from torchvision.datasets import FakeData
        >>> photos = load_dataset(FakeData(size=50, image_size=(3, 40, 30), num_classes=2), size=32)
        >>> photos.train.images.shape, photos.train.class_names
        (torch.Size([38, 3, 32, 32]), ('0', '1'))
    """
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"name may have letters, digits, dots, dashes and underscores, not {name!r}")
    words = None if isinstance(captions, str) else captions
    settings: dict[str, Any] = {
        "size": size,
        "colour": colour,
        "hflip": hflip,
        "split": None if fractions is None else "fractions",
        "fractions": None if fractions is None else tuple(fractions),
        "split_seed": split_seed,
        "max_train_images": max_train_images,
        "captions": captions if isinstance(captions, str) else None,
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    if not isinstance(source, str | Path | DataConfig):
        rule = "official" if isinstance(source, Mapping) else "fractions"
        settings.setdefault("split", rule)
        config = DataConfig(name="tensors", **settings)
        found = load_tensors(cast(Any, source), config, labels, class_names, name or "tensors", words)
        return DatasetSplits(config, name, *found)
    if words is not None:
        raise ConfigError(
            "a list of captions is for images in memory: for a folder, put captions in a column of its table"
        )
    if labels is not None or class_names is not None:
        raise ConfigError(
            "labels and class_names are for images in memory: the classes of a folder are its sub-folders"
        )
    config = replace(source if isinstance(source, DataConfig) else _find_config(source), **settings)
    check_settings(config)
    return DatasetSplits(config, name)


def _find_config(source: str | Path) -> DataConfig:
    """The settings of a data set's name, or of the path of one's own images."""
    for name in NAMES:
        if str(source) == name:
            return DataConfig(name=name)
    if HUB_NAME.fullmatch(str(source)):
        return DataConfig(name=str(source))
    path = Path(source).expanduser()
    own = name_of_path(path)
    if not str(source) or not (path.exists() or own != "folder"):
        raise DataError(
            f"{str(source)!r} is neither a folder or zip of images, a Parquet file or a tar, nor a data set's name: "
            + ", ".join(name for name in NAMES if not has(name, "NEEDS_PATH") and name != "mixed")
            + ", hf:ID"
        )
    return DataConfig(name=own, path=str(path))
