"""What the colours say, as a line of HTML."""

from __future__ import annotations

import html

import numpy as np

from lrp_fx.visualize.canvas import Class, Words
from lrp_fx.visualize.colors import DEFAULT, hex_of, table_of


def color_key(colors: str = DEFAULT, target: Class = "", limit: float | None = None) -> str:
    """A line of HTML with the two colours and their words; it breaks between its parts only.

    Args:
        colors: as in :func:`~lrp_fx.visualize.show`.
        target: the explained class, for the words.
        limit: the |R| of full colour, where all values share one.

    Raises:
        OptionError: for an unknown colour map.
    """
    ends = table_of(colors)[[0, -1]]
    low, high = (hex_of(np.rint(each * 255).astype(np.uint8)) for each in ends)
    words = Words(target)
    parts = [
        f'<span style="color:{color}">■</span> {html.escape(text)}'
        for color, text in ((low, words.against), (high, words.in_favour))
    ]
    if limit is not None:
        parts.append(f"full colour at ±{limit:.3g}")
    spans = " ".join(
        f'<span style="display:inline-block;margin-right:1em">{part}</span>' for part in parts
    )
    return f'<div style="font-size:85%;line-height:1.5;color:#666;margin-top:.6em">{spans}</div>'
