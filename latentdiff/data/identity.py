"""What a data set is, whatever its path: a record of its content, and the differences of two records in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import torch

from latentdiff.data.dataset import ImageDataset
from latentdiff.data.splits import digest_pixels

# Images that a record lists by name. At 20,000 it has about 1 MB and is made in about a second.
MOST_LISTED = 20_000
# Names in one message.
SHOWN = 3


def identity(data: ImageDataset) -> dict[str, Any]:
    """What a split of a data set is, as plain values: its fingerprint, shape and size, and its classes in order.

    Two splits with one fingerprint, and the same class names and captions, are the same, wherever they are read from.
    """
    counts = torch.bincount(data.labels, minlength=max(1, data.num_classes)).tolist()
    return {
        "name": data.name,
        "split": data.split,
        "split_description": data.split_description,
        "images": len(data),
        "image_shape": list(data.image_shape),
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
        "class_counts": counts if data.class_names else [],
        "captions": data.captions_fingerprint,
        "first_caption": data.captions[0] if data.captions else None,
    }


def list_images(data: ImageDataset) -> list[str] | None:
    """A digest, the class's index and the name of each image, such as ``0123456789abcdef 4 cat/01.png``.

    Differences are named by it. The digest is of the pixels as they are trained on. None where images have no names,
    and for more than 20,000 images: differences are then told by class and number.
    """
    if not data.files or len(data) > MOST_LISTED:
        return None
    digests = digest_pixels(image.numpy() for image in data.images).tolist()
    names = _without_common_folder(data.files)
    return [
        f"{digest & 0xFFFFFFFFFFFFFFFF:016x} {label} {name}"
        for name, label, digest in zip(names, data.labels.tolist(), digests, strict=True)
    ]


def differences(
    before: dict[str, Any],
    now: dict[str, Any],
    images_before: Sequence[str] | None = None,
    images_now: Sequence[str] | None = None,
) -> list[str]:
    """What distinguishes two records of :func:`identity`, in words, the most telling first; empty where nothing does.

    Args:
        before: One record.
        now: Another one, of which the words speak as what is there now.
        images_before: Its images as of :func:`list_images`, where they are known.
        images_now: The other's.
    """
    found = _class_differences(before["class_names"], now["class_names"])
    same = before["fingerprint"] == now["fingerprint"]
    if same:
        return found + _caption_differences(before, now)
    if before["image_shape"] != now["image_shape"]:
        found.append(f"images are {_shape(now['image_shape'])} now, and were {_shape(before['image_shape'])}")
    if images_before is not None and images_now is not None and before["image_shape"] == now["image_shape"]:
        found += _image_differences(images_before, images_now, before["class_names"], now["class_names"])
    else:
        found += _count_differences(before, now)
    if before["split_description"] != now["split_description"]:
        words = [record["split_description"] or "the official split" for record in (before, now)]
        found.append(f"the images were split differently ({words[0]}, now {words[1]})")
    return found or ["some images have different pixels, or a different order"]


def _caption_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences of the captions; older records have none."""
    if before.get("captions") == now.get("captions"):
        return []
    words = [record.get("first_caption") for record in (before, now)]
    if None in words:
        return ["the images have captions now, but had none before" if words[0] is None else "the captions are gone"]
    if words[0] == words[1]:
        return ["some captions differ"]
    return [f"the captions differ: the first is {words[1][:60]!r}, and was {words[0][:60]!r}"]


def _class_differences(before: Sequence[str], now: Sequence[str]) -> list[str]:
    gone = [f"class {name} is gone" for name in before if name not in now]
    new = [f"class {name} is new" for name in now if name not in before]
    if not gone and not new and list(before) != list(now):
        return [f"the classes are in another order: {', '.join(now)}"]
    return _shortened(gone, "classes are gone") + _shortened(new, "classes are new")


def _image_differences(
    before: Sequence[str], now: Sequence[str], classes_before: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """Images that are gone, new, or other ones, but for those of classes that are themselves gone or new."""

    def by_name(images: Sequence[str], own: Sequence[str], other: Sequence[str]) -> dict[str, tuple[str, str]]:
        rows = (image.split(" ", 2) for image in images)
        named = ((name, own[int(label)] if own else "", digest) for digest, label, name in rows)
        return {name: (label, digest) for name, label, digest in named if not own or not other or label in other}

    old, new = by_name(before, classes_before, classes), by_name(now, classes, classes_before)
    gone, more = [name for name in old if name not in new], [name for name in new if name not in old]
    both = [name for name in old if name in new]
    # Whatever else an image is called now, it is there.
    renamed = Counter(new[name] for name in more) & Counter(old[name] for name in gone)
    names = {"gone": gone, "more": more}
    for key, source in (("gone", old), ("more", new)):
        left = renamed.copy()
        kept = []
        for name in names[key]:
            if left[source[name]] > 0:
                left[source[name]] -= 1
            else:
                kept.append(name)
        names[key] = kept
    found = _shortened([f"image {name} is gone" for name in names["gone"]], "images are gone", names["gone"])
    found += _shortened([f"image {name} is new" for name in names["more"]], "images more", names["more"])
    other = [name for name in both if old[name][1] != new[name][1]]
    found += _shortened([f"image {name} has other content" for name in other], "images have other content", other)
    moved = [name for name in both if old[name][0] != new[name][0] and name not in other]
    found += _shortened(
        [f"image {name} is of class {new[name][0]}, and was of {old[name][0]}" for name in moved],
        "images are of another class",
        moved,
    )
    if count := renamed.total():
        found.append(f"{count:,} image{'s have' if count > 1 else ' has'} another name, and so another position")
    return found


def _count_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """How many images each class, or the whole, has more or fewer."""
    counts = [dict(zip(record["class_names"], record["class_counts"], strict=True)) for record in (before, now)]
    classes = [
        f"class {name}: {_more_or_fewer(counts[1][name] - counts[0][name])}"
        for name in counts[0]
        if name in counts[1] and counts[0][name] != counts[1][name]
    ]
    if classes and len(classes) <= SHOWN:
        return classes
    difference = now["images"] - before["images"]
    return [_more_or_fewer(difference)] if difference else classes[:SHOWN]


def _more_or_fewer(count: int) -> str:
    return f"{abs(count):,} image{'s' if abs(count) > 1 else ''} {'more' if count > 0 else 'fewer'}"


def _shortened(sentences: list[str], summary: str, names: Sequence[str] = ()) -> list[str]:
    """The sentences, or one with their number and the first names where there are many."""
    if len(sentences) <= SHOWN:
        return sentences
    some = f" ({', '.join(names[:SHOWN])}, …)" if names else ""
    return [f"{len(sentences):,} {summary}{some}"] if names else [*sentences[:SHOWN], f"{len(sentences):,} {summary}"]


def _without_common_folder(names: Sequence[str]) -> list[str]:
    """The names without the folders that all of them lie in: a zip of a folder holds what the folder holds."""
    parts = [PurePosixPath(name).parts for name in names]
    depth = 0
    while all(len(part) > depth + 1 and part[depth] == parts[0][depth] for part in parts):
        depth += 1
    return ["/".join(part[depth:]) for part in parts]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
