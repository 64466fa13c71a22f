"""``with_composite``: the same reading, explained by another composite."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.errors import (
    CompositeError,
)
from tests.helpers.models import normed_cnn
from tests.helpers.numbers import numbers


@pytest.mark.parametrize("name", [None, "zero", "epsilon_plus_flat", "attn_lrp"])
def test_another_composite_gives_the_map_of_a_new_attribution(name: str | None) -> None:
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model, "z_plus", top_k=0.5)
    before = first.attribute(x, 1)
    other = first.with_composite(name)
    assert torch.equal(other.attribute(x, 1), LRPFx(model, name, top_k=0.5).attribute(x, 1))
    assert torch.equal(first.attribute(x, 1), before)
    layer = LayerLRPFx(model, model.conv1, "z_plus")
    layer.attribute(x, 1)
    expected = LayerLRPFx(model, model.conv1, name).attribute(x, 1)
    assert torch.equal(layer.with_composite(name).attribute(x, 1), expected)


def test_another_composite_does_not_read_again_unless_the_model_changed() -> None:
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model, "z_plus")
    first.attribute(x, 1)
    ((reading,),) = first._explainer._readings.values()
    other = first.with_composite("epsilon")
    other.attribute(x, 1)
    ((same,),) = other._explainer._readings.values()
    assert same.canonical is reading.canonical
    assert same.programs is not reading.programs
    model.conv1 = nn.Conv2d(2, 4, 3, padding=1).double()
    assert torch.equal(other.attribute(x, 1), LRPFx(model, "epsilon").attribute(x, 1))


def test_another_composite_keeps_the_hooks_of_its_time() -> None:
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model, "zero")
    handle = first.register_relevance_hook("conv1", lambda relevance, where: 2 * relevance)
    other = first.with_composite("epsilon")
    handle.remove()
    assert torch.equal(other.attribute(x, 1), 2 * LRPFx(model, "epsilon").attribute(x, 1))
    assert torch.equal(first.attribute(x, 1), LRPFx(model, "zero").attribute(x, 1))


def test_an_unknown_other_composite_is_an_error() -> None:
    with pytest.raises(CompositeError, match="epsilon"):
        LRPFx(normed_cnn()).with_composite("epsilom")
