"""Ends between which values stay, as their operations show."""

from __future__ import annotations

import math

import pytest
from torch import fx

from lrp_fx.graph import aten
from lrp_fx.meaning import Range, ranges


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", Range(0.0, 1.0, 0.5)),
        ("softplus", Range(0.0, math.inf, 0.5)),  # it rests between its ends; where, depends on β
        ("exp", Range(0.0, math.inf, 1.0)),
        # they rise without ends, so nothing is known, not even where they rest
        ("log", None),
        ("asinh", None),
    ],
)
def test_only_functions_with_an_end_have_a_range(name: str, expected: Range | None) -> None:
    graph = fx.Graph()
    node = graph.call_function(getattr(aten, name), (graph.placeholder("x"),))
    assert ranges(graph.nodes, lambda value: True).get(node) == expected
