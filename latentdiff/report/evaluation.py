"""One evaluated model as it lies in its folder, and whether several may stand in one table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from latentdiff.errors import ConfigError, ReportError

SCHEMA = 1
FILE = "evaluation.json"
KINDS = ("noise", "gaussian", "prior", "images", "diffusion", "reconstruction")
ORDER = ("noise", "gaussian", "prior", "images", "pixel", "latent", "reconstruction")
REQUIRED = {
    "": ("name", "kind", "data", "num_images"),
    "data": ("name", "source", "train_images", "test_images", "image_shape", "train_fingerprint", "test_fingerprint"),
}
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Evaluation:
    """One row of the report.

    Args:
        folder: Where ``evaluation.json`` and the images lie.
        name: What the row is called.
        values: The whole of ``evaluation.json``.
    """

    folder: Path
    name: str
    values: dict[str, Any]

    def get(self, *keys: str) -> Any:
        """The value under nested ``keys``; None where it, or anything on the way to it, is absent."""
        value: Any = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    @property
    def role(self) -> Literal["noise", "gaussian", "prior", "images", "pixel", "latent", "reconstruction"]:
        """Its part in the comparison: the kind, with diffusion parted by what it runs on."""
        if self.values["kind"] != "diffusion":
            return self.values["kind"]
        return "pixel" if self.get("model", "latent_shape") in (None, self.get("data", "image_shape")) else "latent"

    @property
    def reconstructs_train(self) -> bool:
        """Whether it is of reconstructions of training images, which an autoencoder has learned from."""
        return self.get("reconstructed_split") == "train"

    @property
    def grid(self) -> Path | None:
        """The PNG of its samples."""
        return self.folder / self.values["grid"] if self.get("grid") else None

    def picture(self, name: str) -> Path | None:
        """The file of one of its other pictures: ``classes``, ``originals``, ``neighbours``, ``strip`` or ``gif``."""
        file = self.get("pictures", name, "file")
        return self.folder / file if file else None


def read_evaluation(folder: Path | str) -> Evaluation:
    """Read ``folder/evaluation.json``.

    Raises:
        ReportError: The file is absent, no JSON, of another schema or incomplete, or its grid is not a PNG beside it.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        raise ReportError(f"there is no {path}: run the evaluate stage on the model first, or name another folder")
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read as JSON ({error}); evaluate the model again") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        schema = values.get("schema") if isinstance(values, dict) else None
        raise ReportError(f"{path} has schema {schema}; this version of latentdiff reads {SCHEMA}: evaluate it again")
    _check_complete(path, values)
    evaluation = Evaluation(folder, values["name"], values)
    _check_pictures(evaluation)
    return evaluation


def check_comparable(evaluations: list[Evaluation]) -> None:
    """Raise :class:`ReportError` unless all rows have the same images, number of images and feature networks.

    A metric that only some rows have is fine; the same metric from two networks, or at two numbers of images, is not.
    """
    if not evaluations:
        raise ReportError("there is nothing to compare: name at least one folder that the evaluate stage has written")
    must_agree = (
        (("data", "name"), "the data set", "evaluate on the same data set"),
        (("data", "source"), "the source of the data set", "evaluate both on the full set or both on the slice"),
        (("data", "train_fingerprint"), "the training images", "evaluate both on the same copy of the data set"),
        (("data", "test_fingerprint"), "the test images", "evaluate both on the same copy of the data set"),
        (("num_images",), "the number of images", "evaluate again with the same number"),
        (("method",), "the method of measuring", "evaluate again with this version"),
        (("features", "lpips", "weights_sha256"), "LPIPS's network", "evaluate again with the same weights"),
        (("features", "inception", "weights_sha256"), "the Inception network", "evaluate again with the same weights"),
        (("features", "inception", "resize"), "Inception's resize rule", "evaluate again with this version"),
        (("features", "classifier", "weights_sha256"), "the classifier", "evaluate again with the same weights"),
        (("features", "classifier", "resize"), "the classifier's resize rule", "evaluate again with this version"),
    )
    of_reals = tuple(
        (("features", net, f"{split}_images"), f"the number of real {split} images", "evaluate again with as many")
        for net in ("inception", "classifier")
        for split in ("train", "test")
    )
    for keys, what, advice in (*must_agree, *of_reals):
        # What was measured before methods had numbers was measured by the first.
        values = [(item, item.get(*keys) or (1 if keys == ("method",) else None)) for item in evaluations]
        having = [(item, value) for item, value in values if value is not None]
        for other, value in having[1:]:
            first, its = having[0]
            if value != its:
                raise ReportError(
                    f"{first.folder} and {other.folder} do not compare, {what} differs: {its} against {value}; {advice}"
                )


def in_order(evaluations: list[Evaluation]) -> list[Evaluation]:
    """The rows from noise to the ceiling; rows of the same name have their folder's name added, or as much of its path
    as tells them apart."""
    named = Counter(evaluation.name for evaluation in evaluations)
    distinct = []
    for evaluation in evaluations:
        if named[evaluation.name] > 1:
            paths = [other.folder for other in evaluations if other.name == evaluation.name]
            evaluation = replace(evaluation, name=f"{evaluation.name} ({_ending(evaluation.folder, paths)})")
        distinct.append(evaluation)
    return sorted(distinct, key=lambda evaluation: ORDER.index(evaluation.role))


def _ending(path: Path, among: list[Path]) -> str:
    """The last parts of ``path``, as many as no other of ``among`` ends with."""
    parts = path.absolute().parts
    others = [other.absolute().parts for other in among if other != path]
    shared = max((depth for depth in range(len(parts)) if any(o[-depth:] == parts[-depth:] for o in others)), default=0)
    return "/".join(parts[-shared - 1 :])


def _refuse_constant(constant: str) -> None:
    raise ConfigError(f"it holds {constant}, so a metric has failed")


def _check_complete(path: Path, values: dict[str, Any]) -> None:
    for section, keys in REQUIRED.items():
        holder = values.get(section) if section else values
        missing = [key for key in keys if not isinstance(holder, dict) or holder.get(key) is None]
        if missing:
            names = ", ".join(f"{section}.{key}" if section else key for key in missing)
            raise ReportError(f"{path} lacks {names}; evaluate the model again")
    name, kind = values["name"], values["kind"]
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ReportError(f"{path} has the name {name!r}; a row's name is one line of text")
    if kind not in KINDS:
        raise ReportError(f"{path} is of kind {kind!r}; the kinds are {', '.join(KINDS)}")
    if kind == "diffusion" and not values.get("model"):
        raise ReportError(f"{path} lacks model, which tells pixels from latents; evaluate the model again")
    for net in ("inception", "classifier"):
        # A distance whose network is not named cannot be compared with anything.
        if (values.get("metrics") or {}).get(net) and not ((values.get("features") or {}).get(net) or {}).get(
            "weights_sha256"
        ):
            raise ReportError(
                f"{path} has metrics.{net} but lacks features.{net}.weights_sha256; evaluate the model again"
            )


def _check_pictures(evaluation: Evaluation) -> None:
    names = [("grid", evaluation.grid)]
    names += [(name, evaluation.picture(name)) for name in evaluation.get("pictures") or {}]
    for name, path in names:
        if path is None:
            continue
        if path.parent != evaluation.folder or not path.is_file():
            raise ReportError(
                f"{evaluation.folder / FILE} names the picture {path.name} ({name}), which is not in its folder"
            )
        with open(path, "rb") as file:
            if not file.read(len(PNG)).startswith((PNG, b"GIF8")):
                raise ReportError(f"{path} is no PNG and no GIF; evaluate the model again")
