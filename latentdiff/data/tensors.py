"""Images that a Python program holds: a tensor, an array, or a torch Dataset, with or without splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from latentdiff.config import DataConfig
from latentdiff.data.captions import with_captions
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.decode import SMALLEST_SIDE, BadImageError, CropAndResize, parse_value_range, to_eight_bits
from latentdiff.data.deep_images import DeepValues, check_values, join_values
from latentdiff.data.file_list import check_names
from latentdiff.data.load import (
    DEFAULT_SIZE,
    check_white,
    describe_fractions,
    limit_training_images,
    warn_of_empty_split,
    why_empty,
)
from latentdiff.data.splits import SPLITS, digest_pixels, split_by_content
from latentdiff.data.table_columns import IMAGE_NAMES, LABEL_NAMES
from latentdiff.errors import ConfigError, DataError

Images = Tensor | np.ndarray | Dataset[Any] | Iterable[Any]
Labels = Sequence[int] | Sequence[str] | Tensor | np.ndarray
# More classes than this are more likely something else, such as identifiers, unless they are named.
MOST_UNNAMED_CLASSES = 10_000


@dataclass
class _Part:
    """The images of one source before they have one shape: each uint8 [1 or 3, h, w], with raw labels, digests, and the
    names that each Dataset in it gives to its classes."""

    images: list[np.ndarray]
    labels: list[int] | list[str] | None
    content: Tensor
    class_names: frozenset[tuple[str, ...]] = frozenset()


def load_tensors(
    source: Images | Mapping[str, Images],
    config: DataConfig,
    labels: Labels | Mapping[str, Labels] | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "tensors",
    captions: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
) -> tuple[dict[Split, ImageDataset], dict[Split, str]]:
    """Make the splits of a data set from images in memory; :func:`~latentdiff.load_dataset` describes the arguments.

    Args:
        source: uint8 [n, c, h, w], a torch Dataset of (image, label), or a mapping of splits to these.
        config: The settings, of which ``size``, ``colour``, ``fractions``, ``split_seed`` and ``max_train_images``
            apply.
        labels: The class of each image of a tensor; a mapping where the source is one.
        class_names: The name of each class.
        name: What the data set is called.
        captions: What each image shows, in words; a mapping where the source is one.

    Returns:
        The splits, and for each split that the data set does not have, the reason.

    Raises:
        ConfigError: Arguments that contradict each other.
        DataError: Images or labels that cannot be used.
    """
    parse_value_range(config.value_range)
    source, labels, captions = (_usual_names(each) for each in (source, labels, captions))
    by_split = _by_split(source, labels)
    words = captions if isinstance(captions, Mapping) else {None: captions}
    if captions is not None and set(words) != set(by_split):
        raise ConfigError("captions are a list; for a mapping of splits they are a mapping of the same splits")
    if isinstance(source, Mapping) and config.split == "fractions":
        raise ConfigError("fractions have no effect: the mapping already says which images are in which split")
    parts = {split: _read(images, own, config, split or name) for split, (images, own) in by_split.items()}
    names = _class_names(parts.values(), class_names)
    stacks = dict(zip(parts, _one_shape([part.images for part in parts.values()], config), strict=True))
    check_white(stacks.values(), name)
    sets = {
        split: with_captions(
            ImageDataset(
                stacks[split],
                _encode_labels(part, names),
                name,
                split or "train",
                "memory",
                names,
                content=part.content,
                captions=_check_captions(words.get(split), len(part.images)),
            ),
            config.captions,
        )
        for split, part in parts.items()
    }
    if isinstance(source, Mapping):
        splits = sets
        absent = {
            split: f"{name} was given without a {split} split: add it to the mapping"
            for split in SPLITS
            if split not in splits
        }
    else:
        splits = _split_by_fractions(sets[None], config)
        content = parts[None].content
        absent = {split: why_empty(content, config, name, split) for split in SPLITS if split not in splits}
    if "train" in splits:
        splits["train"] = limit_training_images(splits["train"], config)
    return splits, absent


def _check_captions(captions: Sequence[Any] | None, count: int) -> tuple[str, ...]:
    """The captions of ``count`` images as texts; () for none. Raises DataError."""
    if captions is None:
        return ()
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise DataError("captions must be a list of texts, one for each image")
    if len(captions) != count:
        raise DataError(f"there are {len(captions):,} captions for {count:,} images")
    return tuple(captions)


def _usual_names(value: Any) -> Any:
    """A mapping of splits with ``val`` for ``validation``, which is its name in Hugging Face's datasets."""
    if not isinstance(value, Mapping) or "val" in value:
        return value
    return {"val" if split == "validation" else split: each for split, each in value.items()}


