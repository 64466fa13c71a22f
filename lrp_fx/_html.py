"""Tables as HTML, for notebooks; every text is escaped."""

from collections.abc import Sequence
from html import escape

STYLE = "font-family:sans-serif;font-size:13px;color:#222;background:#fff;padding:.5em"
CELL = "text-align:left;padding:.15em .8em .15em 0;white-space:nowrap"


def html_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    notes: Sequence[str] = (),
    numbers: Sequence[int] = (),
) -> str:
    """A table with remarks above it. Long tables scroll.

    Args:
        head: the titles of the columns.
        rows: the cells.
        notes: the remarks, one line each.
        numbers: the columns of numbers, which stand on the right.
    """
    remarks = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return (
        f'<div style="{STYLE}">{remarks}'
        '<div style="max-height:30em;overflow:auto;margin-top:.5em">'
        '<table style="border-collapse:collapse">'
        f'<thead style="border-bottom:1px solid #888">{_row("th", head, numbers)}</thead>'
        f"<tbody>{''.join(_row('td', row, numbers) for row in rows)}</tbody></table></div></div>"
    )


def _row(tag: str, cells: Sequence[str], numbers: Sequence[int]) -> str:
    shown = (
        f'<{tag} style="{CELL}{";text-align:right" if place in numbers else ""}">'
        f"{escape(cell)}</{tag}>"
        for place, cell in enumerate(cells)
    )
    return f"<tr>{''.join(shown)}</tr>"
