"""Recomputing, compiling, and the precision of the relevance pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lrp_fx import LRPFx, Optimizations
from lrp_fx.errors import OptionError, TargetError
from lrp_fx.graph.private_torch import has_compiler
from lrp_fx.run import compiling
from tests.helpers.optimized import MODELS, Residual, assert_same, images, model_of
from tests.helpers.versions import not_with_2_6


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus"])
def test_recomputed_equals_kept(make: Callable[[], nn.Module], composite: str) -> None:
    """The same operations on the same values: not a bit differs."""
    model, x = model_of(make, torch.float32), images(torch.float32)
    kept = LRPFx(model, composite).attribute(x, 1)
    lrp = LRPFx(model, composite, optimize=Optimizations(recompute=True))
    assert torch.equal(lrp.attribute(x, 1), kept)
    assert torch.equal(lrp.attribute_many(x, [1])[0], kept)


def test_recomputing_keeps_what_crosses_cuts_only() -> None:
    """Of sixteen equal layers, the relevance pass reads at most a few values of the forward pass."""
    layers = [layer for _ in range(16) for layer in (nn.Conv2d(2, 2, 3, padding=1), nn.Tanh())]
    model, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 2)), torch.randn(1, 2, 4, 4)

    def kept(*, recompute: bool) -> int:
        lrp = LRPFx(model, "epsilon", optimize=Optimizations(recompute=recompute))
        lrp.attribute(x, 1)
        nodes = list(lrp.graph.nodes)
        start = next(i for i, node in enumerate(nodes) if node.name == "start")
        before = [n for n in nodes[:start] if n.op == "call_function" and n.target is not getattr]
        after = set(nodes[start:])
        return sum(not after.isdisjoint(node.users) for node in before)

    assert kept(recompute=False) >= 32
    assert (
        kept(recompute=True) <= 14
    )  # five cuts, and the last of six segments, which is still there


def test_recomputing_an_activation_that_overwrites() -> None:
    """SiLU in place twice on one value would be wrong; the copy has an operand of its own."""
    model = nn.Sequential(
        *(layer for _ in range(8) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.SiLU())),
        *(nn.Flatten(), nn.Linear(192, 2)),
    )
    x = images(torch.float32)
    results = [
        LRPFx(model, "z_plus", optimize=Optimizations(recompute=recompute)).attribute(x, 1)
        for recompute in (False, True)
    ]
    assert torch.equal(*results)


PRECISE = {torch.bfloat16: 0.05, torch.float64: 1e-3}
"""Of max |R|: bfloat16 has 8 bits, which ten layers of z⁺ add up; float64 undoes float32's rounding."""


@pytest.mark.parametrize("precision", PRECISE)
@pytest.mark.parametrize("make", MODELS)
def test_precision_of_the_relevance_pass(
    make: Callable[[], nn.Module], precision: torch.dtype
) -> None:
    model, x = model_of(make, torch.float32), images(torch.float32)
    exact = LRPFx(model.double(), "epsilon_plus").attribute(x.double(), 1)
    optimize = Optimizations(precision=precision)
    mine = LRPFx(model.float(), "epsilon_plus", optimize=optimize).attribute(x, 1)
    assert mine.dtype == torch.float32
    assert float((mine - exact).abs().max()) <= PRECISE[precision] * float(exact.abs().max())


def test_the_relevance_pass_runs_in_the_precision() -> None:
    model, x = model_of(Residual, torch.float32), images(torch.float32)
    dtypes = set()
    lrp = LRPFx(model, "epsilon_plus", optimize=Optimizations(precision=torch.bfloat16))
    lrp.register_relevance_hook("conv", lambda r, step: dtypes.add(r.dtype))
    lrp.attribute(x, 1)
    assert dtypes == {torch.bfloat16}


@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
@not_with_2_6("cannot follow tables of rules; compile() says so")
def test_compiled_equals_eager() -> None:
    """One graph without breaks, for any target; what is kept of parameters is not compiled in."""
    torch._dynamo.reset()
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    x, lrp = images(torch.float32), LRPFx(model, "epsilon_plus")
    eager = lrp.attribute_many(x, range(3))
    compiled = LRPFx(model, "epsilon_plus").compile()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for target in range(3):
        assert_same(compiled.attribute(x, target), eager[target])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    assert not torch._dynamo.utils.counters["graph_break"]
    with torch.no_grad():
        model[0].weight.mul_(-1)
    assert_same(compiled.attribute(x, 1), lrp.attribute(x, 1))
    with pytest.raises(TargetError, match="out of range"):
        compiled.attribute(x, 7)


def test_compile_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: False)
    with pytest.raises(OptionError, match="needs a C\\+\\+ compiler, and none was found"):
        LRPFx(nn.Linear(2, 2)).compile()
    with pytest.raises(OptionError, match="needs a C\\+\\+ compiler, and none was found"):
        LRPFx(nn.Linear(2, 2), optimize=Optimizations(compiled=True))
