"""Tokens on grounds that say their relevance: as HTML, in the terminal, as a figure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from lrp_fx._common import MISSING, check_count, drawable, needed, own_style
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Relevance, as_floats
from lrp_fx.visualize.canvas import DPI, INK, NORMAL, Class, Words, sheet
from lrp_fx.visualize.colors import DEFAULT, Pixels, colorize, hex_of, table_of, text_color
from lrp_fx.visualize.key import color_key
from lrp_fx.visualize.scales import check_percentile, color_limit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.text import Text

STARTS = ("Ġ", "▁")
"""Marks of tokenizers in front of a token that begins a word (byte-level BPE, SentencePiece)."""
CONTINUES = "##"
"""The mark of a token that continues a word (WordPiece)."""
SPECIAL = re.compile(r"<[^<>\s]+>|\[[A-Z]+\d*\]")
"""Tokens of the tokenizer itself, such as ``<s>`` and ``[CLS]``; they are parts of no word."""
VISIBLE = {"\n": "⏎", "\t": "⇥", "Ċ": "⏎", "\r": "⏎"}
WIDTH, HIGH = 720, 27
NARROWEST_LINE = 60
MOST = 4000
"""The largest number of tokens that are written as HTML."""


@dataclass(frozen=True)
class Tokens:
    """Tokens with their relevance. A notebook shows them, and so does ``rich.print``.

    Args:
        texts: the text of each token.
        joined: whether a token continues the word before it.
        relevance: one value for each token.
        limit: the |R| of full colour.
        target: the explained class.
        colors: the colour map.
    """

    texts: tuple[str, ...]
    joined: tuple[bool, ...]
    relevance: tuple[float, ...]
    limit: float
    target: Class = ""
    colors: str = DEFAULT

    @property
    def grounds(self) -> Pixels:
        """The background colour of each token, (T, 3)."""
        return colorize(np.array(self.relevance), self.limit, self.colors)

    def html(self) -> str:
        """The tokens as HTML; every text is escaped. The relevance is the tooltip of each token.

        Of more than 4,000 tokens the first 4,000 are written, and how many more there are.
        """
        key = color_key(self.colors, self.target, self.limit)
        more = len(self.texts) - MOST
        rest = f"<span> … and {more} more tokens</span>" if more > 0 else ""
        return (
            '<div style="font-family:sans-serif;line-height:2;background:#fff;color:#000;'
            f'padding:.5em">{"".join(islice(self._spans(), MOST))}{rest}{key}</div>'
        )

    def _spans(self) -> Iterator[str]:
        for text, joined, value, ground in zip(
            self.texts, self.joined, self.relevance, self.grounds, strict=True
        ):
            gap = "" if joined else "margin-left:.3em;"
            yield (
                f'<span title="{value:.4g}" style="{gap}background:{hex_of(ground)};'
                f'color:{text_color(ground)};padding:.15em .1em;border-radius:.2em">'
                f"{html.escape(text)}</span>" + ("" if joined else "<wbr>")
            )

    def _repr_html_(self) -> str:
        return self.html()

    def __rich__(self) -> Text:
        from rich.text import Text

        line = Text()
        for text, joined, ground in zip(self.texts, self.joined, self.grounds, strict=True):
            line.append("" if joined else " ")
            line.append(text, style=f"{text_color(ground)} on {hex_of(ground)}")
        return line

    def print(self) -> None:
        """Print the tokens in colour to the terminal. Needs rich.

        Raises:
            OptionError: if rich is missing.
        """
        with needed("colours in the terminal need"):
            from rich.console import Console
        console = Console()
        console.print(self)
        console.print(
            f"◀ {Words(self.target).against} · {Words(self.target).in_favour} ▶ · "
            f"full colour at ±{self.limit:.3g}",
            style="dim",
            markup=False,
            highlight=False,
        )

    @own_style()
    def figure(self, title: str = "", width: int = WIDTH) -> Figure:
        """The tokens as a figure, in lines, with a colour bar.

        Letters that the font lacks are drawn as ``▯``; HTML and the terminal show them.

        Args:
            title: the title of the figure.
            width: of the lines, in dots.

        Raises:
            OptionError: if the width is not a positive int, or if matplotlib is missing.
        """
        check_count("width", width)
        width = max(width, NARROWEST_LINE)
        letters = [drawable(text) for text in self.texts]
        texts = [_fitting(text, width) for text in letters]
        places, lines = _laid_out(texts, self.joined, width)
        ends = (f"−{self.limit:.3g}", f"+{self.limit:.3g}")
        notes = (
            (f"{MISSING}: a letter that the font of this picture lacks.",)
            if any(map(str.__ne__, letters, self.texts))
            else ()
        )
        made = sheet(
            1, 1, width, lines * (HIGH + 5), Words(self.target, title, notes, ends),
            colors=self.colors,
        )  # fmt: skip
        axes = made.panels[0][0]
        axes.set_xlim(0, width)
        axes.set_ylim(lines * (HIGH + 5), 0)
        from matplotlib.patches import Rectangle

        for text, (x, line, wide), ground in zip(texts, places, self.grounds, strict=True):
            y = line * (HIGH + 5)
            axes.add_patch(
                Rectangle((x, y), wide, HIGH, facecolor=ground / 255, edgecolor="none", zorder=1)
            )
            axes.text(
                x + wide / 2,
                y + HIGH / 2,
                text,
                ha="center",
                va="center_baseline",
                size=NORMAL,
                color=text_color(ground) if text_color(ground) == "#ffffff" else INK,
                parse_math=False,
            )
        return made.figure


def tokens(
    words: Sequence[str],
    relevance: Relevance,
    *,
    target: Class = "",
    colors: str = DEFAULT,
    percentile: float = 100.0,
) -> Tokens:
    """Tokens with their relevance, to show as HTML, in the terminal, or as a figure.

    Args:
        words: the T tokens, for example ``tokenizer.convert_ids_to_tokens(ids)``. The marks ``Ġ``,
            ``▁`` and ``##`` of tokenizers become spaces, or none.
        relevance: ``(T,)`` or ``(1, T)``, or ``(T, D)`` and ``(1, T, D)``, whose sum over D is
            shown.
        target: the explained class, for the words at the colours.
        colors: as in :func:`~lrp_fx.visualize.show`.
        percentile: of the nonzero |R|, from which on a token has full colour.

    Raises:
        InputError: for words and relevance that do not fit, or values that are not finite.
        OptionError: for an option's value that there is not.
    """
    table_of(colors)
    check_percentile("percentile", percentile)
    values = as_floats(relevance)
    listed = [words] if isinstance(words, str) else [str(word) for word in words]
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2 and values.shape[0] == 1 and len(listed) == values.shape[1]:
        values = values[0]
    if values.ndim == 2 and len(listed) == values.shape[0]:
        values = values.sum(axis=1)
    if values.ndim != 1 or len(listed) != len(values):
        raise InputError(
            f"{len(listed)} tokens need relevance of shape ({len(listed)},) or "
            f"(1, {len(listed)}), not {values.shape}"
        )
    if any(word.startswith(STARTS) for word in listed):
        texts = [word.lstrip("".join(STARTS)) for word in listed]
        special = [SPECIAL.fullmatch(word) is not None for word in listed]
        behind = [True, *special[:-1]]  # what begins the text, or comes after a special token
        joined = [
            not (word.startswith(STARTS) or alone or first)
            for word, alone, first in zip(listed, special, behind, strict=True)
        ]
    else:
        texts = [word.removeprefix(CONTINUES) if len(word) > 2 else word for word in listed]
        joined = [word.startswith(CONTINUES) and len(word) > 2 for word in listed]
    return Tokens(
        tuple("".join(VISIBLE.get(each, each) for each in text) or "␣" for text in texts),
        tuple(joined),
        tuple(values.tolist()),
        color_limit(values, percentile / 100),
        target,
        colors,
    )


def width_of(text: str) -> float:
    """The width of a token with its ground, in dots."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    measured = TextToPath().get_text_width_height_descent(text, FontProperties(size=NORMAL), False)
    return float(measured[0]) * DPI / 72 + 8


def _fitting(text: str, width: int) -> str:
    """The token, or so much of its beginning as fits into a line."""
    while (wide := width_of(text)) > width:
        text = f"{text[: min(len(text) - 2, int(len(text) * width / wide))]}…"
    return text


def _laid_out(
    texts: Sequence[str], joined: Sequence[bool], width: int
) -> tuple[list[tuple[float, int, float]], int]:
    """Left end, line and width of each token; and the number of lines."""
    places, x, line = [], 0.0, 0
    for text, attached in zip(texts, joined, strict=True):
        wide = width_of(text)
        gap = 0 if attached or not x else 6
        if x and x + gap + wide > width:
            x, line, gap = 0.0, line + 1, 0
        places.append((x + gap, line, min(wide, width)))
        x += gap + wide
    return places, line + 1
