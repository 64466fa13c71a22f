"""Figures of images: the map beside the photograph, on its outlines, and grids of several maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from lrp_fx._checks import check_choice, entries
from lrp_fx._drawing import own_style
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Floats, Relevance, as_maps
from lrp_fx.visualize.canvas import (
    Class,
    Words,
    class_name,
    draw,
    enlarged,
    reduced,
    sheet,
    zoom_for,
)
from lrp_fx.visualize.colors import DEFAULT, Pixels, colorize, shares, text_color
from lrp_fx.visualize.look import Look, contour_levels
from lrp_fx.visualize.photographs import Photographs, Picture, Statistics, as_pictures, sketch
from lrp_fx.visualize.scales import PERCENTILE, Limits, Scale, sentence
from lrp_fx.visualize.smoothing import smoothed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")
Style = Literal["outlines", "fade", "contours"]
STYLES = ("outlines", "fade", "contours")
LARGEST = 1200
"""A map with a longer side is reduced by a whole number before it is drawn."""
PER_ROW = 4
"""How many panels of a batch stand in a row."""
HALF = (0.5,)
"""The share of the relevance in the contours of the style that has nothing else."""


@own_style()
def show(
    relevance: Relevance,
    photographs: Photographs | None = None,
    *,
    target: Class | Sequence[Class] = "",
    titles: Sequence[str] | None = None,
    title: str = "",
    colors: str = DEFAULT,
    scale: Scale = "own",
    percentile: float = PERCENTILE,
    smooth: float = 0.0,
    contours: Sequence[float] = (),
    mean: Statistics = None,
    std: Statistics = None,
    size: int = 448,
) -> Figure:
    """Heat maps of images, each beside its photograph.

    Nothing is drawn over the maps, so zero is exactly the middle of the colour map, white. Under
    the maps stand a colour bar, in words, and the scale.

    Args:
        relevance: ``(C, H, W)`` or ``(N, C, H, W)``: a tensor of any device and dtype, an array, or
            what Captum returns. The map is its sum over the channels.
        photographs: what the model saw: a picture of PIL, a tensor (C, H, W) or (N, C, H, W), an
            array (H, W, C), or a list of N of them. Of H and W pixels, or a whole multiple of both
            for the relevance of a layer. None for maps alone.
        target: the explained class, for the words at the colour bar; one for each sample of a batch
            goes into the titles.
        titles: one for each sample.
        title: the title of the figure.
        colors: ``"blue-orange"`` (the default) and ``"purple-green"``, which can be read with any
            colour vision, ``"blue-red"``, ``"grey-red"``, ``"black-red-yellow"`` (zero is black),
            or a colour map of matplotlib.
        scale: ``"own"`` for each map, ``"shared"``, or the |R| of full colour.
        percentile: of the nonzero |R|, from which on a value has full colour.
        smooth: the standard deviation of Gaussian smoothing in pixels; 0 for none.
        contours: lines around the smallest regions with these shares of the positive and of the
            negative relevance, for example ``(0.5,)``.
        mean: what was subtracted from photographs that are normalised tensors: one value or one per
            channel.
        std: what they were then divided by.
        size: about how many dots the longer side of a panel has.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance or photographs that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    look = Look(colors, scale, percentile, smooth, contours, size)
    maps = as_maps(relevance)
    pictures = _pictures(photographs, maps, mean, std)
    words, named = _named(target, titles, title, len(maps))
    drawn, note = _smaller(look.smoothed(maps))
    limits = look.limits(list(drawn))
    scales = _feet(limits, list(drawn))
    panels = [Panel.of_map(*each, look) for each in zip(drawn, limits.each, strict=True)]
    if pictures:
        beside = [Panel.of_picture(_smaller_picture(picture, [maps])) for picture in pictures]
        several = len(maps) > 1
        heads: list[Sequence[str]] = [
            (name or picture.words, "relevance")
            if several
            else (picture.words, name or "relevance")
            for name, picture in zip(named, pictures, strict=True)
        ]
        rows: list[Sequence[Panel]] = list(zip(beside, panels, strict=True))
        below = [
            picture.stated if name else "" for name, picture in zip(named, pictures, strict=True)
        ]
        feet: list[Sequence[str]] = list(zip(below if several else [""], scales, strict=True))
    else:
        rows, heads, feet = _in_rows(panels), _in_rows(named), _in_rows(scales)
    return _figure(rows, words, heads, feet, (), look, limits, [maps], [drawn], (note,))


