"""Tables as a notebook shows them: HTML that needs no style sheet and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CELL = "text-align: {}; padding: 0.15em 0.8em"


def html_table(
    heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]], sentences: Iterable[str] = ()
) -> str:
    """A heading, a table, and sentences below it, as an HTML fragment.

    Args:
        heading: A line above the table.
        columns: Headings of the columns.
        rows: The texts of each row; the first column is set left, the others right.
        sentences: A paragraph each.
    """
    head = "".join(f'<th style="{_style(index)}">{escape(text)}</th>' for index, text in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f'<td style="{_style(index)}">{escape(text)}</td>' for index, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f"<p><b>{escape(heading)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    )


def _style(index: int) -> str:
    return CELL.format("right" if index else "left")
