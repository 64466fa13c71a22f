"""Every optimization can be switched off, and changes nothing but rounding.

The networks here are in float32 too, since layouts and kernels differ there only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from lrp_fx import LayerLRPFx, LRPFx, Optimizations, composites, rules
from lrp_fx.optimize import NOTHING
from lrp_fx.optimize.residuals import recovered
from tests.helpers.optimized import MODELS, Residual, assert_same, images, model_of

SWITCHES = [field.name for field in fields(Optimizations) if field.default is True]


COMPOSITES: dict[str, Any] = {
    "zero": "zero",
    "epsilon": composites.Epsilon(0.01),
    "z_plus": "z_plus",
    "flat": "epsilon_plus_flat",
    "alpha_beta": "epsilon_alpha2_beta1",
    "gamma": composites.EpsilonGammaBox(-3.0, 3.0),
    "w_square": composites.Uniform(rules.WSquare()),
    "blog": composites.compat.blog(),
    "half": composites.Composite([(composites.operation("addition"), rules.Half())], name="half"),
}


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_optimized_equals_plain(
    make: Callable[[], nn.Module],
    composite: str,
    dtype: torch.dtype,
    request: pytest.FixtureRequest,
) -> None:
    """All of them together, for both engines, on every rule; then with oneDNN for small products too."""
    model, x, rule = model_of(make, dtype), images(dtype), COMPOSITES[composite]
    strict = dict.fromkeys(["strict"], False) if composite == "half" else {}
    if strict and make is not Residual:
        pytest.skip("no addition")
    plain = LRPFx(model, rule, optimize=False).attribute(x, 1)
    assert float(plain.abs().max()) > 0
    assert_same(LRPFx(model, rule).attribute(x, 1), plain)
    assert_same(LRPFx(model, rule, propagation="gradient").attribute(x, 1), plain)
    request.getfixturevalue("little_work_counts")
    assert_same(LRPFx(model, rule).attribute(x, 1), plain)


@pytest.mark.usefixtures("little_work_counts")
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("make", MODELS)
def test_each_alone_equals_plain(make: Callable[[], nn.Module], switch: str) -> None:
    """So that one does not hide the fault of another."""
    model, x = model_of(make, torch.float32), images(torch.float32)
    alone = Optimizations(**{name: name == switch for name in SWITCHES})
    for composite in ("epsilon", "epsilon_plus"):
        plain = LRPFx(model, composite, optimize=NOTHING).attribute(x, 1)
        assert_same(LRPFx(model, composite, optimize=alone).attribute(x, 1), plain)


@pytest.mark.usefixtures("little_work_counts")
@pytest.mark.parametrize("make", MODELS)
def test_neither_inputs_nor_parameters_nor_layers_are_overwritten(
    make: Callable[[], nn.Module],
) -> None:
    """What is overwritten is nobody's but the pass's own; relevance of layers is given out."""
    model, x = model_of(make, torch.float32), images(torch.float32)
    before = x.clone()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    lrp = LRPFx(model, "epsilon_alpha2_beta1")
    first = lrp.attribute(x, 1)
    kept = first.clone()
    layers = [n.name for n in lrp.graph.nodes if n.op == "call_module" and "origin" in n.meta]
    names = [n.removesuffix("_relevance") for n in layers if n.endswith("_relevance")]
    several = LayerLRPFx(model, names, "epsilon_alpha2_beta1").attribute(x, 1)
    plain = LayerLRPFx(model, names, "epsilon_alpha2_beta1", optimize=False).attribute(x, 1)
    for mine, expected in zip(several, plain, strict=True):
        assert_same(mine, expected)
    assert torch.equal(lrp.attribute(x, 1), kept)
    assert torch.equal(first, kept)
    assert torch.equal(x, before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_hooks_may_keep_what_they_saw() -> None:
    """A tensor that a hook was given keeps its values."""
    model, x = model_of(Residual, torch.float32), images(torch.float32)
    lrp, seen = LRPFx(model, "epsilon"), []
    handle = lrp.register_relevance_hook("*", lambda r, step: seen.append((r, r.clone())))
    lrp.attribute(x, 1)
    handle.remove()
    assert seen
    assert all(torch.equal(kept, copy) for kept, copy in seen)


def test_many_targets_share_what_is_not_overwritten() -> None:
    model, x = model_of(Residual, torch.float32), images(torch.float32)
    lrp = LRPFx(model, "epsilon_plus")
    together = lrp.attribute_many(x, range(5))
    for target in range(5):
        assert torch.equal(together[target], lrp.attribute(x, target))


def test_activations_overwrite_only_what_they_alone_read() -> None:
    """Under z⁺ nobody reads a convolution's output but its ReLU; under ε with SiLU the rule does."""

    def in_place(model: nn.Module, composite: str) -> int:
        graph: fx.Graph = LRPFx(model, composite).graph
        return sum(str(node.target).rstrip().endswith("_") for node in graph.nodes)

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Conv2d(2, 2, 3))
    assert in_place(model, "z_plus") == 1
    assert in_place(model, "epsilon") == 0


def test_convolutions_of_float32_run_channels_last_on_cpu() -> None:
    """And what comes out is contiguous all the same."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("no oneDNN")
    layouts = []

    def look(r: Tensor, step: Any) -> None:
        layouts.append(r.is_contiguous(memory_format=torch.channels_last))

    lrp = LRPFx(model_of(Residual, torch.float32), "epsilon_plus")
    lrp.register_relevance_hook("conv", look)
    assert lrp.attribute(images(torch.float32), 1).is_contiguous()
    assert layouts == [True]


def test_a_residual_addition_overwrites_what_nobody_else_keeps() -> None:
    """Under z⁺ the branch's output is recovered from the sum; under ε its own rule keeps it anyway."""

    def recoveries(composite: str) -> int:
        graph: fx.Graph = LRPFx(model_of(Residual, torch.float32), composite).graph
        return sum(node.target is recovered for node in graph.nodes)

    assert recoveries("z_plus") == 1
    assert recoveries("epsilon") == 0


def test_a_summand_that_was_broadcast_is_kept() -> None:
    """It has no room for the sum."""

    class Broadcast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pooled = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return (self.pooled(x) + torch.relu(self.conv(x))).relu().sum((2, 3))

    torch.manual_seed(0)
    model, x = Broadcast(), images(torch.float32)
    assert_same(
        LRPFx(model, "z_plus").attribute(x, 1),
        LRPFx(model, "z_plus", optimize=False).attribute(x, 1),
    )
