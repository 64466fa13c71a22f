"""The relevance of inputs and layers for a neuron."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import (
    NoiseTunnel,
)
from torch import nn

from lrp_fx import Composite, LRPFx, NeuronLRPFx, rules
from lrp_fx.composites import anything
from lrp_fx.errors import (
    TargetError,
)
from tests.helpers.closeness import assert_close
from tests.helpers.models import Exotic, PerPixel, normed_cnn
from tests.helpers.numbers import numbers


@pytest.mark.parametrize(
    ("layer", "cut", "selector"),
    [
        ("conv1", 1, (3, 4, 4)),
        ("norm1", 2, (3, 4, 4)),
        ("relu1", 3, (1, -1, 0)),
        ("pool1", 4, [(1, 2, 3), (0, 0, 0)]),
        ("flatten", 8, 3),
        ("classifier", 10, torch.tensor([1, 2])),
    ],
)
def test_neuron_is_the_output_of_the_model_up_to_its_layer(
    layer: str, cut: int, selector: Any
) -> None:
    """Captum has no neuron LRP to compare with; the truncated model is the reference.

    One rule everywhere: by place the neuron is the output, and it is in the truncated model too.
    """
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    rule = Composite([(anything(), rules.ZPlus())])
    mine = NeuronLRPFx(model, layer, rule).attribute(x, selector)
    assert_close(mine, LRPFx(model[:cut], rule).attribute(x, selector))
    below = NeuronLRPFx(model, "pool1", rule).attribute(x, (1, 1, 1), None, True)
    assert_close(below, LRPFx(model[:3], rule).attribute(x, (1, 1, 1)))


def test_several_neurons_as_one() -> None:
    """By slices, or by a function that sums them up: the sum of their explanations."""
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    lrp = NeuronLRPFx(model, "pool1")
    slices = lrp.attribute(x, (slice(0, 2), 1, slice(None, None, 2)))
    by_function = lrp.attribute(x, lambda y: y[:, :2, 1, ::2].sum((1, 2)))
    parts = [lrp.attribute(x, (channel, 1, place)) for channel in (0, 1) for place in (0, 2)]
    assert_close(slices, sum(parts[1:], parts[0]))
    assert_close(by_function, slices)
    one_hot = NeuronLRPFx(model, "pool1", start="one_hot")
    by_function = one_hot.attribute(x, lambda y: y[:, :2, 1, ::2].sum((1, 2)))
    assert_close(by_function, one_hot.attribute(x, (slice(0, 2), 1, slice(None, None, 2))))
    with torch.inference_mode():
        assert torch.equal(lrp.attribute(x, (slice(0, 2), 1, slice(None, None, 2))), slices)
        assert torch.isfinite(lrp.attribute(x, lambda y: y.flatten(1).sum(1))).all()
    different = [(slice(0, 2), 1, 1), (slice(0, 3), 1, 1)]
    with pytest.raises(TargetError, match="different numbers"):
        lrp.attribute(x, different)
    with pytest.raises(TargetError, match="selects none"):
        lrp.attribute(x, (slice(4, 9), 1, 1))
    with pytest.raises(TargetError, match=r"one number for each of the 2 samples, got \(2, 4, 4\)"):
        lrp.attribute(x, lambda y: y[:, 0])


def test_a_region_of_a_segmentation_is_a_target() -> None:
    """A slice among the indices: Σ relevance is the logits of the region."""
    model, x = PerPixel().double(), numbers(2, 2, 4, 4).abs()
    assert model.conv.bias is not None
    nn.init.zeros_(model.conv.bias)
    nn.init.uniform_(model.conv.weight)
    relevance = LRPFx(model, "zero").attribute(x, (2, slice(1, 3), slice(None)))
    assert_close(relevance.sum((1, 2, 3)), model(x).detach()[:, 2, 1:3].sum((1, 2)))


def test_smoothgrad_of_a_neuron() -> None:
    neuron, x = NeuronLRPFx(normed_cnn(), "pool1"), numbers(2, 2, 8, 8)
    smooth = NoiseTunnel(neuron).attribute(x, nt_samples=3, stdevs=0.0, neuron_selector=(1, 2, 3))
    assert_close(smooth, neuron.attribute(x, (1, 2, 3)))


def test_no_rules_are_asked_for_above_a_neuron() -> None:
    """Of what lies behind it nothing is needed, neither forward nor backward."""
    model, x = Exotic().double(), numbers(2, 4)
    neuron = NeuronLRPFx(model, "first", "zero").attribute(x, 2)
    assert_close(neuron, LRPFx(model.first, "zero").attribute(x, 2))


def test_neuron_selectors_are_checked_like_targets() -> None:
    neuron = NeuronLRPFx(normed_cnn(), "flatten")
    with pytest.raises(TargetError, match="index 5 is out of range for 5 outputs"):
        neuron.attribute(numbers(2, 2, 8, 8), 5)
    relevance = neuron.attribute((numbers(2, 2, 8, 8),), 1)
    assert isinstance(relevance, tuple)
