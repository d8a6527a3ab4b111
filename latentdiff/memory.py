"""Memory of this machine, or of the container that the process runs in where that has less."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MEMINFO, OWN_GROUPS, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def total_memory() -> int | None:
    """Bytes of memory that this process can have at most; None where the system does not say."""
    found = [group.limit for group in _groups()]
    with suppress(AttributeError, ValueError, OSError):  # no such question on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=None)


def free_memory() -> int | None:
    """Bytes of memory that are free for this process; None where the system does not say."""
    found = [max(0, group.limit - group.used) for group in _groups()]
    words = (line.split() for line in _read(MEMINFO).splitlines())
    found += [1024 * int(line[1]) for line in words if line[:1] == ["MemAvailable:"]]
    return min(found, default=None)


@dataclass(frozen=True)
class _Group:
    """A control group of Linux with a limit, as a container is one: its limit and its use of memory in bytes."""

    limit: int
    used: int


def _groups() -> Iterator[_Group]:
    """The groups with a limit that this process is in: each is within the next, and all limits hold."""
    for line in _read(OWN_GROUPS).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:  # version 2
            root, names = GROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):  # version 1
            root, names = GROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # A container may see its own group as the root, under a path that is the host's.
        folder = root / path.lstrip("/")
        for each in (folder, *(parent for parent in folder.parents if parent.is_relative_to(root))):
            limit, used = (_read(each / name).strip() for name in names[:2])
            if limit.isdigit() and used.isdigit():
                yield _Group(int(limit), int(used) - _cached(each / "memory.stat", names[2]))


def _cached(statistics: Path, name: str) -> int:
    """Bytes of files that are kept in memory, and given up when others need it."""
    lines = (line.split() for line in _read(statistics).splitlines())
    return next((int(words[1]) for words in lines if words[:1] == [name]), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
