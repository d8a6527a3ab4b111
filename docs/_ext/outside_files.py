"""Links from a document to files outside docs/, as GitHub follows them.

A model's card, ``checkpoints/*/*.md``, becomes a page of the site. Any other file of the repository is offered as a
download. Images need no help: Sphinx copies them.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
CARDS = "reference/generated/cards"


def write_cards(app: Sphinx) -> None:
    """Copy the cards of the released models below docs/, their pictures included."""
    docs = Path(app.srcdir)
    target = docs / CARDS
    shutil.rmtree(target, ignore_errors=True)
    for card in sorted((docs.parent / "checkpoints").glob("*/*.md")):
        page = target / card.relative_to(docs.parent / "checkpoints")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"---\norphan: true\n---\n\n{card.read_text()}")
        shutil.copystat(card, page)  # an unchanged card is not read again
        for picture in card.parent.glob("*.jpg"):
            shutil.copy2(picture, page.parent)


def redirect(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite the links of one document that leave docs/."""
    docs = Path(app.srcdir).resolve()
    here = (docs / docname).parent

    def rewritten(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = Path(os.path.normpath(here / target))
        if path.is_relative_to(docs) or not path.is_file():
            return link[0]  # within the site, or broken: Sphinx says so
        if path.suffix == ".md" and path.is_relative_to(docs.parent / "checkpoints"):
            card = path.relative_to(docs.parent / "checkpoints")
            return f"[{text}](/{CARDS}/{card}{anchor})"
        return f"{{download}}`{text} <{target}>`"

    source[0] = LINK.sub(rewritten, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_cards)
    app.connect("source-read", redirect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
