"""A figure that notebooks show, also where pyplot was never imported; needs matplotlib."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure of matplotlib that is not registered in pyplot, so that nothing has to close it.

    Notebooks know how to show figures only once pyplot is there; this one brings its picture along.
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
