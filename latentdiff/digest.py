"""Digests that files carry of themselves: written with the file, and checked whenever it is read. Imports no torch.

The digest is the SHA-256 of the file without the place that holds it. It covers every other byte. A file that is given
a digest later keeps the SHA-256 that it had before, by which a model is known (:func:`file_digest`).

A file of 60 MB takes SHA-256 37 ms on one core with SHA instructions (x86 since 2019, ARMv8), blake2b 57 ms and CRC-32
26 ms. Parts of it in two threads took no less. SHA-256 also tells two models apart, so one pass serves both ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

# How the header of a safetensors file of latentdiff begins: with one key, whose value is JSON in a string.
HEADER_START = b'{"__metadata__":{"latentdiff":"{'
# The digest is the first value in that JSON. The field has 88 bytes: tensors stay aligned to 8 with it and without.
FIELD = rb"\"digest\": \"%s\",       "
FIELD_LENGTH = 88
FIELD_PLACE = 8 + len(HEADER_START)
# The digest of a JSON file is its first line within the braces.
LINE = b' "digest": "%s",\n'
# The digest of a zip archive, such as a checkpoint of PyTorch, is the archive's comment.
COMMENT = b"sha256:%s"
END_OF_ARCHIVE = b"PK\5\6"
END_OF_ARCHIVE_LENGTH = 22
HEX = rb"[0-9a-f]{64}"
UNKNOWN = "0" * 64
CHUNK = 1 << 20
NOT_WHAT_WAS_WRITTEN = "its content does not match its digest"
# What was said to have no digest.
_noted: set[str] = set()


class DamagedFileError(ValueError):
    """A file does not have the content that its digest was made of."""


def note_missing_digest(path: Path | str, kind: str = "") -> None:
    """Say of a file, once, that it has no digest: an earlier version or another program wrote it.

    Args:
        path: The file.
        kind: What many files are called, of which the first alone is named.
    """
    if (kind or str(path)) not in _noted:
        _noted.add(kind or str(path))
        print(f"{path} has no digest, like files of earlier versions: damage to it would go unnoticed", flush=True)


# --- safetensors ------------------------------------------------------------------------------------------------------


def header_with_digest(header: dict[str, Any]) -> str:
    """The JSON of ``header``, which must not be empty, with room for the digest that :func:`sign_tensors` fills in."""
    field = FIELD.replace(b"\\", b"").decode() % UNKNOWN
    return "{" + field + json.dumps(header)[1:]


def sign_tensors(path: Path | str) -> None:
    """Fill the digest into a safetensors file whose header is from :func:`header_with_digest`."""
    with open(path, "rb+") as file:
        if file.read(FIELD_PLACE + FIELD_LENGTH)[FIELD_PLACE:] != FIELD % UNKNOWN.encode():
            raise ValueError(f"{path} has no place for a digest")
    digest = file_digest(path)
    with open(path, "rb+") as file:
        file.seek(FIELD_PLACE)
        file.write(FIELD % digest.encode())


def add_digest(path: Path | str, to: Path | str) -> None:
    """Write a safetensors file of latentdiff that has no digest yet to ``to``, with one; the tensors stay as they are.

    Raises ValueError for a file that has a digest already, or that latentdiff did not write.
    """
    content = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    if content[8:FIELD_PLACE] != HEADER_START or stored_digest(path) is not None:
        raise ValueError(f"{path} has a digest, or is no file of latentdiff")
    field = FIELD % hashlib.sha256(content).hexdigest().encode()
    start = struct.pack("<Q", length + FIELD_LENGTH) + HEADER_START
    Path(to).write_bytes(start + field + content[FIELD_PLACE:])


def stored_digest(path: Path | str) -> str | None:
    """The digest in the header of a safetensors file; None where it has none.

    Raises :class:`DamagedFileError` where there is what was one.
    """
    with open(path, "rb") as file:
        return _stored(file.read(FIELD_PLACE + FIELD_LENGTH))


def file_digest(path: Path | str) -> str:
    """What a file is known by: the SHA-256 of its content, in hex. A digest in its header is no part of the content."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as file:
        start = file.read(FIELD_PLACE + FIELD_LENGTH)
        try:
            own = _stored(start)
        except DamagedFileError:
            own = None
        if own is None:
            digest.update(start)
        else:
            (length,) = struct.unpack("<Q", start[:8])
            digest.update(struct.pack("<Q", (length - FIELD_LENGTH) % 2**64) + HEADER_START)
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def check_tensors(path: Path | str) -> str | None:
    """The digest of a safetensors file that fits its content; None where it has none.

    Raises :class:`DamagedFileError` where it does not fit.
    """
    stored = stored_digest(path)
    if stored is not None and file_digest(path) != stored:
        raise DamagedFileError(NOT_WHAT_WAS_WRITTEN)
    return stored


