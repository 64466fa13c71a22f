"""Figures of volumes: three slices through one place, and a slider in notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrp_fx._common import is_int, needed, own_style
from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize.arrays import Data, Floats, Relevance, as_data, as_floats
from lrp_fx.visualize.canvas import FAINT, Class, Words, draw, enlarged, sheet
from lrp_fx.visualize.colors import DEFAULT, Pixels, colorize
from lrp_fx.visualize.look import Look
from lrp_fx.visualize.scales import PERCENTILE, sentences
from lrp_fx.visualize.smoothing import smoothed

if TYPE_CHECKING:
    from ipywidgets import Widget
    from matplotlib.figure import Figure

AXES = ("D", "H", "W")


@own_style()
def volume(
    relevance: Relevance,
    values: Data | None = None,
    *,
    at: Sequence[int] | None = None,
    target: Class = "",
    title: str = "",
    colors: str = DEFAULT,
    percentile: float = PERCENTILE,
    smooth: float = 0.0,
    size: int = 300,
) -> Figure:
    """Three orthogonal slices of a volume through one voxel, marked by a cross.

    Args:
        relevance: of one sample: ``(1, C, D, H, W)``, ``(C, D, H, W)``, or ``(D, H, W)`` where the
            channels are summed already.
        values: the volume itself, of the same shape or ``(D, H, W)``; its slices, in grey, stand in
            a second row. Of several channels the mean is shown.
        at: the voxel (d, h, w); None for the one with the largest |R|.
        target: the explained class, for the words at the colour bar.
        title: the title of the figure.
        colors: as in :func:`~lrp_fx.visualize.show`.
        percentile: of the nonzero |R| of the whole volume, from which on a value has full colour.
        smooth: the standard deviation of Gaussian smoothing in voxels; 0 for none.
        size: about how many dots the longest side of a slice has.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance, values or a voxel that do not fit, or values that are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    look = Look(colors, percentile=percentile, smooth=smooth, size=size)
    heat = _volume(as_floats(relevance)).sum(axis=0)
    if smooth:
        heat = smoothed(heat, min(smooth, 2.0 * max(heat.shape)), axes=(0, 1, 2))
    scan = None if values is None else _scan(values, heat.shape)
    limits = look.limits([heat])
    limit = limits.each[0]
    place = _place(at, heat)
    notes = [
        limits.words,
        f"slices through voxel ({', '.join(map(str, place))}), "
        + (f"where |relevance| is largest: {heat[place]:.3g}" if at is None else "as chosen"),
    ]
    if smooth:
        notes.append(f"smoothed: Gaussian weights, σ = {smooth:g} voxels")
    if not heat.any():
        notes.append("all relevance is zero")
    rows = [[colorize(np.take(heat, place[axis], axis), limit, colors) for axis in range(3)]]
    if scan is not None:
        rows.append([_grey(np.take(scan, place[axis], axis)) for axis in range(3)])
    zoom = max(1, round(size / max(heat.shape)))
    wide = max(max(heat.shape[1:]) * zoom, 150)
    high = max(max(heat.shape[:2]) * zoom, 60)
    heads = [tuple(f"{name} = {place[axis]}" for axis, name in enumerate(AXES))]
    made = sheet(
        len(rows),
        3,
        wide,
        high,
        Words(target, title, (sentences(notes),), limits.ends(limit)),
        heads=heads,
        colors=colors,
        left=14,
        under=18,
    )
    for row, axes_row in zip(rows, made.panels, strict=True):
        for axis, (pixels, axes) in enumerate(zip(row, axes_row, strict=True)):
            down, across = (each for each in range(3) if each != axis)
            draw(axes, enlarged(pixels, zoom, zoom))
            axes.set_aspect("equal")
            for spot, line in ((place[down], axes.axhline), (place[across], axes.axvline)):
                line((spot + 0.5) * zoom - 0.5, color=FAINT, linewidth=0.6, alpha=0.7)
            axes.set_ylabel(AXES[down], fontsize=8.5, color=FAINT, labelpad=2)
            axes.set_xlabel(AXES[across], fontsize=8.5, color=FAINT, labelpad=2)
    return made.figure


def volume_slider(
    relevance: Relevance,
    values: Data | None = None,
    *,
    target: Class = "",
    title: str = "",
    colors: str = DEFAULT,
    percentile: float = PERCENTILE,
    smooth: float = 0.0,
) -> Widget:
    """In a notebook, :func:`volume` with three sliders for the voxel. Needs ipywidgets.

    Args:
        relevance: as in :func:`volume`, like all others.
        values: the volume itself.
        target: the explained class.
        title: the title of the figure.
        colors: the colour map.
        percentile: of full colour.
        smooth: σ of the smoothing in voxels.

    Returns:
        The widget, which notebooks show.

    Raises:
        InputError: as :func:`volume`.
        OptionError: as :func:`volume`, or if ipywidgets is missing.
    """
    with needed("sliders need"):
        from ipywidgets import IntSlider, interactive
    heat = _volume(as_floats(relevance)).sum(axis=0)

    def drawn(d: int, h: int, w: int) -> Figure:
        return volume(
            relevance,
            values,
            at=(d, h, w),
            target=target,
            title=title,
            colors=colors,
            percentile=percentile,
            smooth=smooth,
        )

    sliders = {
        name.lower(): IntSlider(value=spot, min=0, max=length - 1, description=name)
        for name, spot, length in zip(AXES, _place(None, heat), heat.shape, strict=True)
    }
    widget: Widget = interactive(drawn, **sliders)
    return widget


def _volume(values: Floats) -> Floats:
    """The values as (C, D, H, W)."""
    if values.ndim == 5 and values.shape[0] == 1:
        values = values[0]
    if values.ndim not in (3, 4):
        raise InputError(
            "a volume needs shape (D, H, W), (C, D, H, W) or (1, C, D, H, W), not "
            f"{values.shape}; for one sample of a batch pass relevance[0]"
        )
    return values if values.ndim == 4 else values[None]


def _scan(values: Data, shape: tuple[int, ...]) -> Floats:
    """The values as (D, H, W), from 0 to 1."""
    found = _volume(as_data(values, "the volume"))
    if found.shape[1:] != shape:
        raise InputError(f"the volume must have the size {shape}, not {found.shape[1:]}")
    halves: Floats = (found / len(found) / 2).sum(axis=0)
    low, high = float(halves.min()), float(halves.max())
    scaled: Floats = (halves - low) / ((high - low) or 1.0)
    return scaled


def _place(at: Sequence[int] | None, heat: Floats) -> tuple[int, int, int]:
    """The voxel through which slices go."""
    if at is None:
        strongest = np.unravel_index(int(np.abs(heat).argmax()), heat.shape)
        return int(strongest[0]), int(strongest[1]), int(strongest[2])
    spots = list(at) if isinstance(at, (Sequence, np.ndarray)) else []
    if len(spots) != 3 or not all(is_int(each) for each in spots):
        raise OptionError(f"at must be three ints (d, h, w), got {at!r}")
    if any(not 0 <= spot < length for spot, length in zip(spots, heat.shape, strict=True)):
        raise OptionError(f"at must lie in the volume of size {heat.shape}, got {tuple(spots)}")
    d, h, w = map(int, spots)
    return d, h, w


def _grey(values: Floats) -> Pixels:
    pixels: Pixels = np.rint(values * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    return pixels
