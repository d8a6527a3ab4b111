"""``last.ckpt`` is whole or noticed not to be; the one before it is kept."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from latentdiff import run_checkpoint
from latentdiff.errors import CheckpointError


def state(images_seen):
    return {"state_dict": {"w": torch.full((4,), float(images_seen))}, "latentdiff": {"images_seen": images_seen}}


@pytest.fixture
def path(tmp_path):
    for images_seen in (100, 200):
        run_checkpoint.save(state(images_seen), tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def flip(path, byte):
    content = bytearray(path.read_bytes())
    content[byte] ^= 4
    path.unlink()  # a second name for it keeps its content
    path.write_bytes(content)


def test_the_last_two_are_kept(path):
    assert sorted(os.listdir(path.parent)) == ["last.ckpt", "previous.ckpt"]
    assert run_checkpoint.read(path)["latentdiff"]["images_seen"] == 200
    assert run_checkpoint.read(path.with_name("previous.ckpt"))["latentdiff"]["images_seen"] == 100


def test_a_damaged_one_offers_the_one_before(path):
    flip(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="does not match its digest") as caught:
        run_checkpoint.read(path)
    *_, offer, command = str(caught.value).splitlines()
    assert offer == "The one before it is whole, of 100 images. To go on from there:"
    assert len(str(caught.value).splitlines()) == 3
    assert os.system(command) == 0
    assert run_checkpoint.read(path)["latentdiff"]["images_seen"] == 100


def test_two_damaged_ones_are_told(path):
    flip(path, -200)
    flip(path.with_name("previous.ckpt"), 300)
    with pytest.raises(CheckpointError, match=r"previous\.ckpt, the one before it, is damaged too"):
        run_checkpoint.read(path)
    path.with_name("previous.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged or no checkpoint of a run") as caught:
        run_checkpoint.read(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_save_that_was_killed_between_its_two_renames_is_mended_by_the_next(path):
    path.with_name("previous.ckpt").unlink()
    os.link(path, path.with_name("previous.ckpt"))
    os.link(path, path.with_name(".previous.ckpt"))
    run_checkpoint.save(state(300), path)
    assert sorted(os.listdir(path.parent)) == ["last.ckpt", "previous.ckpt"]
    assert run_checkpoint.read(path)["latentdiff"]["images_seen"] == 300
    assert run_checkpoint.read(path.with_name("previous.ckpt"))["latentdiff"]["images_seen"] == 200


def test_without_hard_links_the_last_is_kept_alone(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("the file system has no links")

    monkeypatch.setattr(os, "link", refuse)
    for images_seen in (100, 200):
        run_checkpoint.save(state(images_seen), tmp_path / "last.ckpt")
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert run_checkpoint.read(tmp_path / "last.ckpt")["latentdiff"]["images_seen"] == 200


class Malice:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("archive", [True, False])
def test_no_checkpoint_runs_code_whatever_the_environment_says(tmp_path, monkeypatch, archive):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, mark = tmp_path / "last.ckpt", str(tmp_path / "mark")
    if archive:
        torch.save({**state(1), "more": Malice(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Malice(mark)))
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        run_checkpoint.read(path)
    assert not os.path.exists(mark)


def test_what_is_no_checkpoint_is_refused_and_an_earlier_versions_is_noted(tmp_path, capsys):
    path = tmp_path / "last.ckpt"
    for content in ({"state_dict": {}}, [1], {**state(1), "latentdiff": {}}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="is no checkpoint of a run"):
            run_checkpoint.read(path)
    torch.save(state(7), path)
    assert run_checkpoint.read(path)["latentdiff"]["images_seen"] == 7
    assert "has no digest" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        run_checkpoint.read(tmp_path / "absent.ckpt")
