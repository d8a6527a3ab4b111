"""Which files are images: by their first bytes, and by their suffix where these are not read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache


def _suffixes(text: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in text.split())


# Files with these suffixes are taken for images without a look. The decoder finds out.
IMAGE_SUFFIXES = _suffixes(
    "apng avif bmp gif j2k jfif jp2 jpe jpeg jpf jpg jpx pbm pgm png pnm ppm qoi tga tif tiff webp"
)
HEIC_SUFFIXES = _suffixes("heic heif hif")
# Raw photographs. Many begin like a TIFF, and what a TIFF reader finds there is a preview.
RAW_SUFFIXES = _suffixes("3fr arw cr2 cr3 dng erf iiq nef nrw orf pef raf raw rw2 srw")
# Files that nobody takes for a picture. A folder that holds nothing else lost no picture.
DOCUMENT_SUFFIXES = {""} | _suffixes(
    "bat bib c cfg cpp css csv db doc docx gz h h5 htm html ini ipynb js json jsonl lmdb lnk log mat md npy npz odt "
    "parquet pdf pickle pkl pt pth py rst safetensors sh sql tar tex tfrecord tgz toml torrent tsv txt url xls xlsx "
    "xml yaml yml zip"
)
# What systems leave in folders, in lower case. Names that begin with a dot are left out too.
LITTER = frozenset({"__macosx", "@eadir", "$recycle.bin", "desktop.ini", "ehthumbs.db", "thumbs.db", "icon\r"})

HEADER = 64  # Bytes that tell the kind of a file.
INSTALL_HEIC = 'pip install "latentdiff[heic]"'
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    *((start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"qoif", "QOI"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
READABLE = frozenset({"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP"})


class BadImageError(Exception):
    """A file is not a usable image. The message says why."""


def kind_of(header: bytes) -> str | None:
    """The kind of image that begins with ``header``, by PIL's name, whatever the file is called; None for no image.

    A Targa file has no mark, so it is known by its suffix alone.
    """
    for start, kind in _STARTS:
        if header.startswith(start):
            return kind
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WEBP"
    if header[:2] == b"BM" and int.from_bytes(header[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if header[4:8] == b"ftyp":
        length = int.from_bytes(header[:4], "big")
        brands = {header[place : place + 4] for place in (8, *range(16, min(length, len(header)), 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & _HEIC_BRANDS else None
    return "PPM" if re.match(rb"P[1-6][\s#]|Pf\s", header) else None


def is_litter(parts: Iterable[str]) -> bool:
    """Whether a path of these parts is hidden, or was left behind by a system: ``.DS_Store``, ``Thumbs.db``."""
    return any((part[0] == "." and part not in (".", "..")) or part.lower() in LITTER for part in parts)


def suffix_of(name: str) -> str:
    """The suffix in lower case with its dot; empty where there is none."""
    return os.path.splitext(name)[1].lower()


@cache
def can_read_heic() -> bool:
    """Whether HEIC can be read: whether pillow-heif is installed. It is then registered with PIL."""
    try:
        from pillow_heif import register_heif_opener  # an extra
    except ImportError:
        return False
    register_heif_opener()
    return True


def image_kind(name: str, header: Callable[[], bytes]) -> str | None:
    """The kind of a file, by its suffix, else by its first bytes, which ``header`` reads; None for no image.

    ``HEIF`` and ``JPEG XL`` may be unreadable: see :func:`is_readable`.
    """
    suffix = suffix_of(name)
    if suffix in IMAGE_SUFFIXES:
        return "by suffix"
    if suffix in HEIC_SUFFIXES:
        return "HEIF"
    return None if suffix in RAW_SUFFIXES else kind_of(header())


def is_readable(kind: str | None) -> bool:
    """Whether images of a kind from :func:`image_kind` can be read here."""
    return can_read_heic() if kind == "HEIF" else kind in ("by suffix", *READABLE)


def count_by_suffix(left_out: Iterable[tuple[str, str | None]]) -> str:
    """Count files (name, kind) by suffix, such as ``20 .heic (pip install ...), 5 .xyz``, the most frequent first."""
    counts, hints = Counter[str](), {}
    for name, kind in left_out:
        suffix = suffix_of(name)
        counts[suffix] += 1
        if kind == "HEIF":
            hints[suffix] = f" ({INSTALL_HEIC})"
        elif suffix in RAW_SUFFIXES:
            hints[suffix] = " (raw photographs: export them as JPEG)"
    ranked = sorted(counts, key=lambda suffix: (-counts[suffix], suffix))
    parts = [f"{counts[suffix]:,} {suffix or 'without a suffix'}{hints.get(suffix, '')}" for suffix in ranked]
    return ", ".join([*parts[:10], "..."] if len(parts) > 10 else parts)
