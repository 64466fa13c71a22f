"""A figure that notebooks show, also if pyplot was never imported; needs matplotlib."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from lrp_fx._common.style import own_style

if TYPE_CHECKING:
    from matplotlib.backend_bases import RendererBase


class ShownFigure(Figure):
    """A figure of matplotlib that is not registered in pyplot, so that nothing has to close it.

    Notebooks show figures only if pyplot is imported; this one brings its own picture.
    It looks the same with any ``rcParams`` (:func:`~lrp_fx._common.own_style`).
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure in its own style."""
        with own_style():
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure in its own style; see matplotlib for the options."""
        with own_style():
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
