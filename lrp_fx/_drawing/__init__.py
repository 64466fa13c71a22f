"""The common style of all figures, and their pictures in notebooks."""

from lrp_fx._drawing.style import MISSING, drawable, own_style

__all__ = ["MISSING", "drawable", "own_style"]
