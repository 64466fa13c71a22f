"""Concepts on a real network and real photographs: everything adds up to the layers and the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrp_fx import ConceptLRPFx, LayerLRPFx, LRPFx, References
from tests.helpers.closeness import assert_close
from tests.helpers.photographs import network, photographs

LAYERS = ["head", "blocks.13", "blocks.8", "blocks.3"]
ROUNDING = 1e-4
"""Of the largest value: float32 sums over some hundred thousand entries."""


def concepts() -> ConceptLRPFx:
    return ConceptLRPFx(network().model, "epsilon_plus_flat")


def test_channels_layers_and_the_ledger_agree() -> None:
    """Σ over a layer's channels is the layer's relevance, and what arrives there in the ledger."""
    images, labels = photographs()
    x, target = images[:1], int(labels[0])
    model = network().model
    channels = concepts().channel_relevance(x, LAYERS, target)
    layers = LayerLRPFx(model, LAYERS, "epsilon_plus_flat").attribute(x, target)  # type: ignore[arg-type]
    ledger = LRPFx(model, "epsilon_plus_flat").audit(x, target)
    arrived = {entry.node: entry.arrived[0] for entry in ledger.entries}
    nodes = [
        "head_2_hardtanh",
        "blocks_13_add",
        "blocks_8_project_0_conv2d",
        "blocks_3_project_0_conv2d",
    ]
    for by_channel, layer, node in zip(channels, layers, nodes, strict=True):
        expected = layer.sum((2, 3))  # in another order: the layer is handed out contiguous
        assert float((by_channel - expected).abs().max()) <= ROUNDING * float(expected.abs().max())
        assert float(by_channel.sum()) == pytest.approx(arrived[node], rel=ROUNDING)


def test_conditions_on_all_channels_make_the_map() -> None:
    """blocks.13 has no way round it; its inner branch has one, and leaves that relevance out."""
    images, labels = photographs()
    x, target = images[:1], int(labels[0])
    crp = concepts()
    whole = crp.attribute(x, target)
    quarters = [{"blocks.13": list(range(i, 192, 4)), "y": [target]} for i in range(4)]
    parts = crp.attribute_conditions(x, quarters)
    assert (parts.sum(0) - whole).abs().max() <= ROUNDING * whole.abs().max()
    branch = [{"blocks.13.project": list(range(192))}]
    (inside,) = crp.attribute_conditions(x, branch, target)
    (beside,) = crp.attribute_conditions(x, branch, target, exclude_parallel=False)
    assert_close(beside, whole, ROUNDING)
    assert (inside - whole).abs().max() > 0.1 * whole.abs().max()


def test_a_graph_and_references(tmp_path: Path) -> None:
    """Of the strongest channels of a prediction the photographs on which they are the strongest."""
    images, labels = photographs()
    crp = concepts()
    graph = crp.attribution_graph(images[:1], int(labels[0]), LAYERS[:3], width=3)
    (channels,) = crp.channel_relevance(images[:1], ["head"], int(labels[0]))
    top = channels[0].abs().topk(3)
    assert [c.channel for c in graph.concepts[:3]] == top.indices.tolist()
    assert graph.concepts[0].relevance == pytest.approx(float(channels[0, top.indices[0]]))
    references = References(crp, ["head"], tmp_path / "state.pt", count=2)
    references.update((images[i : i + 2], labels[i : i + 2]) for i in (0, 2))
    places, values = references.top("head", graph.concepts[0].channel)
    assert places[0] == 0  # strong in the prediction that it was picked from
    assert values[0] == pytest.approx(float(channels[0].max() / channels.abs().sum()))
