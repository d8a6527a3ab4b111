"""Digests cover every bit of a file, and what has one is told from what has none."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from latentdiff import digest
from latentdiff.digest import DamagedFileError


def tensors_file(path, header=None):
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor([3])}
    save_file(tensors, path, {"latentdiff": digest.header_with_digest(header or {"format": 1, "name": "Kleid é"})})
    digest.sign_tensors(path)
    return path


def json_file(path):
    path.write_bytes(digest.json_with_digest({"schema": 1, "rows": [1.5, None], "name": "é"}, ensure_ascii=False))
    return path


def archive(path):
    torch.save({"weight": torch.arange(6.0), "steps": 3}, path)
    digest.sign_archive(path)
    return path


def plain_tensors(path):
    save_file({"weight": torch.arange(6.0)}, path, {"latentdiff": json.dumps({"format": 1})})
    return path


def check_tensors(path):
    """What every reader of safetensors does: check the digest, then read the header."""
    signed = digest.check_tensors(path)
    with safe_open(path, framework="pt") as file:
        json.loads(file.metadata()["latentdiff"])
    return signed


KINDS = {
    "tensors": (tensors_file, check_tensors),
    "json": (json_file, lambda path: digest.read_json(path)[1]),
    "archive": (archive, digest.check_archive),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_noticed_wherever_it_is(kind, tmp_path):
    make, check = KINDS[kind]
    whole = make(tmp_path / "file").read_bytes()
    assert check(tmp_path / "file")
    missed = []
    # Every bit was tried once; an odd stride meets each of a byte's eight.
    for place in range(0, 8 * len(whole), 37):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / "file").write_bytes(damaged)
        try:
            check(tmp_path / "file")
        except Exception:
            continue
        missed.append(place)
    assert not missed


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_or_longer_is_damaged(kind, tmp_path):
    make, check = KINDS[kind]
    whole = make(tmp_path / "file").read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:-71], whole + b"\0", whole[:10], b""):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(Exception):  # noqa: B017  the library that reads on may be the one that says it
            check(tmp_path / "file")


def test_a_digest_is_the_sha256_of_the_file_without_it(tmp_path):
    plain, signed = plain_tensors(tmp_path / "plain"), tmp_path / "signed"
    before = hashlib.sha256(plain.read_bytes()).hexdigest()
    assert digest.check_tensors(plain) is None
    assert digest.file_digest(plain) == before
    digest.add_digest(plain, signed)
    assert digest.check_tensors(signed) == digest.file_digest(signed) == before
    assert signed.stat().st_size == plain.stat().st_size + digest.FIELD_LENGTH
    with safe_open(signed, framework="pt") as file:
        assert json.loads(file.metadata()["latentdiff"]) == {"digest": before, "format": 1}
        assert torch.equal(file.get_tensor("weight"), torch.arange(6.0))
    with pytest.raises(ValueError, match="has a digest"):
        digest.add_digest(signed, tmp_path / "twice")


def test_a_file_that_is_written_with_a_digest_is_the_one_that_is_given_it_later(tmp_path):
    tensors = {"weight": torch.arange(6.0)}
    save_file(tensors, tmp_path / "plain", {"latentdiff": json.dumps({"format": 1})})
    digest.add_digest(tmp_path / "plain", tmp_path / "later")
    save_file(tensors, tmp_path / "at once", {"latentdiff": digest.header_with_digest({"format": 1})})
    digest.sign_tensors(tmp_path / "at once")
    assert (tmp_path / "later").read_bytes() == (tmp_path / "at once").read_bytes()


def test_json_without_a_digest_is_read_and_told(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"schema": 1}')
    assert digest.read_json(path) == ({"schema": 1}, False)
    assert digest.read_json(json_file(path)) == ({"schema": 1, "rows": [1.5, None], "name": "é"}, True)
    path.write_text(json.dumps(json.loads(path.read_text())))  # written anew by another program
    with pytest.raises(DamagedFileError):
        digest.read_json(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested"):
        digest.read_json(path)


def test_an_archive_with_a_digest_is_one_for_everybody_else(tmp_path):
    path = archive(tmp_path / "last.ckpt")
    assert torch.load(path, weights_only=True)["steps"] == 3
    assert zipfile.ZipFile(path).comment.startswith(b"sha256:")
    torch.save({"steps": 3}, path)
    assert not digest.check_archive(path)
