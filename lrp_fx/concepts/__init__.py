"""Concepts: relevance through chosen channels, and the samples that represent a channel."""

from __future__ import annotations

from lrp_fx.concepts.concept import ConceptLRPFx as ConceptLRPFx
from lrp_fx.concepts.graph import AttributionGraph as AttributionGraph
from lrp_fx.concepts.references import References as References
