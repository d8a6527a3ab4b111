"""Classes by name or by index: a string is a name, a whole number an index."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from latentdiff.errors import ConfigError

Labels = int | str | Sequence[int | str] | Tensor | None


def resolve_labels(labels: Labels, class_names: Sequence[str], num_classes: int, num_images: int) -> Tensor:
    """The class of each image, int64 [num_images].

    Args:
        labels: One class for all images, one for each, or None: the classes in turn. A string is a class's name, found
            exactly or else by its only match that differs in case, or in how accents are stored; a whole number is its
            index.
        class_names: The names; empty where the classes have none.
        num_classes: How many classes there are.
        num_images: How many images.

    Raises :class:`~latentdiff.errors.ConfigError` for a class that there is not, and for a wrong number of labels.

    Example:
        >>> resolve_labels("dress", ["Coat", "Dress"], num_classes=2, num_images=3)
        tensor([1, 1, 1])
        >>> resolve_labels([0, "Dress"], ["Coat", "Dress"], num_classes=2, num_images=2)
        tensor([0, 1])
    """
    if labels is None:
        return torch.arange(num_images) % num_classes
    given: Any = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(given, str | int | float) or not isinstance(given, Sequence) or isinstance(given, bytes | bytearray):
        return torch.full((num_images,), _index(given, class_names, num_classes))
    indices = [_index(label, class_names, num_classes) for label in given]
    if len(indices) != num_images:
        raise ConfigError(
            f"{len(indices)} labels were given for {num_images} images: give one for all, or one for "
            "each; without labels the classes take turns"
        )
    return torch.tensor(indices)


def match_classes(class_names: Sequence[str], others: Sequence[str], named: str, other_named: str) -> Tensor:
    """The place of each class among ``others``, by its name: int64 [number of classes].

    Args:
        class_names: The classes of a model.
        others: The classes of a data set, or the other way round.
        named: What messages call the owner of ``class_names``.
        other_named: What messages call the owner of ``others``.

    Raises :class:`~latentdiff.errors.ConfigError` for a class that the others lack: an index would mean another class.

    Example:
        >>> match_classes(["cat", "dog"], ["ant", "dog", "cat"], "the model", "the data set")
        tensor([2, 1])
    """
    place = {name: index for index, name in enumerate(others)}
    if missing := [name for name in class_names if name not in place]:
        shown = ", ".join([*missing[:5], *(["…"] if len(missing) > 5 else [])])
        what = "classes" if len(missing) > 1 else "class"
        there = _listed(others, 0) or "none"
        raise ConfigError(f"{named} has the {what} {shown}, which {other_named} lacks: it has {there}")
    return torch.tensor([place[name] for name in class_names], dtype=torch.int64)


def parse_labels(given: Labels, class_names: Sequence[str]) -> Labels:
    """The labels of a command line or a YAML file, for :func:`resolve_labels`.

    Args:
        given: A text: one class's name, or names and indices that are separated by commas, or a JSON list, which names
            with commas need beside others. Numbers and lists, as YAML has them, mean what they mean in Python.
        class_names: The names of the classes.

    Raises :class:`~latentdiff.errors.ConfigError` for a bare number that is one class's name and another one's index.
    """
    if not isinstance(given, str):
        return given
    text = given.strip()
    if text in class_names and not _is_number(text):  # perhaps a name with a comma or a bracket
        return text
    if text.startswith("["):
        try:
            labels = json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"--labels {text} starts like a JSON list but is not one: {error}. Put names in quotes."
            ) from error
    else:
        labels = [_from_text(part.strip(), class_names) for part in text.split(",")]
    return labels[0] if len(labels) == 1 else labels


def _from_text(part: str, class_names: Sequence[str]) -> int | str:
    if not _is_number(part):
        return part
    index = int(part)
    # 1 may mean the class 01 too.
    alike = [name for name in class_names if _is_number(name) and int(name) == index]
    if not alike:
        return index
    name = part if part in alike else alike[0]
    if index < len(class_names) and class_names[index] != name:
        raise ConfigError(
            f"--labels {part} is the name of class {list(class_names).index(name)}, and the index of class "
            f'{class_names[index]!r}. Write ["{name}"] for the name, [{index}] for the index.'
        )
    return name


def folded(name: str) -> str:
    """A name in lower case and in Unicode's normal form, in which an accent is stored in one way."""
    return unicodedata.normalize("NFC", name).lower()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _index(label: Any, class_names: Sequence[str], num_classes: int) -> int:
    if isinstance(label, str):
        exact = [index for index, name in enumerate(class_names) if name == label]
        found = exact or [index for index, name in enumerate(class_names) if folded(name) == folded(label)]
        if len(found) == 1:
            return found[0]
        what = "is no class" if not found else f"could be {' or '.join(class_names[index] for index in found)}"
        raise ConfigError(f"{label!r} {what}. The classes are {_listed(class_names, num_classes)}.")
    # NumPy's whole numbers too.
    if isinstance(label, bool) or not isinstance(label, Integral):
        raise ConfigError(f"a label must be a class's name or its index, not {label!r}")
    label = int(label)
    if not 0 <= label < num_classes:
        raise ConfigError(
            f"labels must be from 0 to {num_classes - 1}, not {label}: {_listed(class_names, num_classes)}"
        )
    return label


def _listed(class_names: Sequence[str], num_classes: int) -> str:
    """``index: name`` of each class, shortened where there are many."""
    names = list(class_names) or [str(index) for index in range(num_classes)]
    shown = [f"{index}: {name}" for index, name in enumerate(names)]
    return ", ".join(shown if len(shown) <= 20 else [*shown[:19], "…", shown[-1]])
