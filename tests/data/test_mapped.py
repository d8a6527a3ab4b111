"""Images that are larger than the memory: selections in files of their own, batches from the file, memory back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from latentdiff.data import mapped
from latentdiff.data.dataset import ImageDataset
from latentdiff.data.loader import Batches, StreamedBatches, batches_on


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def images(tmp_path):
    """[400, 3, 8, 8], mapped from a file; and the same in memory."""
    plain = torch.randint(256, (400, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "images.bin").write_bytes(plain.numpy().tobytes())
    return mapped.map_file(tmp_path / "images.bin", (400, 3, 8, 8)), plain


@pytest.fixture
def little(monkeypatch):
    """Above so many bytes a selection is a file: that of 26 images."""
    monkeypatch.setattr(mapped, "most_in_memory", lambda: 5000)


def data_of(images):
    labels = torch.arange(len(images)) % 5
    return ImageDataset(
        images, labels, "own", "train", "full", tuple("abcde"), files=tuple(map(str, range(len(images))))
    )


def test_a_large_selection_is_a_file_that_the_next_run_finds(images, little, tmp_path, capsys):
    stored, plain = images
    indices = torch.arange(0, 400, 3)
    taken = data_of(stored).take(indices)
    assert torch.equal(taken.images, plain[indices])
    (path,) = tmp_path.glob("taken-*.bin")
    assert mapped.file_of(taken.images) == path
    assert "writing 134 of 400 images to" in capsys.readouterr().out
    again = data_of(stored).take(indices)
    assert not capsys.readouterr().out
    assert again.fingerprint == data_of(plain).take(indices).fingerprint
    # Of a selection, and of a part of one.
    part = taken.images[10:].contiguous()
    assert torch.equal(mapped.select(taken.images[10:], torch.arange(0, 100, 2)), part[::2][:50])
    # A damaged one is made again.
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(data_of(stored).take(indices).images, plain[indices])
    assert len(list(tmp_path.glob("taken-*.bin"))) == 2
    few = mapped.select(stored, torch.tensor([5, 3]))
    assert mapped.file_of(few) is None
    assert torch.equal(few, plain[[5, 3]])


def test_mirror_images_of_a_large_set_are_a_file(images, little):
    stored, plain = images
    both = mapped.with_mirrored(stored)
    assert mapped.file_of(both) is not None
    assert torch.equal(both, torch.cat([plain, plain.flip(-1)]))
    assert torch.equal(mapped.with_mirrored(plain[:3]), torch.cat([plain[:3], plain[:3].flip(-1)]))


def test_streamed_batches_are_the_resident_ones(images):
    stored, plain = images
    labels = torch.arange(400)
    options = {"batch_size": 24, "seed": 3}
    ours = batches_on(torch.device("cpu"), (stored, labels), resident=False, **options)
    theirs = batches_on(torch.device("cpu"), (plain, labels), resident=True, **options)
    assert (type(ours), type(theirs)) == (StreamedBatches, Batches)
    # In order, over the end of a pass, and after jumps forwards and back, as after a resume.
    for seen in (0, 24, 48, 384, 408, 432, 24, 4008):
        for one, other in zip(ours.at(seen), theirs.at(seen), strict=True):
            assert torch.equal(one, other)
    shares = [StreamedBatches(stored, device="cpu", **options, rank=rank, world_size=2) for rank in range(2)]
    assert torch.equal(torch.cat([share.at(48)[0] for share in shares]), theirs.at(48)[0])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
def test_memory_that_was_read_is_given_back(tmp_path):
    size = 48 * 2**20
    with open(tmp_path / "large.bin", "wb") as file:
        file.truncate(size)
    tensor = mapped.map_file(tmp_path / "large.bin", (size // 12288, 3, 64, 64))
    before = resident()
    assert not int(tensor.sum(dtype=torch.int64))
    assert resident() - before > size // 2
    mapped.release(tensor)
    assert resident() - before < size // 8
    batches = StreamedBatches(tensor, device="cpu", batch_size=64, seed=0)
    for seen in range(0, len(tensor), 64):
        batches.at(seen)
    assert resident() - before < size // 4
