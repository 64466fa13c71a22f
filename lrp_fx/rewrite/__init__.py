"""Rewrite: turns a canonical graph and a plan into the LRP graph."""

from __future__ import annotations

from lrp_fx.rewrite.lrp_graph import LRPGraph as LRPGraph
from lrp_fx.rewrite.writer import rewrite as rewrite
