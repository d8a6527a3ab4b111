"""The mark of a folder that latentdiff made: which stage wrote into it, whether it ended, and which files are its own.

The mark ``.latentdiff`` is set on a folder that was new or empty alone. A folder without it holds somebody's work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from latentdiff.errors import FolderError
from latentdiff.files import is_temporary, write_atomically

MARKER = ".latentdiff"
# What the mark of an unfinished run says, and what it is to say in the same number of bytes.
UNFINISHED, FINISHED = b'"finished": false', b'"finished": true '
# What messages call the content of a folder, by the stage that wrote it; of any other stage it is a run of that stage.
CONTENT = {
    "sample": "set of samples",
    "evaluate": "evaluation",
    "compare": "comparison",
    "samplers": "comparison of samplers",
    "export": "export",
    "analyse": "analysis",
    "demo": "demo",
    "benchmark": "benchmark",
    "verify": "verification",
    "sweep": "sweep",
    "reproduce": "reproduction",
}
# A mark is a few lines; a larger file is something else.
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Mark:
    """What a mark says.

    Attributes:
        stage: The stage that wrote into the folder; None where an older version marked it.
        finished: Whether its last run ended well. A mark of an older version counts as finished.
        files: Names of files that it wrote, beside those that a run of the stage always writes.
    """

    stage: str | None = None
    finished: bool = True
    files: tuple[str, ...] = ()


def content_of(stage: str | None, state: str = "") -> str:
    """What a folder of a stage holds, with its article: ``an export``, ``a run of the stage diffusion``.

    Args:
        stage: The stage; None, which an older version marked, is a run.
        state: A word before it, such as ``unfinished``.
    """
    noun = CONTENT.get(stage, f"run of the stage {stage}") if stage else "run"
    words = f"{state} {noun}".strip()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def read_mark(folder: Path) -> Mark | None:
    """The mark of a folder; None where it has none."""
    path = folder / MARKER
    if path.is_symlink() or not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes()) if 0 < path.stat().st_size < MOST_BYTES else {}
    except ValueError:
        return Mark()
    if not isinstance(values, dict):
        return Mark()
    stage, files = values.get("stage"), values.get("files")
    names = [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
    return Mark(
        stage if isinstance(stage, str) else None,
        values.get("finished") is not False,
        tuple(name for name in names if _is_plain(name)),
    )


def write_mark(folder: Path, mark: Mark) -> None:
    """Set or renew the mark."""
    text = json.dumps(asdict(mark), indent=1) + "\n"
    write_atomically(folder / MARKER, lambda path: path.write_text(text))


def mark_finished(folder: Path) -> None:
    """Note in the mark that the run ended well. It is written in place, so that a full disk cannot keep it out."""
    with open(folder / MARKER, "r+b") as file:
        content = file.read()
        place = content.find(UNFINISHED)
        if place >= 0:
            file.seek(place)
            file.write(FINISHED)
            file.flush()
            os.fsync(file.fileno())


def is_new_or_empty(folder: Path) -> bool:
    """Whether a folder is missing, or holds nothing but temporary files of latentdiff."""
    return not folder.is_dir() or all(is_temporary(path.name) for path in folder.iterdir())


def claim(folder: Path | str, names: Iterable[str], stage: str) -> None:
    """Make a folder ready for files of these names, and note in its mark that they are latentdiff's.

    Args:
        folder: A folder that is new or empty, which is then marked; or one with a mark, whose own files are replaced;
            or any other, which must have no file of these names.
        names: The files' names.
        stage: What the mark of a new folder says.

    Raises :class:`~latentdiff.errors.FolderError` where a file of another's would be lost.
    """
    folder, names = Path(folder), list(names)
    mark = read_mark(folder)
    if mark is None and is_new_or_empty(folder):
        mark = Mark(stage)
    if mark is not None:
        write_mark(folder, replace(mark, files=tuple(dict.fromkeys([*mark.files, *names]))))
    elif there := [name for name in names if (folder / name).exists() or (folder / name).is_symlink()]:
        raise FolderError(
            f"{folder} is no folder of latentdiff, and {', '.join(there[:3])} in it would be lost: move "
            "it away, or name another folder"
        )


def write_files(folder: Path | str, files: Mapping[str, bytes], stage: str) -> None:
    """Write files into a folder, each of them whole, and never over another's: see :func:`claim`.

    Args:
        folder: Where to.
        files: The contents by their names.
        stage: What the mark of a new folder says.
    """
    claim(folder, files, stage)
    for name, data in files.items():
        write_atomically(Path(folder) / name, lambda path, data=data: path.write_bytes(data))


def _is_plain(name: str) -> bool:
    """Whether a name stays inside the folder: the mark is read from a disk, where anybody may have written it."""
    return bool(name) and name not in (".", "..", MARKER) and "/" not in name and "\\" not in name and "\0" not in name
