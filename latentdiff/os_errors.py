"""What the operating system refuses, in words: which path, why, and what to do. Imports no torch."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

LONGEST_PATH = 160
# Less free space than this is a full disk, for a library that says only that writing failed.
FULL_DISK_BYTES = 1 << 20
ELSEWHERE = "free some space, or name a folder on another disk"
# What is wrong with a path, and the remedy, by the number of the system's error.
WORDS = {
    errno.ENOSPC: ("no space is left on the disk of {path}", ELSEWHERE),
    errno.EDQUOT: ("your quota on the disk of {path} is used up", ELSEWHERE),
    errno.EFBIG: ("{path} became larger than a file may be there", "name a folder on another disk"),
    errno.EACCES: ("you may not read or write {path}", "change its permissions, or name another path"),
    errno.EPERM: ("you may not change {path}", "change its permissions or owner, or name another path"),
    errno.EROFS: ("the disk of {path} is read-only", "name a folder on another disk"),
    errno.ENAMETOOLONG: ("a name in {path} is too long for the file system", "choose a shorter one"),
    errno.ELOOP: ("{path} goes through links that lead in a circle", "repair the link, or name another path"),
    errno.ENOTDIR: ("{path} goes through a file, where a folder should be", "name another path"),
    errno.EISDIR: ("{path} is a folder, where a file should be", "move it away, or name another path"),
    errno.EEXIST: ("{path} is there already, and is not a folder", "move it away, or name another path"),
    errno.ENOENT: ("{path} is not there", "check its spelling, and that its disk is mounted"),
    errno.ENOTEMPTY: ("{path} holds other files", "move them away, or name another path"),
    errno.EMFILE: ("too many files are open to open {path}", "raise the limit: ulimit -n 4096"),
    errno.ENFILE: ("too many files are open on this machine to open {path}", "end other programs"),
}
DISK_FAILS = ("the disk of {path} cannot be read or written ({reason})", "check that it is mounted and works")


def describe_os_error(error: OSError) -> str:
    """One sentence for a person: the path, what is wrong with it, and what to do.

    Args:
        error: Any OSError; one without a number or a path keeps its own words.
    """
    path = error.filename2 or error.filename
    if path is None or error.errno is None or isinstance(path, int):
        number = error.errno
        if number in (errno.ENOSPC, errno.EDQUOT):
            return f"no space is left on a disk: {ELSEWHERE}"
        return str(error) or type(error).__name__
    path = os.fsdecode(path)
    link, number = _broken_link(Path(path))
    if link and number == errno.ENOENT:
        return f"{_short(str(link))} is a broken link: mount its target or repair it, or name another path"
    what, remedy = WORDS.get(number if link else error.errno, DISK_FAILS)
    what = what.format(path=_short(path), reason=error.strerror or error)
    return f"{what}: {remedy}"


def hidden_os_error(error: Exception, path: Path) -> OSError | None:
    """The OSError that a library hid in an exception of its own while it wrote ``path``; None where it is no such one.

    safetensors (in Rust) and torch (in C++) write files themselves.
    """
    text = str(error)
    if found := re.search(r"\(os error (\d+)\)", text):
        number = int(found.group(1))
    elif "PytorchStreamWriter" in text or "PyTorchStreamWriter" in text or "inline_container" in text:
        number = errno.ENOSPC if _is_full(path.parent) else errno.EIO
    elif re.search(r"Parent directory .* does not exist", text):
        number = errno.ENOENT
    else:
        return None
    return OSError(number, os.strerror(number), str(path))


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < FULL_DISK_BYTES
    except OSError:
        return False


def _broken_link(path: Path) -> tuple[Path | None, int]:
    """The first part of a path that is a link to nothing or in a circle, and the error's number; else None and 0."""
    for part in [*reversed(path.parents), path]:
        try:
            if part.is_symlink():
                part.stat()
        except OSError as error:
            return (part, error.errno) if error.errno in (errno.ENOENT, errno.ELOOP) else (None, 0)
    return None, 0


def _short(path: str) -> str:
    """A path with its middle left out where it is very long, and without what a terminal would obey."""
    path = "".join(letter if letter.isprintable() else "?" for letter in path)
    if len(path) <= LONGEST_PATH:
        return path
    half = LONGEST_PATH // 2
    return f"{path[:half]}…{path[-half:]}"
