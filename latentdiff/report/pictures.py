"""Pictures as a page wants them: bytes inside the page, and a file beside its Markdown."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass

from latentdiff.report.figure_style import WIDTH

GRID_SIDE = 520  # Pixels on the page that a grid of images is enlarged to, by a whole factor.


@dataclass(frozen=True)
class Picture:
    """A figure or grid of images: the bytes for the page (``dark`` where the dark page has its own), and for Markdown.

    Args:
        title: Heading.
        caption: What it shows and how to read it.
        light: SVG, PNG or GIF, as a data URI.
        dark: SVG for the dark page, or None.
        data: The file beside the Markdown, a PNG or GIF.
        file: That file's name.
        width: On the page, in pixels.
    """

    title: str
    caption: str
    light: str
    dark: str | None
    data: bytes
    file: str
    width: int


def plot(title: str, caption: str, draw: Callable[..., bytes | None], file: str) -> Picture | None:
    """A figure from ``draw(theme=..., format=...)``; None where there is nothing to draw."""
    light, dark, png = draw(theme="light", format="svg"), draw(theme="dark", format="svg"), draw(format="png")
    if not (light and dark and png):
        return None
    return Picture(title, caption, data_uri(light, "svg+xml"), data_uri(dark, "svg+xml"), png, file, round(96 * WIDTH))


def image_grid(title: str, caption: str, data: bytes, file: str) -> Picture:
    """A grid of images, PNG or GIF, enlarged by a whole factor; ``file`` without its ending."""
    kind, width = ("gif", struct.unpack("<H", data[6:8])[0]) if data.startswith(b"GIF8") else ("png", _png_width(data))
    width *= max(1, GRID_SIDE // width)
    return Picture(title, caption, data_uri(data, kind), None, data, f"{file}.{kind}", width)


def data_uri(data: bytes, kind: str) -> str:
    """An image inside the page; ``kind`` as in its MIME type: ``png``, ``gif`` or ``svg+xml``."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _png_width(data: bytes) -> int:
    return struct.unpack(">I", data[16:20])[0]  # The header chunk follows the signature.