def _stored(start: bytes) -> str | None:
    """The digest in the first bytes of a safetensors file."""
    if start[8:FIELD_PLACE] != HEADER_START:
        return None
    field = start[FIELD_PLACE:]
    if found := re.fullmatch(re.escape(FIELD).replace(b"%s", b"(" + HEX + b")"), field):
        return found[1].decode()
    # One byte of the field is another: it must not pass for a file that never had a digest.
    if field.startswith(rb"\"digest\"") or re.match(rb'\\".{6}\\": \\"' + HEX, field, re.DOTALL):
        raise DamagedFileError("its digest is damaged")
    return None


# --- JSON -------------------------------------------------------------------------------------------------------------


def json_with_digest(record: dict[str, Any], **options: Any) -> bytes:
    """The JSON file of a record, which must not be empty, with its digest as the first line within the braces.

    Args:
        record: Plain values.
        options: Of ``json.dumps``.
    """
    text = json.dumps({name: value for name, value in record.items() if name != "digest"}, indent=1, **options).encode()
    return text[:2] + LINE % hashlib.sha256(text).hexdigest().encode() + text[2:]


def check_json(content: bytes) -> bool:
    """Whether the content of a JSON file has a digest, which then fits. Raises :class:`DamagedFileError` otherwise."""
    line = content[2 : 2 + len(LINE) - 2 + 64]
    if found := re.fullmatch(LINE.replace(b"%s", b"(" + HEX + b")"), line):
        if (
            content[:2] != b"{\n"
            or hashlib.sha256(content[:2] + content[2 + len(line) :]).hexdigest() != found[1].decode()
        ):
            raise DamagedFileError(NOT_WHAT_WAS_WRITTEN)
        return True
    if re.match(rb'\s*\{\s*"digest"|.{2} ".{6}": "' + HEX, content, re.DOTALL):
        raise DamagedFileError("its digest is damaged")
    return False


def read_json(path: Path | str, **options: Any) -> tuple[Any, bool]:
    """The value in a JSON file without its digest, and whether it had one.

    Args:
        path: The file.
        options: Of ``json.loads``.

    Raises OSError, or ValueError for what is damaged (:class:`DamagedFileError`) or no JSON.
    """
    content = Path(path).read_bytes()
    signed = check_json(content)
    try:
        value = json.loads(content.decode(), **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if signed:
        del value["digest"]
    return value, signed


# --- zip archives -----------------------------------------------------------------------------------------------------


def sign_archive(path: Path | str) -> None:
    """Append the digest of a zip archive without a comment, as its comment."""
    with open(path, "rb+") as file:
        file.seek(-END_OF_ARCHIVE_LENGTH, os.SEEK_END)
        if not _is_end(file.read()):
            raise ValueError(f"{path} is no zip archive, or has a comment")
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", len(COMMENT) - 2 + 64))
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with open(path, "ab") as file:
        file.write(COMMENT % digest.encode())


def check_archive(path: Path | str) -> bool:
    """Whether a zip archive has a digest, which then fits. Raises :class:`DamagedFileError` for another file."""
    size, length = os.path.getsize(path), len(COMMENT) - 2 + 64
    digest, buffer, left = hashlib.sha256(), memoryview(bytearray(CHUNK)), size - length
    with open(path, "rb", buffering=0) as file:
        file.seek(-min(size, length), os.SEEK_END)
        end = file.read()
        found = re.fullmatch(COMMENT.replace(b"%s", b"(" + HEX + b")"), end)
        if found is None:
            if _is_end(end[-END_OF_ARCHIVE_LENGTH:]):
                return False
            raise DamagedFileError("its end is missing or damaged")
        file.seek(0)
        while left and (count := file.readinto(buffer[: min(left, CHUNK)])):
            digest.update(buffer[:count])
            left -= count
    if digest.hexdigest() != found[1].decode():
        raise DamagedFileError(NOT_WHAT_WAS_WRITTEN)
    return True


def _is_end(end: bytes) -> bool:
    """Whether these are the last bytes of a zip archive without a comment."""
    return len(end) == END_OF_ARCHIVE_LENGTH and end.startswith(END_OF_ARCHIVE) and end.endswith(b"\0\0")