def _by_split(source: Any, labels: Any) -> dict[Split | None, tuple[Any, Any]]:
    """The images and labels of each split; under None where the source is not split yet."""
    if not isinstance(source, Mapping):
        if isinstance(labels, Mapping):
            raise ConfigError("labels by split need images by split: {'train': images, 'test': images}")
        return {None: (source, labels)}
    if "train" not in source or not set(source) <= set(SPLITS):
        raise ConfigError(
            f"a mapping of splits must have train, and may have val and test; this one has {_listed(source)}"
        )
    if labels is not None and (not isinstance(labels, Mapping) or set(labels) != set(source)):
        raise ConfigError(f"the labels of a mapping are a mapping with the same splits: {_listed(source)}")
    return {split: (source[split], labels[split] if labels else None) for split in SPLITS if split in source}


def _read(source: Any, labels: Any, config: DataConfig, title: str) -> _Part:
    """Read the images and labels of a tensor, an array or a Dataset."""
    if isinstance(source, Tensor | np.ndarray):
        images = _channels_first(source)
        return _Part(
            list(images), None if labels is None else _check_labels(labels, len(images)), digest_pixels(images)
        )
    if isinstance(source, str | bytes) or not (hasattr(source, "__getitem__") or hasattr(source, "__iter__")):
        raise DataError(
            "a data set is a name, a path, a uint8 tensor, an array, or a torch Dataset or iterable of (image, label), "
            "not " + type(source).__name__
        )
    if labels is not None:
        raise ConfigError("labels are for a tensor or an array: a Dataset gives its own")
    return _read_dataset(source, config, title)


def _channels_first(array: Tensor | np.ndarray) -> np.ndarray:
    """Recognise the layout of images by their shape, and bring them to uint8 [n, c, h, w]. Raises DataError."""
    if isinstance(array, Tensor):
        if array.layout != torch.strided or array.is_quantized:
            raise DataError("images must be an ordinary tensor, neither sparse nor quantised")
        array = array.detach().cpu().numpy()
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise DataError(
            f"images must be uint8, not {array.dtype}. Values in [0, 1] become uint8 as (images * 255).round()"
        )
    if not array.size:
        raise DataError(f"there is no image in an array of shape {shape}")
    if array.ndim == 3 and 3 not in (shape[0], shape[2]) and 1 not in (shape[0], shape[2]):
        array = array[:, None]
    elif array.ndim == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or shape[1] not in (1, 3) or shape[3] in (1, 3):
        raise DataError(
            f"images must be of shape [n, c, h, w] with 1 or 3 channels, and the layout of the shape {shape} is not "
            "clear"
        )
    _check_side(array.shape[2:], "images")
    return array


def _read_dataset(dataset: Any, config: DataConfig, title: str) -> _Part:
    """Read all items of a torch Dataset, or of any iterable, once and in order, to its end.

    Images stay as they are while all are squares of one size. From the first other image on, images are cropped and
    resized when they are read, so that large photographs are never all in memory.
    """
    count = _length(dataset)
    images: list[np.ndarray] = []
    deep: list[DeepValues] = []
    labels, content, size, value_range = [], [], config.size, parse_value_range(config.value_range)
    names = _dataset_class_names(dataset)
    items = tqdm(_items(dataset, count), total=count, desc=f"reading {title}", unit="images", disable=None)
    for index, item in enumerate(items):
        picture, label = _pair(item, index)
        names = names or _feature_names(dataset, item)
        image, values = _item_image(picture, f"item {index} of the Dataset", value_range)
        deep = join_values([*deep, values]) if values else deep
        labels.append(label)
        content.append(digest_pixels([image]))
        if size is None and image.shape[1:] != (images[0].shape[1:] if images else (image.shape[2],) * 2):
            size = DEFAULT_SIZE
            images = [_crop_and_colour(earlier, size, config.colour) for earlier in images]
        images.append(image if size is None else _crop_and_colour(image, size, config.colour))
    if not images:
        raise DataError("the Dataset is empty")
    if value_range is None:
        check_values(deep, "the Dataset")
    has_labels = any(label is not None for label in labels)
    return _Part(images, _check_labels(labels, len(images)) if has_labels else None, torch.cat(content), names)


def _length(dataset: Any) -> int | None:
    """The number of items; None where it is not known."""
    try:
        return len(dataset)
    except TypeError:
        return None


def _items(dataset: Any, count: int | None) -> Iterator[Any]:
    """Yield the items of a Dataset by their numbers, or of an iterable as they come."""
    index = 0
    try:
        if count is not None and hasattr(dataset, "__getitem__"):
            for index in range(count):
                yield dataset[index]
        else:
            for item in dataset:
                yield item
                index += 1
    except Exception as error:  # of the user's own code: it says best what is wrong
        error.add_note(
            f"This is item {index}" + (f" of the {count:,} of the Dataset." if count else " of the Dataset.")
        )
        raise


