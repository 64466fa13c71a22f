"""The tabs of the page: they read components, call the computation, and fill components."""

from __future__ import annotations

from lrp_fx.app.tabs.live import live_tab
from lrp_fx.app.tabs.parts import Site
from lrp_fx.app.tabs.patches import patches_tab
from lrp_fx.app.tabs.picture import picture_tab
from lrp_fx.app.tabs.text import text_tab
from lrp_fx.app.tabs.why import why_tab

__all__ = ["Site", "live_tab", "patches_tab", "picture_tab", "text_tab", "why_tab"]
