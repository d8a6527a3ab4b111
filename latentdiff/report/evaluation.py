"""One evaluated model, in memory or in its folder, and whether several may stand in one table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from latentdiff.digest import DamagedFileError, json_with_digest, note_missing_digest, read_json
from latentdiff.errors import ConfigError, ReportError
from latentdiff.folder_mark import write_files
from latentdiff.report.notebook import html_table
from latentdiff.report.record_schema import find_problem, report_schema
from latentdiff.report.summary import summary, summary_rows

SCHEMA = 1
FILE = "evaluation.json"
KINDS = ("noise", "gaussian", "prior", "images", "diffusion", "reconstruction")
ORDER = ("noise", "gaussian", "prior", "images", "pixel", "latent", "reconstruction")
REQUIRED = {
    "": ("name", "kind", "data", "num_images"),
    "data": ("name", "source", "train_images", "test_images", "image_shape", "train_fingerprint", "test_fingerprint"),
}
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The measurements of one model: what :func:`~latentdiff.evaluate` returns, and one row of a report.

    ``print(evaluation)`` shows its main numbers. A notebook shows them as a table.

    Attributes:
        folder: Where ``evaluation.json`` and the pictures lie; None while they are in memory alone.
        name: What the row is called.
        values: The whole of ``evaluation.json``.
        files: The pictures by the names of their files, PNG or GIF, where they are in memory.
    """

    folder: Path | None
    name: str
    values: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def __repr__(self) -> str:
        kind, count = self.values.get("kind"), self.values.get("num_images")
        return f"Evaluation({self.name!r}, kind={kind!r}, num_images={count}, folder={self.folder})"

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.values['num_images']:,} images", *summary(self.values)])

    def _repr_html_(self) -> str:
        """The main numbers as a table, each beside that of real training images."""
        heading = f"{self.name}: {self.values['num_images']:,} images of {self.values['data']['name']}"
        rows = summary_rows(self.values)
        return html_table(heading, ["", "Measured", "Real training images"], rows, self.get("warnings") or [])

    @property
    def metrics(self) -> dict[str, Any]:
        """The measurements by ``inception``, ``classifier``, ``pixels``, ``reconstruction`` and ``diversity``.

        Each is a dictionary such as ``metrics["inception"]["fid_test"]``, or None where it was not measured.
        """
        return self.values.get("metrics") or {}

    def get(self, *keys: str) -> Any:
        """The value under nested ``keys``; None where it, or anything on the way to it, is absent."""
        return _get(self.values, *keys)

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

    def picture(self, name: str) -> bytes | None:
        """A PNG or GIF: ``grid`` of its samples, ``classes``, ``originals``, ``neighbours``, ``strip`` or ``gif``.

        None where there is no such picture.
        """
        file = self.picture_files().get(name)
        if file is None:
            return None
        return self.files[file] if file in self.files or self.folder is None else (self.folder / file).read_bytes()

    def picture_files(self) -> dict[str, str]:
        """The file names of its pictures, by what :meth:`picture` calls them."""
        others: dict[str, dict[str, Any]] = self.get("pictures") or {}
        named = {"grid": self.get("grid"), **{name: about.get("file") for name, about in others.items()}}
        return {name: file for name, file in named.items() if file}

    def save(self, folder: Path | str) -> Path:
        """Write ``evaluation.json`` and the pictures into ``folder``, and return the folder.

        A report may name the folder later. Files of an earlier evaluation there are replaced, and nobody else's: that
        raises FolderError.
        """
        folder = Path(folder)
        pictures = {file: self.picture(name) for name, file in self.picture_files().items()}
        files = {file: picture for file, picture in pictures.items() if picture is not None}
        files[FILE] = json_with_digest(self.values, allow_nan=False)
        write_files(folder, files, "evaluate")
        return folder


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
        values, signed = read_json(path, parse_constant=_refuse_constant)
    except DamagedFileError as error:
        raise ReportError(
            f'{path} is damaged: {error}. Evaluate the model again; if you changed the file, remove its line "digest".'
        ) from error
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read as JSON ({error}); evaluate the model again") from error
    if (schema := _get(values, "schema")) != SCHEMA:
        raise ReportError(f"{path} has schema {schema}; this version of latentdiff reads {SCHEMA}: evaluate it again")
    _check_complete(path, values)
    if not signed:
        note_missing_digest(path, "evaluations")
    try:
        summary(values)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ReportError(f"{path} lacks what belongs to its metrics ({error}); evaluate the model again") from error
    evaluation = Evaluation(folder, values["name"], values)
    _check_pictures(evaluation, folder)
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
        (("data", "class_names"), "the classes", "evaluate both on the same copy of the data set"),
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
                names = [str(item.folder or item.name) for item in (first, other)]
                raise ReportError(
                    f"{names[0]} and {names[1]} do not compare, {what} differs: {its} against {value}; {advice}"
                )


def in_order(evaluations: list[Evaluation]) -> list[Evaluation]:
    """The rows from noise to the ceiling.

    Rows of the same name have their folder's name added, or as much of its path as distinguishes them. Rows without a
    folder are numbered.
    """
    named = Counter(evaluation.name for evaluation in evaluations)
    distinct: list[Evaluation] = []
    for evaluation in evaluations:
        if named[evaluation.name] > 1:
            alike = [other for other in evaluations if other.name == evaluation.name]
            paths = [other.folder for other in alike if other.folder]
            number = 1 + next(index for index, other in enumerate(alike) if other is evaluation)
            ending = _ending(evaluation.folder, paths) if evaluation.folder else str(number)
            evaluation = replace(evaluation, name=f"{evaluation.name} ({ending})")
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


def _get(values: Any, *keys: str) -> Any:
    """The value under nested ``keys``; None where it, or anything on the way to it, is absent."""
    for key in keys:
        values = cast(dict[str, Any], values).get(key) if isinstance(values, dict) else None
    return values


def _check_complete(path: Path, values: dict[str, Any]) -> None:
    for section, keys in REQUIRED.items():
        missing = [key for key in keys if _get(values, *filter(None, [section]), key) is None]
        if missing:
            names = ", ".join(f"{section}.{key}" if section else key for key in missing)
            raise ReportError(f"{path} lacks {names}; evaluate the model again")
    name, kind = values["name"], values["kind"]
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ReportError(f"{path} has the name {name!r}; a row's name is one line of text")
    if kind not in KINDS:
        raise ReportError(f"{path} is of kind {kind!r}; the kinds are {', '.join(KINDS)}")
    if problem := find_problem(values, report_schema()["$defs"]["evaluation"]):
        raise ReportError(f"{path}: {problem}; evaluate the model again")
    if kind == "diffusion" and not values.get("model"):
        raise ReportError(f"{path} lacks model, which tells pixels from latents; evaluate the model again")
    for net in ("inception", "classifier"):
        # A distance whose network is not named cannot be compared with anything.
        if _get(values, "metrics", net) and not _get(values, "features", net, "weights_sha256"):
            raise ReportError(
                f"{path} has metrics.{net} but lacks features.{net}.weights_sha256; evaluate the model again"
            )


def _check_pictures(evaluation: Evaluation, folder: Path) -> None:
    for name, file in evaluation.picture_files().items():
        path = folder / file
        if path.parent != folder or not path.is_file():
            raise ReportError(f"{folder / FILE} names the picture {path.name} ({name}), which is not in its folder")
        with open(path, "rb") as picture:
            if not picture.read(len(PNG)).startswith((PNG, b"GIF8")):
                raise ReportError(f"{path} is no PNG and no GIF; evaluate the model again")
