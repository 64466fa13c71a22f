"""Tables, as plain text and as HTML for notebooks, where every text is escaped."""

from collections.abc import Sequence
from html import escape

from lrp_fx.errors import shortened

STYLE = "font-family:sans-serif;font-size:13px;color:#222;background:#fff;padding:.5em"
MOST = 500
"""The largest number of rows in a notebook: the first ones, and a quarter of them from the end."""
LONGEST = 300
"""The largest number of letters of a cell or a remark that a notebook shows."""
CELL = "text-align:left;padding:.15em .8em .15em 0;white-space:nowrap"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns as wide as their longest cell, with a line under the head."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in lines
    )


def html_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    notes: Sequence[str] = (),
    numbers: Sequence[int] = (),
) -> str:
    """A table with remarks above it. Long tables scroll; very long ones leave out rows in the middle.

    Args:
        head: the titles of the columns.
        rows: the cells.
        notes: the remarks, one line each.
        numbers: the columns of numbers, which stand on the right.
    """
    listed = [*notes]
    if len(rows) > MOST:
        listed.append(
            f"{len(rows) - MOST} of {len(rows)} rows are left out; print() shows them all"
        )
    remarks = "".join(f"<div>{escape(shortened(note, LONGEST))}</div>" for note in listed)
    above = len(rows) if len(rows) <= MOST else MOST - MOST // 4
    gap = "" if len(rows) <= MOST else _row("td", ["⋮"] * len(head), ())
    body = [_row("td", row, numbers) for row in rows[:above]]
    below = [_row("td", row, numbers) for row in rows[len(rows) - MOST // 4 :]] if gap else []
    return (
        f'<div style="{STYLE}">{remarks}'
        '<div style="max-height:30em;overflow:auto;margin-top:.5em">'
        '<table style="border-collapse:collapse">'
        f'<thead style="border-bottom:1px solid #888">{_row("th", head, numbers)}</thead>'
        f"<tbody>{''.join([*body, gap, *below])}</tbody></table></div></div>"
    )


def _row(tag: str, cells: Sequence[str], numbers: Sequence[int]) -> str:
    shown = (
        f'<{tag} style="{CELL}{";text-align:right" if place in numbers else ""}">'
        f"{escape(shortened(cell, LONGEST))}</{tag}>"
        for place, cell in enumerate(cells)
    )
    return f"<tr>{''.join(shown)}</tr>"
