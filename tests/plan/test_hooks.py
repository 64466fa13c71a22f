"""Relevance hooks: what they see, what they may change, and that they leave no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx, Optimizations
from lrp_fx.composites import operation
from lrp_fx.errors import CompositeError, InputError
from lrp_fx.plan.plan import Step
from lrp_fx.relevance.edges.top_k import relevance_filter
from tests.helpers.closeness import SAME_SUMS, assert_close
from tests.helpers.models import NETWORKS, unnamed_cnn
from tests.helpers.numbers import numbers

NETWORK = NETWORKS["residual"]
X = NETWORK.inputs(3)


def test_a_hook_sees_the_relevance_of_the_nodes_output() -> None:
    """What it gets at a layer is what LayerLRPFx returns for that layer; the map is unchanged."""
    model, (x,) = unnamed_cnn(), X
    lrp = LRPFx(model)
    plain = lrp.attribute(x, 1)
    seen: dict[str, Tensor] = {}

    def record(relevance: Tensor, step: Step) -> None:
        seen[step.path] = relevance.clone()

    handle = lrp.register_relevance_hook(nn.Conv2d, record)
    assert torch.equal(lrp.attribute(x, 1), plain)
    assert list(seen) == ["2", "0"]  # in the order in which the relevance takes them
    for path, relevance in seen.items():
        assert torch.equal(relevance, LayerLRPFx(model, path).attribute(x, 1))
    handle.remove()
    seen.clear()
    lrp.attribute(x, 1)
    assert not seen


def test_a_hook_changes_the_relevance() -> None:
    """A mask on channels: the map is linear in the relevance, so masks that add up to one do too."""
    model, (x,) = unnamed_cnn(), X
    lrp = LRPFx(model)
    plain, parts = lrp.attribute(x, 1), []
    for channel in range(4):

        def only(relevance: Tensor, step: Step, channel: int = channel) -> Tensor:
            mask = torch.zeros(4, 1, 1, dtype=relevance.dtype)
            mask[channel] = 1
            return relevance * mask

        handle = lrp.register_relevance_hook("0", only)
        parts.append(lrp.attribute(x, 1))
        handle.remove()
    assert torch.allclose(sum(parts), plain, atol=1e-12)
    assert torch.equal(lrp.attribute(x, 1), plain)


@pytest.mark.parametrize("optimize", [False, True])
def test_a_hook_that_writes_and_returns_none_changes_nothing(optimize: bool) -> None:
    model, (x,) = unnamed_cnn(), X
    lrp = LRPFx(model, optimize=optimize)
    plain = lrp.attribute(x, 1)

    def writes(relevance: Tensor, step: Step) -> None:
        relevance.zero_()

    for pattern in ("4", "2", "0"):
        lrp.register_relevance_hook(pattern, writes)
    # behind a hook relevance may arrive at negative outputs too, which takes another order of sums
    assert_close(lrp.attribute(x, 1), plain, SAME_SUMS)


def test_the_filter_is_a_hook() -> None:
    """The option top_k does what a hook with the filter's function does."""
    # behind a hook nobody looks for zeros: the same bits need the same kernels
    filtered = LRPFx(NETWORK.model(), top_k=0.3, optimize=Optimizations(sparse=False)).attribute(
        X, 1
    )
    lrp = LRPFx(NETWORK.model())
    kinds = ("convolution", "dense", "max pooling", "average pooling")
    lrp.register_relevance_hook(operation(*kinds), lambda r, step: relevance_filter(r, 0.3))
    hooked = lrp.attribute(X, 1)
    assert all(torch.equal(a, b) for a, b in zip(filtered, hooked, strict=True))


def test_hooks_run_in_the_order_of_their_registration() -> None:
    calls = []
    lrp = LRPFx(unnamed_cnn())
    for name in "ab":
        lrp.register_relevance_hook("5", lambda r, step, name=name: calls.append(name))
    lrp.attribute(X[0], 0)
    assert calls == ["a", "b"]


def test_hooks_of_layers_and_neurons_and_in_the_ledger() -> None:
    """The other attributions take hooks too; the ledger books what a hook takes as a filter."""
    model, (x,) = unnamed_cnn(), X
    layer, neuron = LayerLRPFx(model, "0"), NeuronLRPFx(model, "2")
    for lrp in (layer, neuron):
        lrp.register_relevance_hook("2", lambda r, step: r * 0)
    assert not layer.attribute(x, 1).any()
    assert not neuron.attribute(x, (0, 1, 1)).any()
    lrp = LRPFx(model)
    lrp.register_relevance_hook("2", lambda r, step: r / 4)
    ledger = lrp.audit(x, 1)
    assert ledger.closes()
    (entry,) = (entry for entry in ledger.entries if entry.operation == "hook")
    assert entry.taken["filter"] == pytest.approx([0.75 * r for r in entry.arrived])


def wrong_shape(relevance: Tensor, step: Step) -> Tensor:
    return relevance[:, :1]


def no_tensor(relevance: Tensor, step: Step) -> Any:
    return 3


@pytest.mark.parametrize("hook", [wrong_shape, no_tensor])
def test_a_hook_that_returns_something_else_is_an_error(hook: Any) -> None:
    lrp = LRPFx(unnamed_cnn())
    lrp.register_relevance_hook("2", hook)
    with pytest.raises(InputError, match=f"{hook.__name__} at '.*conv2d'"):
        lrp.attribute(X[0], 0)


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    lrp = LRPFx(unnamed_cnn())
    lrp.register_relevance_hook("layer9", lambda r, step: None)
    with pytest.raises(CompositeError, match="layer9"):
        lrp.attribute(X[0], 0)
    with pytest.raises(CompositeError, match="matcher"):
        lrp.register_relevance_hook(3, lambda r, step: None)  # type: ignore[arg-type]


def test_the_model_is_not_touched() -> None:
    model = unnamed_cnn()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    lrp = LRPFx(model)
    lrp.register_relevance_hook("2", lambda r, step: r)
    lrp.attribute(numbers(2, 3, 12, 12), 0)
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
