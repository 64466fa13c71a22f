"""Figures of images: the map beside the photograph, on its outlines, and grids of several maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrp_fx._common import check_choice, own_style
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Relevance, as_maps
from lrp_fx.visualize.canvas import Class
from lrp_fx.visualize.colors import DEFAULT
from lrp_fx.visualize.layout import feet_of, figure_of_panels, in_rows, named_samples
from lrp_fx.visualize.look import Look
from lrp_fx.visualize.marks import Marks
from lrp_fx.visualize.panels import STYLES, Panel, Style
from lrp_fx.visualize.photographs import Photographs, Statistics, as_pictures
from lrp_fx.visualize.scales import PERCENTILE, Scale
from lrp_fx.visualize.sizes import check_fit, pictures_of, smaller, smaller_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    marks: Marks = (),
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
        marks: what is marked in each panel: pixels ``(row, column)`` by a cross and boxes
            ``(top, left, bottom, right)`` by a rectangle, in pixels of the photographs, or of the
            relevance if there are none.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance or photographs that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    look = Look(colors, scale, percentile, smooth, contours, size, marks)
    maps = as_maps(relevance)
    pictures = pictures_of(photographs, maps, mean, std)
    words, named = named_samples(target, titles, title, len(maps))
    drawn, note = smaller(look.smoothed(maps))
    limits = look.limits(list(drawn))
    scales = feet_of(limits, list(drawn))
    panels = [Panel.of_map(*each, look) for each in zip(drawn, limits.each, strict=True)]
    if pictures:
        beside = [Panel.of_picture(smaller_picture(picture, [maps])) for picture in pictures]
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
        rows, heads, feet = in_rows(panels), in_rows(named), in_rows(scales)
    return figure_of_panels(
        rows, words, heads, feet, (), look, limits, [maps], [drawn], pictures, (note,)
    )


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
    marks: Marks = (),
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
              half of the full colour. Where relevance is zero, the photograph is unchanged.
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
        marks: as in :func:`show`.

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
    look = Look(colors, scale, percentile, smooth, contours, size, marks)
    maps = as_maps(relevance)
    pictures = pictures_of(photographs, maps, mean, std)
    words, named = named_samples(target, titles, title, len(maps))
    drawn, note = smaller(look.smoothed(maps))
    limits = look.limits(list(drawn))
    beside = [smaller_picture(picture, [maps]) for picture in pictures]
    panels = [
        Panel.of_both(*each, look, style) for each in zip(drawn, limits.each, beside, strict=True)
    ]
    rows, heads = in_rows(panels), in_rows(named)
    feet = in_rows([""] * len(maps) if style == "contours" else feet_of(limits, list(drawn)))
    how = {
        "outlines": "grey lines: the outlines of the photograph",
        "fade": "colours cover the photograph from half of full colour on; where relevance is zero, "
        "it is seen unchanged, in grey",
        "contours": "",
    }[style]
    return figure_of_panels(
        rows, words, heads, feet, (), look, limits, [maps], [drawn], pictures, (note, how), style
    )


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
    marks: Marks = (),
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
        marks: as in :func:`show`.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for maps or photographs that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    look = Look(colors, scale, percentile, smooth, contours, size, marks)
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
            check_fit(picture, each, f"the map {name!r}")
    words, named = named_samples(target, titles, title, len(first))
    made = [smaller(look.smoothed(each)) for each in columns.values()]
    drawn = [maps for maps, _ in made]
    listed = [heat for each in drawn for heat in each]
    limits = look.limits(listed)
    feet = feet_of(limits, listed)
    originals = list(columns.values())
    kinds = {picture.words for picture in pictures}
    rows, foot_rows = [], []
    for sample in range(len(first)):
        row, below = [], []
        if pictures:
            row.append(Panel.of_picture(smaller_picture(pictures[sample], originals)))
            below.append(pictures[sample].stated if len(kinds) > 1 else "")
        for column, each in enumerate(drawn):
            place = column * len(first) + sample
            row.append(Panel.of_map(each[sample], limits.each[place], look))
            below.append(feet[place])
        rows.append(row)
        foot_rows.append(tuple(below))
    beside = (kinds.pop() if len(kinds) == 1 else "input",) if pictures else ()
    note = next((note for _, note in made if note), "")
    return figure_of_panels(
        rows,
        words,
        [beside + tuple(columns)],
        foot_rows,
        named,
        look,
        limits,
        originals,
        drawn,
        pictures,
        (note,),
    )
