"""Images as pieces of the page: each an HTML figure that carries its picture, so that no file is left behind."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape as escape_html

from PIL import Image
from torch import Tensor

from latentdiff.report.grids import grid

# Of a state that is shown for a moment: a tenth of the bytes of a PNG of noise.
QUALITY = 80


def data_uri(images: Tensor, columns: int | None = None, lossless: bool = True, min_side: int = 1) -> str:
    """uint8 images [n, c, h, w] as the address of one picture that holds them all, ``columns`` a row.

    Args:
        images: The images.
        columns: Default: about a square.
        lossless: PNG. Otherwise WebP, which is smaller.
        min_side: Enlarge the images to this side at least, for a file that is saved. The page enlarges by itself.
    """
    columns = columns or columns_of(len(images))
    # WebP blurs over the edges of pixels, and needs larger ones.
    picture = Image.fromarray(grid(images, columns, min_side=min_side if lossless else 2 * images.shape[-1]))
    buffer = io.BytesIO()
    if lossless:
        picture.save(buffer, "PNG", compress_level=6)
    else:
        picture.save(buffer, "WEBP", quality=QUALITY, method=0)
    kind = "png" if lossless else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def escape(text: str) -> str:
    """Words as they may stand in HTML, and in Gradio's templates, which obey braces."""
    return escape_html(text).replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")


def columns_of(count: int) -> int:
    """How many of ``count`` images stand in a row of a picture that is about square."""
    return math.ceil(math.sqrt(count))


def figure(
    address: str, description: str, caption: str = "", saved: tuple[str, str] | None = None, busy: bool = False
) -> str:
    """A picture with a caption, as HTML.

    Args:
        address: Of the picture; see :func:`data_uri`.
        description: What it shows, for a reader who does not see it.
        caption: A line below it.
        saved: Name and address of a file that a link saves; None leaves the link out.
        busy: Whether more is to come.
    """
    link = f' <a class="ld-save" download="{escape(saved[0])}" href="{saved[1]}">Save PNG</a>' if saved else ""
    words = f"<figcaption>{escape(caption)}{link}</figcaption>" if caption or link else ""
    state = ' aria-busy="true"' if busy else ""
    return f'<figure class="ld-figure"{state}><img src="{address}" alt="{escape(description)}">{words}</figure>'


def row(pictures: Sequence[tuple[Tensor, str]], note: str = "", kind: str = "row") -> str:
    """Images side by side, each under its name, as HTML.

    Args:
        pictures: uint8 images [n, c, h, w], each with what it is called.
        note: A line below them.
        kind: ``row``, or ``way`` for small ones without words.
    """
    figures = "".join(figure(data_uri(images), name, name) for images, name in pictures)
    return f'<div class="ld-{kind}">{figures}</div>{message(note) if note else ""}'


def message(text: str, kind: str = "note") -> str:
    """A line of words, as HTML. A screen reader reads the kind ``error`` at once."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="ld-{kind}"{role}>{escape(text)}</p>'
