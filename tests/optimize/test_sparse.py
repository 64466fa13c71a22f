"""Behind a filter, what is multiplied with zero is left out, and the result stays the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, Optimizations, rules
from lrp_fx.composites import EpsilonGammaBox
from lrp_fx.errors import NonFiniteError
from lrp_fx.optimize import sparse
from lrp_fx.relevance import FilterBy, TopK, TopKFilter
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.relevance.linear.mirrored import cheapest_formula
from lrp_fx.rules import LinearRule
from tests.helpers.closeness import distance
from tests.helpers.numbers import numbers
from tests.helpers.photographs import CORRELATION, correlation, network, photographs

aten = torch.ops.aten

WITHOUT = Optimizations(sparse=False)

ROUNDING = 1e-11
"""Of max |R| in float64: the same sums in another order, magnified by small denominators."""


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The restricted form is taken however dense the relevance is."""
    for name in ("POINTWISE", "WINDOWS", "ENTRIES"):
        monkeypatch.setattr(sparse, name, float("inf"))
    monkeypatch.setattr(sparse, "LITTLE_WORK", 0)


@pytest.fixture
def never_dense(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The restricted form is taken, or the test fails: a comparison with itself proves nothing."""

    original = sparse.restricted_relevance

    def checked(*given: Any) -> Tensor:
        found = original(*given)
        assert found is not None, "the dense form ran"
        return found

    monkeypatch.setattr(sparse, "restricted_relevance", checked)


RULES = {
    "epsilon": rules.Epsilon(),
    "zero": rules.Zero(),
    "z_plus": rules.ZPlus(),
    "alpha2_beta1": rules.AlphaBeta(2, 1),
    "gamma": rules.Gamma(0.25),
    "generalized_gamma": rules.GeneralizedGamma(0.25),
    "z_box": rules.ZBox(-3.0, 3.0),
}

CONVOLUTIONS = {
    "1×1": (aten.conv2d, (6, 4, 1, 1), (5, 7), {}),
    "1×1 stride 2": (aten.conv2d, (6, 4, 1, 1), (5, 7), {"stride": [2, 2]}),
    "1×1 padded": (aten.conv2d, (6, 4, 1, 1), (5, 7), {"padding": [1]}),
    "3×3": (aten.conv2d, (6, 4, 3, 3), (6, 7), {"padding": [1, 1]}),
    "3×2 stride 2×1": (aten.conv2d, (6, 4, 3, 2), (8, 7), {"stride": [2, 1], "padding": [1, 0]}),
    "3×3 dilated": (aten.conv2d, (6, 4, 3, 3), (9, 9), {"dilation": [2, 3], "padding": [2, 3]}),
    "gaps between windows": (aten.conv2d, (6, 4, 2, 2), (9, 9), {"stride": [3, 3]}),
    "1-D": (aten.conv1d, (6, 4, 3), (12,), {"padding": [2], "stride": [2]}),
    "3-D": (aten.conv3d, (6, 4, 2, 3, 2), (4, 5, 6), {"padding": [0, 1, 1], "stride": [1, 2, 1]}),
}


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    return {"stride": [1], "padding": [0], "dilation": [1], "groups": 1, **given}


def node(packet: Any, rule: LinearRule) -> sparse.SparseRelevance:
    kind = cheapest_formula(rule, "absorb", "direct", one_sided=False)
    formula = kind.of(packet, rule, nonnegative=False, bias="absorb", engine="direct")
    return sparse.SparseRelevance(formula)


def operands_of(
    formula: Formula, x: Tensor, output: Tensor, w: Tensor, b: Tensor | None, **given: Any
) -> dict[str, Any]:
    return {"input": x, "output": output, "weights": formula.weights(w), "bias": b, **given}


def sparse_numbers(*shape: int, kept: float, seed: int = 1) -> Tensor:
    """Relevance as behind a filter: most entries zero, whole channels and positions among them."""
    values = numbers(*shape, seed=seed)
    values[numbers(*shape, seed=seed + 1).argsort(-1).argsort(-1) >= kept * shape[-1]] = 0
    if kept < 1:
        values[:, 1] = 0
        values[..., 0] = 0
    return values


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolutions_are_those_of_the_dense_form(
    case: tuple[Any, ...], rule: LinearRule, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the rule, the window and the batch: columns of windows hold the same sums."""
    packet, shape, size, given = case
    options = options_of(given)
    x, w, b = numbers(samples, 4, *size), numbers(*shape, seed=2), numbers(6, seed=3)
    output = packet(x, w, b, **options)
    relevance = sparse_numbers(*output.shape, kept=0.4)
    if "ZBox" in str(rule):
        options |= {"low": torch.full_like(x, -3.0), "high": torch.full_like(x, 3.0)}
    module = node(packet, rule)
    operands = operands_of(module.formula, x, output, w, b, **options)
    with torch.no_grad():
        found = module.propagate(relevance, **operands)
        monkeypatch.undo()
        expected = module.formula.relevance(relevance, module.formula.operands(**operands))
    assert distance(found, expected) <= ROUNDING


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("shape", [(1, 9), (4, 9), (2, 3, 9), (2, 2, 3, 9)])
@pytest.mark.parametrize("kept", [0.3, 1.0])
def test_linear_layers_are_those_of_the_dense_form(
    shape: tuple[int, ...], kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ε on layers with any number of dimensions, rows without relevance among them."""
    x, w, b = numbers(*shape), numbers(8, 9, seed=2), numbers(8, seed=3)
    output = aten.linear(x, w, b)
    relevance = sparse_numbers(*output.shape, kept=kept)
    module = node(aten.linear, rules.Epsilon())
    operands = operands_of(module.formula, x, output, w, b)
    with torch.no_grad():
        found = module.propagate(relevance, **operands)
        monkeypatch.undo()
        expected = module.formula.relevance(relevance, module.formula.operands(**operands))
    assert distance(found, expected) <= ROUNDING


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("packet", [aten.conv2d, aten.linear], ids=["conv2d", "linear"])
def test_samples_without_relevance_get_none(packet: Any) -> None:
    """A sample of which the filter left nothing, beside one of which it left all."""
    convolves = packet is aten.conv2d
    x = numbers(2, 4, 5, 5) if convolves else numbers(2, 4)
    w = numbers(6, 4, 3, 3, seed=2) if convolves else numbers(6, 4, seed=2)
    options = options_of({"padding": [1]}) if convolves else {}
    output = packet(x, w, None, **options)
    relevance = numbers(*output.shape, seed=1)
    relevance[0] = 0
    module = node(packet, rules.Epsilon())
    operands = operands_of(module.formula, x, output, w, None, **options)
    with torch.no_grad():
        found = module.propagate(relevance, **operands)
        nothing = module.propagate(relevance * 0, **operands)
    assert not found[0].any()
    assert found[1].any()
    assert found.shape == nothing.shape == x.shape
    assert not nothing.any()


def test_dense_relevance_is_left_to_the_dense_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gathering everything, or for little work, would be slower: then the functions decline."""
    x, w = numbers(2, 4, 5, 5), numbers(6, 4, 3, 3, seed=2)
    module = node(aten.conv2d, rules.Epsilon())
    z = aten.conv2d(x, w, None, padding=[1])
    formula, stabilizer = module.formula, module.formula.rule.stabilizer
    operands = formula.operands(**operands_of(formula, x, z, w, None, padding=[1]))
    assert sparse.convolution(formula, numbers(2, 6, 5, 5), operands) is None
    few = torch.zeros_like(z)
    few[:, 0, 2, 2] = 1
    assert sparse.convolution(formula, few, operands) is None
    monkeypatch.setattr(sparse, "LITTLE_WORK", 0)
    assert sparse.convolution(formula, few, operands) is not None
    assert sparse.convolution(formula, numbers(2, 6, 5, 5), operands) is None
    y, v = numbers(3, 4), numbers(6, 4, seed=2)
    assert sparse.dense(numbers(3, 6), y, y @ v.T, v, stabilizer) is None
    assert sparse.dense(torch.eye(3, 6).double(), y, y @ v.T, v, stabilizer) is not None


class Branches(nn.Module):
    """Layers of all kinds, also those that the restricted form leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.hidden = nn.Linear(6, 20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.pointwise((x + self.depthwise(x) + self.grouped(x)).relu())
        x = self.up(x.relu()).relu().mean((2, 3))
        return self.head(self.hidden(x).relu())


def model() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Branches().double().eval(), numbers(2, 3, 16, 16)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"composite": "epsilon_plus_flat"},  # ones at real inputs, none in the padding
        {"composite": "epsilon_alpha2_beta1"},
        {"composite": "epsilon_gamma_box"},
        {"composite": "z_plus"},  # linear layers with denominators of their own
        {"bias": "ignore"},
        {"bias": "distribute"},
        {"propagation": "gradient"},
    ],
    ids=str,
)
def test_whole_models_are_explained_the_same(options: dict[str, Any]) -> None:
    """``sparse`` changes nothing but rounding, also where it does not apply."""
    if options.get("composite") == "epsilon_gamma_box":
        options = {"composite": EpsilonGammaBox(-3.0, 3.0)}
    network, x = model()
    on, off = (
        LRPFx(network, top_k=0.3, start="one_hot", optimize=optimize, **options).attribute(
            x, target=1
        )
        for optimize in (True, WITHOUT)
    )
    assert distance(on, off) <= ROUNDING


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_places_that_the_filter_tells_are_those_of_the_search(by: FilterBy) -> None:
    """Equal values, samples with few or no positive ones, and a length that eight does not divide."""
    relevance = numbers(4, 9, 33, 29).float().relu_()
    relevance[0, :, ::2] = 0.25
    relevance[1] *= numbers(33, 29, seed=1) > 2
    relevance[2] *= -1
    relevance = relevance.contiguous(memory_format=torch.channels_last)
    for share in (0.05, 0.2, 0.7):
        filter = TopKFilter(TopK(share, by))
        with torch.no_grad():
            expected = filter(relevance, relevance.shape)
            found, kept = filter.telling()(relevance, relevance.shape)
            mine, searched = sparse.reached_at(kept, found), sparse.reached(expected)
        assert torch.equal(found, expected)
        assert torch.equal(mine.positions, searched.positions)
        assert (mine.counts, mine.share) == (searched.counts, pytest.approx(searched.share))
        assert all(map(torch.equal, mine.channels, searched.channels))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("layout", list(itertools.permutations(range(1, 4))))
def test_the_filter_tells_places_in_any_layout(layout: tuple[int, ...]) -> None:
    """Below a transposition, relevance lies in memory in another order than its indices."""
    inverse = [0, *(1 + layout.index(dim) for dim in range(1, 4))]
    x, w = numbers(2, 4, 33, 29), numbers(9, 4, 1, 1, seed=2)
    z = aten.conv2d(x, w)
    relevance = numbers(*z.shape, seed=3).permute(0, *layout).contiguous().permute(inverse)
    module, filter = node(aten.conv2d, rules.Epsilon()), TopKFilter(TopK(0.05))
    operands = operands_of(module.formula, x, z, w, None, **options_of({}))
    with torch.no_grad():
        told = module.propagate(filter.telling()(relevance, x.shape), **operands)
        dense = module.formula.relevance(
            filter(relevance, x.shape), module.formula.operands(**operands)
        )
    assert distance(told, dense) <= ROUNDING


@pytest.mark.usefixtures("always")
def test_many_targets_and_hooks_see_the_same() -> None:
    """Denominators that several targets shared are computed by each, to the same relevance."""
    network, x = model()
    on, off = (
        LRPFx(network, top_k=0.3, start="one_hot", optimize=optimize).attribute_many(x, range(3))
        for optimize in (True, WITHOUT)
    )
    assert distance(on, off) <= ROUNDING


def test_only_filtered_layers_are_restricted() -> None:
    """Without a filter the denominators stay nodes of the graph, which many targets share."""
    network, x = model()

    def denominators(**options: Any) -> int:
        lrp = LRPFx(network, "z_plus", **options)
        lrp.attribute(x, target=0)
        return sum("denominators" in each.name for each in lrp.graph.nodes)

    assert denominators() == denominators(top_k=0.1, optimize=WITHOUT) == 7
    # convolutions of one group: stem and pointwise
    assert denominators(top_k=0.1) == 5
    assert denominators(filters=[("stem", 0.1)]) == 6


@pytest.mark.usefixtures("always")
def test_nan_is_no_zero() -> None:
    """NaN relevance must reach the check at the end, not be left out like a zero."""
    network, x = model()
    lrp = LRPFx(network, top_k=0.1)
    lrp.register_relevance_hook("pointwise", lambda relevance, _: relevance * float("nan"))
    with pytest.raises(NonFiniteError):
        lrp.attribute(x, target=0)


@pytest.mark.usefixtures("always")
def test_exporters_get_the_dense_form() -> None:
    """Which form is faster is decided by values; an exported graph has none to decide by."""
    network, x = model()
    lrp = LRPFx(network, top_k=0.3, start="one_hot")
    expected = lrp.attribute(x, target=0)
    with torch.no_grad():
        exported = torch.export.export(lrp._program(x).lrp.module, (x, 0), strict=False)
        (found,), *_ = exported.module()(x, 0)
    assert not any("nonzero" in str(each.target) for each in exported.graph.nodes)
    assert distance(found, expected) <= ROUNDING


def test_a_real_network_is_explained_the_same() -> None:
    """EfficientNet-Lite0 on photographs, in float32, each layer in the form that its density wants.

    Rounding may decide which of two equal values a filter keeps, hence no bound on each pixel.
    """
    x, target = (each[::10] for each in photographs())
    on, off = (
        LRPFx(network().model, top_k=0.05, optimize=optimize).attribute(x, target=target).sum(1)
        for optimize in (True, WITHOUT)
    )
    for found, expected in zip(on, off, strict=True):
        assert correlation(found, expected) >= CORRELATION
