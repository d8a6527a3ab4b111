"""Tables as a notebook shows them: HTML that needs no style sheet and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def facts_table(heading: str, facts: Mapping[str, str], list_heading: str = "", listed: Iterable[str] = ()) -> str:
    """A heading, a table of names and values, and a list below it, as an HTML fragment.

    Args:
        heading: A line above the table.
        facts: The values by their names.
        list_heading: A line above the list.
        listed: The entries of the list.
    """
    style = CELL.format("left")
    rows = "".join(
        f'<tr><th style="{style}; white-space: nowrap">{escape(name)}</th><td style="{style}">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    entries = "".join(f"<li>{escape(entry)}</li>" for entry in listed)
    below = f"<p>{escape(list_heading)}</p><ul>{entries}</ul>" if entries else ""
    return f"<p><b>{escape(heading)}</b></p><table><tbody>{rows}</tbody></table>{below}"


def _style(index: int) -> str:
    return CELL.format("right" if index else "left")
