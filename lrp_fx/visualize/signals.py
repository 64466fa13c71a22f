"""Figures of signals: relevance as colour along the trace, and maps of channels × time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lrp_fx._common import check_choice, check_number, drawable, needed, own_style
from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize.arrays import Data, Floats, Relevance, as_data, as_floats, as_names
from lrp_fx.visualize.canvas import FAINT, FRAME, INK, SMALL, Class, Sheet, Words, draw, sheet
from lrp_fx.visualize.colors import DEFAULT, colorize, shares
from lrp_fx.visualize.look import Look
from lrp_fx.visualize.scales import PERCENTILE, Limits, sentences
from lrp_fx.visualize.smoothing import smoothed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 760
TRACE, LOWEST, HIGHEST = 90, 260, 900  # the height of a trace; of all of them at least and at most
ROW = 18  # the height of a row of a map of channels
SHOWN_FROM = 0.03
"""The part of full colour below which a trace stays grey."""
MOST_NAMES = 60


@own_style()
def signal(
    relevance: Relevance,
    values: Data,
    *,
    rate: float | None = None,
    names: Sequence[str] | None = None,
    style: Literal["trace", "band"] = "trace",
    target: Class = "",
    title: str = "",
    colors: str = DEFAULT,
    percentile: float = PERCENTILE,
    smooth: float = 0.0,
) -> Figure:
    """The traces of a signal, with relevance as their colour. All channels share one scale.

    Args:
        relevance: of one sample: ``(L,)``, ``(C, L)`` or ``(1, C, L)``.
        values: the signal, of the same shape. Each channel is drawn from its minimum to its
            maximum.
        rate: samples per second, for an axis in seconds; None for an axis in samples.
        names: of the channels.
        style: ``"trace"`` colours the trace, which is the thicker the larger |R| is; it is grey
            where relevance is zero. ``"band"`` colours the ground behind a black trace, white
            where relevance is zero.
        target: the explained class, for the words at the colour bar.
        title: the title of the figure.
        colors: as in :func:`~lrp_fx.visualize.show`.
        percentile: of the nonzero |R|, from which on a value has full colour.
        smooth: the standard deviation of Gaussian smoothing along time, in samples; 0 for none.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance and values that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    check_choice("style", style, ("trace", "band"))
    look = Look(colors, percentile=percentile, smooth=smooth)
    heat, limits, words = _prepared(relevance, look, target, title)
    trace = _channels(as_data(values, "the signal"), "the signal")
    if trace.shape != heat.shape:
        raise InputError(
            f"the signal needs the shape of the relevance, {heat.shape}, not {trace.shape}"
        )
    count, length = heat.shape
    labels = as_names(names, count, "names of channels")
    height = int(min(HIGHEST, max(LOWEST / count, min(TRACE, HIGHEST / count)) * count))
    made = _with_time_axis(words, labels, height, rate, colors)
    axes = made.panels[0][0]
    xs = np.arange(length)
    for row in range(count):
        low, high = float(trace[row].min()), float(trace[row].max())
        scaled = (trace[row] / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
        ys = row + (0.42 - 0.84 * scaled if high > low else np.zeros(length))
        if style == "band":
            extent = (-0.5, length - 0.5, row + 0.5, row - 0.5)
            pixels = colorize(heat[row][None], limits.each[0], colors)
            axes.imshow(pixels, aspect="auto", extent=extent, interpolation="nearest")
            axes.plot(xs, ys, color=INK, linewidth=0.9, marker="." if length == 1 else "")
        else:
            _colored(axes, xs, ys, shares(heat[row], limits.each[0]), colors)
    axes.set_xlim(-0.5, max(length - 0.5, 0.5))
    axes.set_ylim(count - 0.5, -0.5)
    _axis(axes, labels, count, length, rate)
    return made.figure


@own_style()
def channel_map(
    relevance: Relevance,
    *,
    rate: float | None = None,
    names: Sequence[str] | None = None,
    target: Class = "",
    title: str = "",
    colors: str = DEFAULT,
    percentile: float = PERCENTILE,
    smooth: float = 0.0,
) -> Figure:
    """Relevance of all channels of a signal over time: a row for each channel.

    Args:
        relevance: of one sample: ``(L,)``, ``(C, L)`` or ``(1, C, L)``.
        rate: as in :func:`signal`, like all others.
        names: of the channels.
        target: the explained class.
        title: the title of the figure.
        colors: the colour map.
        percentile: of full colour.
        smooth: along time, in samples.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance of another shape, or that is not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    look = Look(colors, percentile=percentile, smooth=smooth)
    heat, limits, words = _prepared(relevance, look, target, title)
    count, length = heat.shape
    labels = as_names(names, count, "names of channels")
    height = int(min(HIGHEST, max(ROW * count, 60)))
    made = _with_time_axis(words, labels, height, rate, colors)
    axes = made.panels[0][0]
    draw(axes, colorize(heat, limits.each[0], colors))
    _axis(axes, labels, count, length, rate)
    return made.figure


def _prepared(
    relevance: Relevance, look: Look, target: Class, title: str
) -> tuple[Floats, Limits, Words]:
    """The relevance (C, L) as it is drawn, its limits and the words of the figure."""
    heat = _channels(as_floats(relevance), "a signal")
    if look.smooth:
        heat = smoothed(heat, min(look.smooth, 2.0 * heat.shape[1]), axes=(1,))
    limits = look.limits([heat])
    notes = [limits.words]
    if look.smooth:
        notes.append(f"smoothed along time: Gaussian weights, σ = {look.smooth:g} samples")
    if not heat.any():
        notes.append("all relevance is zero")
    words = Words(target, title, (sentences(notes),), limits.ends(limits.each[0]))
    return heat, limits, words


def _channels(values: Floats, what: str) -> Floats:
    """The values as (C, L)."""
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim not in (1, 2):
        raise InputError(
            f"{what} needs shape (L,), (C, L) or (1, C, L), not {values.shape}; "
            "for one sample of a batch pass relevance[0]"
        )
    return np.atleast_2d(values)


def _with_time_axis(
    words: Words, labels: list[str] | None, height: int, rate: float | None, colors: str
) -> Sheet:
    """A figure with one panel, with room for names and for the axis of time."""
    if rate is not None:
        check_number("rate", rate)
        if not 0 < rate < float("inf"):
            raise OptionError(f"rate must be a number above 0 of samples per second, got {rate!r}")
    wide = 0 if labels is None else 8 + max(len(each[:24]) for each in labels) * 7
    return sheet(1, 1, WIDTH, height, words, colors=colors, left=wide, under=44)


def _axis(
    axes: Axes, labels: list[str] | None, count: int, length: int, rate: float | None
) -> None:
    """Names of channels on the left, time below."""
    from matplotlib.ticker import MaxNLocator

    if labels is not None:
        step = -(-count // MOST_NAMES)
        shown = [each if len(each) <= 24 else f"{each[:23]}…" for each in labels[::step]]
        axes.set_yticks(
            range(0, count, step), list(map(drawable, shown)), fontsize=SMALL, parse_math=False
        )
    axes.tick_params(length=0, axis="y", colors=INK)
    axes.tick_params(axis="x", colors=FAINT, labelsize=SMALL)
    span = length if rate is None else length / rate
    ticks = [t for t in MaxNLocator(8).tick_values(0, span) if 0 <= t <= span * (1 - 1e-9)]
    axes.set_xticks([t if rate is None else t * rate for t in ticks], [f"{t:g}" for t in ticks])
    axes.set_xlabel("sample" if rate is None else "seconds", fontsize=SMALL, color=FAINT)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_edgecolor(FRAME)


def _colored(axes: Axes, xs: NDArray[np.intp], ys: Floats, strength: Floats, colors: str) -> None:
    """A trace whose colour and width say its relevance; grey where there is none."""
    with needed("pictures need"):
        from matplotlib.collections import LineCollection
    axes.plot(xs, ys, color="#b5b5b5", linewidth=0.8, marker="." if len(xs) == 1 else "", zorder=1)
    points = np.stack([xs, ys], axis=1)
    middles = (points[1:] + points[:-1]) / 2
    # Around each sample a stroke from the middle before it to the middle after it.
    strokes = np.stack(
        [np.concatenate([points[:1], middles]), points, np.concatenate([middles, points[-1:]])],
        axis=1,
    )
    shown = np.abs(strength) >= SHOWN_FROM
    if not shown.any():
        return
    if len(xs) == 1:
        axes.scatter(xs[shown], ys[shown], c=colorize(strength[shown], 1.0, colors) / 255, zorder=2)
        return
    # Faint colours are lifted, because a thin line of them could not be seen on white.
    lifted = np.sign(strength) * (0.25 + 0.75 * np.abs(strength))
    axes.add_collection(
        LineCollection(
            list(strokes[shown]),
            colors=colorize(lifted[shown], 1.0, colors) / 255,
            linewidths=1.0 + 3.0 * np.abs(strength[shown]),
            capstyle="round",
            zorder=2,
        ),
        autolim=False,
    )