@own_style()
def overlay(
    relevance: Relevance,
    photographs: Photographs,
    *,
    style: Style = "outlines",
    target: Class | Sequence[Class] = "",
    titles: Sequence[str] | None = None,
    title: str = "",
    colors: str = DEFAULT,
    scale: Scale = "own",
    percentile: float = PERCENTILE,
    smooth: float = 0.0,
    contours: Sequence[float] = (),
    mean: Statistics = None,
    std: Statistics = None,
    size: int = 448,
) -> Figure:
    """Heat maps and photographs in one panel for each sample.

    Args:
        relevance: as in :func:`show`.
        photographs: as in :func:`show`.
        style: how both share a panel.

            * ``"outlines"``: the map with the outlines of the photograph as thin grey lines.
              Lines only darken. They have no hue, so that a hue always means relevance, and zero is
              white between them.
            * ``"fade"``: the photograph in grey, under colours that become opaque at
              half of the full colour. Where relevance is zero stands the photograph, unchanged.
            * ``"contours"``: the photograph in its own colours, and nothing but contour lines on it
              (half of the relevance, unless ``contours`` says something else).
        target: as in :func:`show`.
        titles: as in :func:`show`.
        title: as in :func:`show`.
        colors: as in :func:`show`.
        scale: as in :func:`show`.
        percentile: as in :func:`show`.
        smooth: as in :func:`show`.
        contours: as in :func:`show`.
        mean: as in :func:`show`.
        std: as in :func:`show`.
        size: as in :func:`show`.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance or photographs that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    check_choice("style", style, STYLES)
    if photographs is None:
        raise InputError("overlay needs the photographs; for maps alone use show(relevance)")
    if style == "contours" and not contours:
        contours = HALF
    look = Look(colors, scale, percentile, smooth, contours, size)
    maps = as_maps(relevance)
    pictures = _pictures(photographs, maps, mean, std)
    words, named = _named(target, titles, title, len(maps))
    drawn, note = _smaller(look.smoothed(maps))
    limits = look.limits(list(drawn))
    beside = [_smaller_picture(picture, [maps]) for picture in pictures]
    panels = [
        Panel.of_both(*each, look, style) for each in zip(drawn, limits.each, beside, strict=True)
    ]
    rows, heads = _in_rows(panels), _in_rows(named)
    feet = _in_rows([""] * len(maps) if style == "contours" else _feet(limits, list(drawn)))
    how = {
        "outlines": "grey lines: the outlines of the photograph",
        "fade": "colours cover the photograph from half of full colour on; where relevance is zero, "
        "it is seen unchanged, in grey",
        "contours": "",
    }[style]
    return _figure(rows, words, heads, feet, (), look, limits, [maps], [drawn], (note, how), style)


@own_style()
def grid(
    maps: Mapping[str, Relevance],
    photographs: Photographs | None = None,
    *,
    target: Class | Sequence[Class] = "",
    titles: Sequence[str] | None = None,
    title: str = "",
    colors: str = DEFAULT,
    scale: Scale = "own",
    percentile: float = PERCENTILE,
    smooth: float = 0.0,
    contours: Sequence[float] = (),
    mean: Statistics = None,
    std: Statistics = None,
    size: int = 300,
) -> Figure:
    """Several maps of the same samples: a row for each sample, a column for each map.

    It compares composites, layers or classes. With ``scale="shared"`` one colour means the same |R|
    in all panels.

    Args:
        maps: title of the column → relevance, all with the same number of samples. See
            :func:`show`.
        photographs: as in :func:`show`; they stand in the first column.
        target: as in :func:`show`.
        titles: one for each sample, left of its row.
        title: as in :func:`show`.
        colors: as in :func:`show`.
        scale: as in :func:`show`.
        percentile: as in :func:`show`.
        smooth: as in :func:`show`.
        contours: as in :func:`show`.
        mean: as in :func:`show`.
        std: as in :func:`show`.
        size: as in :func:`show`.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for maps or photographs that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    look = Look(colors, scale, percentile, smooth, contours, size)
    if not isinstance(maps, Mapping) or not maps:
        raise InputError(
            'grid needs a mapping from titles to relevance, such as {"epsilon": r1, "gamma": r2}; '
            "for one map use show(relevance)"
        )
    columns = {str(name): as_maps(each) for name, each in maps.items()}
    first_name, first = next(iter(columns.items()))
    for name, each in columns.items():
        if len(each) != len(first):
            raise InputError(
                f"all maps need the same number of samples: {first_name!r} has {len(first)}, "
                f"{name!r} has {len(each)}"
            )
    pictures = []
    if photographs is not None:
        pictures = as_pictures(photographs, len(first), mean, std)
    for name, each in columns.items():
        for picture in pictures:
            _check_fit(picture, each, f"the map {name!r}")
    words, named = _named(target, titles, title, len(first))
    made = [_smaller(look.smoothed(each)) for each in columns.values()]
    drawn = [maps for maps, _ in made]
    listed = [heat for each in drawn for heat in each]
    limits = look.limits(listed)
    feet = _feet(limits, listed)
    originals = list(columns.values())
    kinds = {picture.words for picture in pictures}
    rows, foot_rows = [], []
    for sample in range(len(first)):
        row, below = [], []
        if pictures:
            row.append(Panel.of_picture(_smaller_picture(pictures[sample], originals)))
            below.append(pictures[sample].stated if len(kinds) > 1 else "")
        for column, each in enumerate(drawn):
            place = column * len(first) + sample
            row.append(Panel.of_map(each[sample], limits.each[place], look))
            below.append(feet[place])
        rows.append(row)
        foot_rows.append(tuple(below))
    beside = (kinds.pop() if len(kinds) == 1 else "input",) if pictures else ()
    note = next((note for _, note in made if note), "")
    return _figure(
        rows,
        words,
        [beside + tuple(columns)],
        foot_rows,
        named,
        look,
        limits,
        originals,
        drawn,
        (note,),
    )


