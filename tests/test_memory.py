"""How much memory there is, in a container with less than the machine too."""

from __future__ import annotations

import pytest

from latentdiff import memory

MIB = 2**20


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Describe a machine of 2 GiB free by files, and control groups by a path and the numbers in their files."""

    def describe(own, groups):
        (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {2048 * 1024} kB\n")
        (tmp_path / "own").write_text(own)
        for path, values in groups.items():
            folder = tmp_path / "groups" / path
            folder.mkdir(parents=True, exist_ok=True)
            for name, value in values.items():
                (folder / name).write_text(f"{value}\n")
        monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
        monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
        monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")

    return describe


def v2(limit, used, cached=0):
    return {"memory.max": limit, "memory.current": used, "memory.stat": f"anon 7\ninactive_file {cached}"}


def v1(limit, used, cached=0):
    names = "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"
    return dict(zip(names, (limit, used, f"total_inactive_file {cached}"), strict=True))


@pytest.mark.parametrize(
    ("own", "groups", "total", "free"),
    [
        ("0::/a/b", {"a/b": v2(512 * MIB, 100 * MIB)}, 512, 412),
        ("0::/a/b", {"a/b": v2(512 * MIB, 100 * MIB, 60 * MIB)}, 512, 472),
        ("0::/a/b", {"a": v2(256 * MIB, 156 * MIB), "a/b": v2("max", 100 * MIB)}, 256, 100),
        ("0::/a", {"a": v2(64 * MIB, 65 * MIB)}, 64, 0),
        ("0::/", {".": v2(300 * MIB, 0)}, 300, 300),
        ("5:cpu:/a\n4:memory:/a", {"memory/a": v1(512 * MIB, 12 * MIB, 2 * MIB), "cpu/a": v1(1, 0)}, 512, 502),
        ("4:memory:/docker/of/the/host", {"memory": v1(128 * MIB, 28 * MIB)}, 128, 100),
    ],
)
def test_the_least_limit_of_a_container_counts(machine, own, groups, total, free):
    machine(own + "\n", groups)
    assert (memory.total_memory(), memory.free_memory()) == (total * MIB, free * MIB)


@pytest.mark.parametrize(
    ("own", "groups"), [("0::/a", {"a": v2("max", 5)}), ("4:memory:/a", {"memory/a": v1(2**63 - 4096, 5)}), ("", {})]
)
def test_without_a_limit_it_is_the_machine(machine, own, groups):
    machine(own, groups)
    assert memory.free_memory() == 2048 * MIB
    assert 2**20 < memory.total_memory() < 2**50


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    for name in ("MEMINFO", "OWN_GROUPS", "GROUPS"):
        monkeypatch.setattr(memory, name, tmp_path / "absent")
    assert memory.free_memory() is None
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.total_memory() is None
