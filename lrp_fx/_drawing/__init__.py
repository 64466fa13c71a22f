"""What all figures share: a style of their own, and a picture of their own in notebooks."""

from lrp_fx._drawing.style import MISSING, drawable, own_style

__all__ = ["MISSING", "drawable", "own_style"]