class Panel:
    """What one panel shows: pixels, and contour lines in the coordinates of these pixels."""

    def __init__(self, pixels: Pixels, lines: Floats | None = None) -> None:
        self.pixels = pixels
        self.lines = lines

    @classmethod
    def of_picture(cls, picture: Picture) -> Panel:
        """A photograph."""
        return cls(picture.pixels)

    @classmethod
    def of_map(cls, heat: Floats, limit: float, look: Look) -> Panel:
        """A map alone."""
        return cls(colorize(heat, limit, look.colors), heat)

    @classmethod
    def of_both(
        cls, heat: Floats, limit: float, picture: Picture, look: Look, style: Style
    ) -> Panel:
        """A map and its photograph."""
        height, width = picture.pixels.shape[:2]
        full = heat.repeat(height // heat.shape[0], axis=0).repeat(width // heat.shape[1], axis=1)
        if style == "contours":
            pixels: Floats = picture.pixels.astype(np.float64)
        elif style == "fade":
            opacity = np.minimum(1, 2 * np.abs(shares(full, limit)))[..., None]
            grey = 255 * (0.2 + 0.65 * picture.grey[..., None])  # neither black nor white
            pixels = grey + opacity * (colorize(full, limit, look.colors) - grey)
        else:
            paper = 0.68 + 0.32 * sketch(picture)[..., None]
            pixels = colorize(full, limit, look.colors) * paper
        return cls(np.rint(pixels).astype(np.uint8), full)

    def draw(self, axes: Axes, down: int, across: int, look: Look, *, on_photograph: bool) -> None:
        """Fill the axes."""
        pixels = enlarged(self.pixels, down, across)
        draw(axes, pixels)
        if self.lines is None or min(self.lines.shape) < 2:
            return
        sigma = max(1.0, max(self.lines.shape) / 40)
        largest = float(np.abs(self.lines).max()) or 1.0
        smooth_map = smoothed(self.lines / largest, sigma)
        ys = (np.arange(smooth_map.shape[0]) + 0.5) * down - 0.5
        xs = (np.arange(smooth_map.shape[1]) + 0.5) * across - 0.5
        for share in look.contours:
            levels = contour_levels(smooth_map, share)
            for level, line in zip(levels, ("solid", "dashed"), strict=True):
                if level is None:
                    continue
                ink = text_color(colorize(np.zeros(1), 1.0, look.colors)[0])
                if on_photograph:
                    axes.contour(xs, ys, smooth_map, [level], colors="white", linewidths=3.2)
                    side = np.array([1.0 if line == "solid" else -1.0])
                    ink = "#{:02x}{:02x}{:02x}".format(*colorize(side, 1.6, look.colors)[0])
                axes.contour(
                    xs, ys, smooth_map, [level], colors=ink, linewidths=1.4, linestyles=line
                )


def _in_rows(each: Sequence[T]) -> list[Sequence[T]]:
    """What belongs to the samples of a batch, row by row."""
    return [each[start : start + PER_ROW] for start in range(0, len(each), PER_ROW)]


def _factor(height: int, width: int) -> int:
    """By how much a map is reduced before it is drawn."""
    return -(-max(height, width) // LARGEST)


def _smaller(maps: Floats) -> tuple[Floats, str]:
    """The maps (N, H, W) in a size that can be drawn, and what was done to them in words."""
    height, width = maps.shape[1:]
    factor = _factor(height, width)
    if factor == 1:
        return maps, ""
    small = np.stack([reduced(heat, factor) for heat in maps])
    note = f"each dot is the mean of {min(factor, height)} × {min(factor, width)} pixels"
    largest = float(np.abs(maps).max()) or 1.0
    before, after = (float(np.abs(each / largest).mean()) for each in (maps, small))
    if after < before / 2:
        note += f", in which {1 - after / before:.0%} of |relevance| cancels"
    return small, note


def _smaller_picture(picture: Picture, maps: Sequence[Floats]) -> Picture:
    """A photograph in a size that can be drawn, which is a multiple of the size of its maps."""
    height, width = picture.pixels.shape[:2]
    covered = [height // each.shape[1] for each in maps]  # pixels under a value, down and across
    factors = [_factor(*each.shape[1:]) for each in maps]
    if max(factors) > 1:
        factor = max(each * pixels for each, pixels in zip(factors, covered, strict=True))
    else:
        common, least = math.gcd(*covered), _factor(height, width)
        factor = next((each for each in range(least, common) if common % each == 0), common)
        factor = factor if least > 1 else 1
    if factor == 1:
        return picture
    pixels = reduced(picture.pixels.astype(np.float64), factor)
    return Picture(np.rint(pixels).astype(np.uint8), picture.words)


def _figure(
    rows: Sequence[Sequence[Panel]],
    words: Words,
    heads: Sequence[Sequence[str]],
    feet: Sequence[Sequence[str]],
    sides: Sequence[str],
    look: Look,
    limits: Limits,
    maps: Sequence[Floats],
    drawn: Sequence[Floats],
    extra: Sequence[str] = (),
    style: Style | None = None,
) -> Figure:
    """The figure of rows of panels, all in the size of the largest one."""
    panels = [panel for row in rows for panel in row]
    high = max(panel.pixels.shape[0] for panel in panels)
    wide = max(panel.pixels.shape[1] for panel in panels)
    down, across = zoom_for(high, wide, look.size)
    notes = list(look.notes(maps, limits, colored=style != "contours"))
    notes[0] += "".join(f" {sentence(each)}." for each in extra if each)
    stated = _stated(limits, [heat for each in drawn for heat in each])
    ends = limits.ends(stated[0] if len(set(stated)) == 1 else None)
    made = sheet(
        len(rows),
        max(map(len, rows)),
        wide * across,
        high * down,
        Words(words.target, words.title, tuple(notes), ends),
        heads=heads,
        feet=feet,
        sides=sides,
        colors=None if style == "contours" else look.colors,
    )
    for row, axes_row in zip(rows, made.panels, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_visible(False)
        for panel, axes in zip(row, axes_row, strict=False):
            # A map of a lower resolution than the photograph gets larger rectangles.
            each = down * high // panel.pixels.shape[0], across * wide // panel.pixels.shape[1]
            panel.draw(axes, *each, look, on_photograph=style == "contours")
    return made.figure


def _stated(limits: Limits, maps: Sequence[Floats]) -> list[float]:
    """The scales of the maps that are not zero everywhere, or of all if all are."""
    found = [limit for limit, heat in zip(limits.each, maps, strict=True) if heat.any()]
    return found or list(limits.each)


def _feet(limits: Limits, maps: Sequence[Floats]) -> list[str]:
    """What stands under each map: its scale, unless it is the same for all."""
    stated = _stated(limits, maps)
    same, none = len(set(stated)) == 1, not any(heat.any() for heat in maps)
    return [
        ("" if same else f"full colour at ±{limit:.3g}") if none or heat.any() else "all zero"
        for limit, heat in zip(limits.each, maps, strict=True)
    ]


def _named(
    target: Class | Sequence[Class], titles: Sequence[str] | None, title: str, count: int
) -> tuple[Words, list[str]]:
    """The words of a figure, and the title of each sample."""
    # A text and a 0-d array have entries or a length of their own, but are one class.
    several = None if isinstance(target, str) else entries(target)
    classes = [class_name(each) for each in ([target] * count if several is None else several)]
    if len(classes) != count:
        raise InputError(f"{count} samples need one target or as many, got {len(classes)}")
    names = [""] * count
    if titles is not None:
        names = [titles] if isinstance(titles, str) else [str(each) for each in titles]
        if len(names) != count:
            raise InputError(f"{count} samples need as many titles, got {len(names)}")
    common = classes[0] if len(set(classes)) == 1 else ""
    if not common:
        names = [
            " · ".join(part for part in pair if part) for pair in zip(names, classes, strict=True)
        ]
    return Words(common, title), names


def _pictures(
    photographs: Photographs | None, maps: Floats, mean: Statistics, std: Statistics
) -> list[Picture]:
    """The photographs of the maps; none if there are none."""
    if photographs is None:
        return []
    found = as_pictures(photographs, len(maps), mean, std)
    for picture in found:
        _check_fit(picture, maps, "the relevance")
    return found


def _check_fit(picture: Picture, maps: Floats, name: str) -> None:
    """A map is never stretched over a photograph that the model did not see."""
    high, wide = picture.pixels.shape[:2]
    height, width = maps.shape[1:]
    if high % height or wide % width or high // height != wide // width:
        raise InputError(
            f"{name} has {height} × {width} positions, but the photograph has {high} × {wide} "
            "pixels: pass the photograph as the model saw it, resized and cropped, or the model's "
            "input itself with mean= and std=. Each value of a map covers a square of pixels; if a "
            "layer strides differently down and across, repeat its values by repeat_interleave"
        )
