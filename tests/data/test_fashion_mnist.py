from __future__ import annotations

import gzip
import lzma
import os
import struct
from pathlib import Path

import pytest
import torch

from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.data.fashion_mnist import EMBEDDED, EMBEDDED_COUNTS, FASHION_MNIST
from latentdiff.data.idx import FILES
from latentdiff.errors import DataError

FOLDER = FASHION_MNIST.folder
FULL = Path(os.environ.get("LATENTDIFF_DATA", "data")).resolve()


def write_idx(path: Path, array: torch.Tensor, cut: int = 0) -> None:
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.numpy().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content[: len(content) - cut])


def test_embedded_slice_is_balanced_real_and_small():
    train, test = (load_split(DataConfig(source="embedded"), split) for split in ("train", "test"))
    assert train.images.shape == (10_000, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert test.images.shape == (2_000, 1, 28, 28)
    assert torch.bincount(train.labels).tolist() == [1_000] * 10
    assert torch.bincount(test.labels).tolist() == [200] * 10
    assert sum(file.stat().st_size for file in EMBEDDED.rglob("*")) < 6e6
    assert "not the full set" in train.describe()
    assert (EMBEDDED / "LICENSE").is_file()


@pytest.mark.skipif(not FASHION_MNIST.is_present(FULL), reason="the full set is not on this machine")
def test_embedded_slice_is_the_first_of_each_class_of_the_full_set():
    for split, per_class in (("train", 1_000), ("test", 200)):
        full = FASHION_MNIST.read(FULL, split)
        part = FASHION_MNIST.read(EMBEDDED, split, "embedded", EMBEDDED_COUNTS[split])
        keep = torch.cat([torch.nonzero(full.labels == k)[:per_class, 0] for k in range(10)]).sort().values
        assert torch.equal(full.images[keep], part.images)
        assert torch.equal(full.labels[keep], part.labels)


def test_auto_takes_the_slice_only_where_nothing_else_can_be_had(tmp_path):
    assert load_split(DataConfig(root=str(tmp_path)), "test").source == "embedded"
    with pytest.raises(DataError, match=r"--data\.source embedded"):
        load_split(DataConfig(root=str(tmp_path), source="full"), "test")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_set(tmp_path, monkeypatch):
    """A faithful miniature of the full layout: plain training files, gzipped test files."""
    monkeypatch.setitem(FASHION_MNIST.counts, "train", 30)
    monkeypatch.setitem(FASHION_MNIST.counts, "test", 20)
    for split, n in (("train", 30), ("test", 20)):
        for name, array in zip(
            FILES[split],
            (torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8), (torch.arange(n) % 10).to(torch.uint8)),
            strict=True,
        ):
            write_idx(tmp_path / FOLDER / name, array)
    for name in FILES["test"]:
        path = tmp_path / FOLDER / name
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return tmp_path


def test_full_layout_plain_and_gzipped(small_set, monkeypatch):
    monkeypatch.setenv("LATENTDIFF_DATA", str(small_set))
    train, test = (load_split(DataConfig(), split) for split in ("train", "test"))
    assert (len(train), len(test), train.source) == (30, 20, "full")
    assert train.fingerprint != test.fingerprint
    assert train.fingerprint == load_split(DataConfig(), "train").fingerprint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "truncated"),
        (lambda path: path.write_bytes(b""), "not an IDX file"),
        (lambda path: path.write_bytes(b"PNG" * 9), "not an IDX file"),
        (lambda path: path.unlink(), "is missing while other files"),
        (lambda path: write_idx(path, torch.zeros(29, 28, 28, dtype=torch.uint8)), "was expected"),
    ],
)
def test_damage_is_named_and_nothing_is_overwritten(small_set, damage, message):
    path = small_set / FOLDER / FILES["train"][0]
    damage(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(DataError, match=message) as error:
        load_split(DataConfig(root=str(small_set)), "train")
    assert path.name in str(error.value)
    assert (path.read_bytes() if path.exists() else None) == before


def test_damaged_packed_files_and_wrong_label(small_set):
    packed = small_set / FOLDER / f"{FILES['test'][0]}.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        load_split(DataConfig(root=str(small_set)), "test")
    packed = packed.rename(packed.with_suffix(".xz"))
    packed.write_bytes(lzma.compress(gzip.decompress(whole)))
    assert len(load_split(DataConfig(root=str(small_set)), "test")) == 20
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        load_split(DataConfig(root=str(small_set)), "test")
    write_idx(small_set / FOLDER / FILES["train"][1], torch.full((30,), 10, dtype=torch.uint8))
    with pytest.raises(DataError, match="label 10"):
        load_split(DataConfig(root=str(small_set)), "train")


def test_the_slice_is_read_once_and_is_each_callers_own():
    first, second = (load_split(DataConfig(source="embedded"), "test") for _ in range(2))
    first.images.zero_()
    assert int(second.images.max()) == 255
    assert int(load_split(DataConfig(source="embedded"), "test").images.max()) == 255
