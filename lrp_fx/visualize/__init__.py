"""Pictures of relevance: images, signals, volumes, tables, texts, graphs, and how a map came about.

Matplotlib, pillow and rich are imported when something is drawn.
"""

from __future__ import annotations

from lrp_fx.visualize.arrays import heatmap
from lrp_fx.visualize.colors import color_maps, colorize
from lrp_fx.visualize.explained import explanation_figure
from lrp_fx.visualize.flows import concept_figure, ledger_figure
from lrp_fx.visualize.graphs import graph
from lrp_fx.visualize.key import color_key as color_key
from lrp_fx.visualize.maps import grid, overlay, show
from lrp_fx.visualize.pairs import token_pairs
from lrp_fx.visualize.photographs import as_pixels
from lrp_fx.visualize.plans import plan_figure
from lrp_fx.visualize.rows import bar, beeswarm
from lrp_fx.visualize.saving import save, save_heatmap, save_overlay, to_bytes, to_pil
from lrp_fx.visualize.scales import color_limit
from lrp_fx.visualize.signals import channel_map, signal
from lrp_fx.visualize.smoothing import StrideGrid, stride_grid
from lrp_fx.visualize.tokens import Tokens, tokens
from lrp_fx.visualize.volumes import volume, volume_slider

__all__ = [
    "StrideGrid",
    "Tokens",
    "as_pixels",
    "bar",
    "beeswarm",
    "channel_map",
    "color_limit",
    "color_maps",
    "colorize",
    "concept_figure",
    "explanation_figure",
    "graph",
    "grid",
    "heatmap",
    "ledger_figure",
    "overlay",
    "plan_figure",
    "save",
    "save_heatmap",
    "save_overlay",
    "show",
    "signal",
    "stride_grid",
    "to_bytes",
    "to_pil",
    "token_pairs",
    "tokens",
    "volume",
    "volume_slider",
]