def _pair(item: Any, index: int) -> tuple[Any, Any]:
    """The image and the label of an item: a pair, or a mapping as Hugging Face's datasets gives it; else DataError."""
    if isinstance(item, Mapping):
        image = [key for key in item if str(key).lower() in IMAGE_NAMES]
        label = _label_key(item)
        if len(image) != 1:
            raise DataError(
                f"item {index} of the Dataset has the columns {_listed(item)}: call one image, and its class label"
            )
        return item[image[0]], None if label is None else item[label]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"item {index} of the Dataset is not a pair of an image and a label")
    return item[0], item[1]


def _label_key(item: Mapping[Any, Any]) -> Any:
    """The key of the class in an item; None where there is none, or where several could be it."""
    found = [key for key in item if str(key).lower() in LABEL_NAMES]
    return found[0] if len(found) == 1 else None


def _feature_names(dataset: Any, item: Any) -> frozenset[tuple[str, ...]]:
    """The classes as the features of Hugging Face's datasets name them. Empty where they name none."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping) or not isinstance(item, Mapping):
        return frozenset()
    names = getattr(features.get(_label_key(item)), "names", None)
    return frozenset({tuple(names)}) if names else frozenset()


def _item_image(
    image: Any, where: str, value_range: tuple[float, float] | None
) -> tuple[np.ndarray, DeepValues | None]:
    """Convert a PIL image, or a tensor [c, h, w] or [h, w] of uint8 or floats in [0, 1], to uint8 [1 or 3, h, w].

    Of a PIL image of more than 8 bits a channel, it also tells the values.
    """
    deep = None
    if isinstance(image, Image.Image):
        try:
            eight_bits, deep = to_eight_bits(image, value_range)
            array = np.asarray(eight_bits)
        except BadImageError as error:
            raise DataError(f"{where}: {error}") from error
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    elif isinstance(image, Tensor):
        tensor = image.detach().cpu()
        tensor = tensor[None] if tensor.ndim == 2 else tensor
        if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
            raise DataError(f"{where}: an image must be of shape [c, h, w] with 1 or 3 channels, not {[*image.shape]}")
        if tensor.is_floating_point() and tensor.numel():
            low, high = tensor.min().item(), tensor.max().item()
            if not (low >= 0.0 and high <= 1.0):  # not a number is neither
                raise DataError(
                    f"{where}: values must be in [0, 1], not from {low:.4g} to {high:.4g}; do not normalise"
                )
            tensor = (tensor.float() * 255).round().to(torch.uint8)
        if tensor.dtype != torch.uint8:
            raise DataError(f"{where}: an image must be uint8, or floats in [0, 1], not {image.dtype}")
        array = tensor.numpy()
    else:
        raise DataError(f"{where}: an image must be a PIL image or a tensor, not a {type(image).__name__}")
    _check_side(array.shape[1:], where)
    return array, deep


def _check_side(shape: Sequence[int], where: str) -> None:
    """Raise DataError for images that are too small, of ``shape`` (h, w)."""
    if min(shape) < SMALLEST_SIDE:
        raise DataError(f"{where}: {shape[1]}x{shape[0]} pixels; at least {SMALLEST_SIDE} a side are needed")


def _one_shape(parts: list[list[np.ndarray]], config: DataConfig) -> list[Tensor]:
    """Bring all images to one shape, and stack the images of each part: uint8 [n, c, size, size]."""
    shapes = {image.shape for part in parts for image in part}
    sides = {side for shape in shapes for side in shape[1:]}
    size = config.size or (sides.pop() if len(sides) == 1 else DEFAULT_SIZE)
    colour = config.colour
    if colour == "auto":
        colour = "grey" if {shape[0] for shape in shapes} == {1} else "rgb"
    return [torch.from_numpy(np.stack([_crop_and_colour(image, size, colour) for image in part])) for part in parts]


def _crop_and_colour(image: np.ndarray, size: int, colour: str) -> np.ndarray:
    """Crop, resize and colour an image as if it came from a file: uint8 [1 or 3, h, w] -> [c, size, size].

    The colour ``auto`` keeps the channels.
    """
    channels = {"grey": 1, "rgb": 3, "auto": len(image)}[colour]
    if image.shape == (channels, size, size):
        return image
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    return CropAndResize(size, grey=channels == 1)(picture)


def _check_labels(labels: Any, count: int) -> list[int] | list[str]:
    """Convert labels to a list of whole numbers or of strings, one for each of ``count`` images. Raises DataError."""
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise DataError(f"labels must be a tensor, an array or a list, not a {type(labels).__name__}")
    values = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else [_to_python(label) for label in labels]
    values = values if isinstance(values, list) else [values]
    if len(values) != count:
        raise DataError(f"there are {len(values):,} labels for {count:,} images")
    kind = str if isinstance(values[0], str) else int
    odd = next((value for value in values if not isinstance(value, kind)), None)
    if odd is not None or None in values:
        raise DataError(f"labels must all be whole numbers, or all strings; one is {str(odd)[:80]}")
    return values


def _to_python(label: Any) -> Any:
    """Convert a label that is a tensor or array without dimensions, as Datasets give them, to a Python value."""
    return label.item() if isinstance(label, Tensor | np.generic) and label.ndim == 0 else label


def _dataset_class_names(dataset: Any) -> frozenset[tuple[str, ...]]:
    """The classes that a Dataset names, or that its parts name where it joins others. Empty where none are named."""
    names = getattr(dataset, "classes", None)
    if names is not None and all(isinstance(name, str) for name in names):
        return frozenset({tuple(names)})
    within = [getattr(dataset, "dataset", None), *(getattr(dataset, "datasets", None) or ())]
    return frozenset().union(*(_dataset_class_names(part) for part in within if part is not None))


def _class_names(parts: Iterable[_Part], given: Sequence[str] | None) -> tuple[str, ...]:
    """Name the classes of all parts: as given, as the Datasets name them, or by the labels. Raises DataError."""
    labelled = [part for part in parts if part.labels is not None]
    values = {label for part in labelled for label in part.labels or ()}
    if not labelled:
        if given:
            raise ConfigError("class_names need labels")
        return ()
    if len({isinstance(value, str) for value in values}) > 1:
        raise DataError("labels must be whole numbers in all splits, or strings in all")
    own = frozenset().union(*(part.class_names for part in labelled))
    if given is None and len(own) > 1:
        raise DataError(
            f"the splits, or the Datasets joined, name their classes differently ({_listed(sorted(own)[0])} and "
            f"{_listed(sorted(own)[1])}): let a label mean the same class in all, and give class_names="
        )
    names = next(iter(own), None) if given is None else _check_names(given)
    if names is not None:
        if len(set(names)) != len(names):
            raise ConfigError(f"class_names holds a name twice: {_listed(names)}")
        check_names(names)
        allowed = {*names, *range(len(names))}
        unknown = sorted(values - allowed)
        if unknown:
            raise DataError(f"the label {unknown[0]!r} is not one of the {len(names)} classes, {_listed(names)}")
        return names
    if isinstance(next(iter(values)), str):
        check_names(values)
        return tuple(sorted(values, key=_natural_order))
    lowest, highest = min(values), max(values)
    if lowest < 0 or highest >= MOST_UNNAMED_CLASSES:
        raise DataError(
            f"labels must count classes from 0; these are from {lowest} to {highest}. Strings can be labels too"
        )
    return tuple(str(label) for label in range(highest + 1))


def _check_names(given: Any) -> tuple[str, ...]:
    """The names of classes as they were given. Raises ConfigError for what has no order, and for what is no text."""
    names = given.tolist() if isinstance(given, np.ndarray) else given
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigError(f"class_names must be a list, a name for each label from 0 on, not a {type(given).__name__}")
    if odd := [name for name in names if not isinstance(name, str)]:
        raise ConfigError(f"class_names must be strings; one is {str(odd[0])[:80]}")
    return tuple(names)


def _natural_order(name: str) -> tuple[list[int | str], str]:
    """A key for sorting: ``class 2`` comes before ``class 10``."""
    pieces = re.split(r"([0-9]+)", name)  # text and digits in turn
    return [int(piece) if index % 2 else piece.casefold() for index, piece in enumerate(pieces)], name


def _encode_labels(part: _Part, class_names: tuple[str, ...]) -> Tensor:
    """Encode labels as int64 [n], which index the class names; all 0 where there are no labels."""
    if part.labels is None:
        return torch.zeros(len(part.images), dtype=torch.int64)
    index = {name: place for place, name in enumerate(class_names)}
    return torch.tensor([index[label] if isinstance(label, str) else label for label in part.labels]).long()


def _split_by_fractions(data: ImageDataset, config: DataConfig) -> dict[Split, ImageDataset]:
    """Split the images by their content. A split without images is left out."""
    assert data.content is not None
    indices = split_by_content(data.content, tuple(config.fractions), config.split_seed)
    warn_of_empty_split(data.labels[indices["train"]], data.class_names, config, data.name, "train")
    whole = replace(data, split_description=describe_fractions(config))
    return {split: replace(whole.take(indices[split]), split=split) for split in SPLITS if len(indices[split])}


def _listed(names: Iterable[Any], most: int = 10) -> str:
    """Join names to one line, at most ``most`` of them."""
    names = [str(name) for name in names]
    return ", ".join([*names[:most], "…"] if len(names) > most else names)
