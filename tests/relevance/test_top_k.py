"""The filter that keeps the largest relevance of each sample, by itself and on the way."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from lrp_fx import Composite, LayerLRPFx, LRPFx, Optimizations, relevance_filter, rules
from lrp_fx.composites import TopK, anything, convolution, dense, operation
from lrp_fx.errors import CompositeError, OptionError
from lrp_fx.relevance.edges.top_k import TopKFilter
from tests.helpers.closeness import CONSERVED, assert_close
from tests.helpers.models import cnn
from tests.helpers.numbers import numbers
from tests.helpers.optimized import Residual, assert_same, model_of


def slow_filter(relevance: Tensor, top_k: float, by: str = "value") -> Tensor:
    """Sorts each sample and keeps the first k values: exact by its form."""
    result = torch.zeros_like(relevance)
    for sample, kept in zip(relevance, result, strict=True):
        k = max(1, int(Fraction(str(top_k)) * sample.numel()))
        ranked = sample.abs() if by == "magnitude" else sample
        order = ranked.flatten().sort(descending=True, stable=True).indices[:k]
        flat = torch.zeros(sample.numel(), dtype=sample.dtype)
        flat[order] = sample.flatten()[order]
        kept.copy_(flat.reshape(sample.shape))
    return result


@st.composite
def relevances(draw: st.DrawFn) -> Tensor:
    """Of one to five dimensions, with many equal values."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    size = torch.Size(shape).numel()
    values = st.one_of(
        st.integers(-3, 3).map(float),
        st.floats(-1e6, 1e6, allow_nan=False, width=32),
    )
    return torch.tensor(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)


@settings(max_examples=150, deadline=None)
@given(relevances(), st.floats(1e-6, 1.0, exclude_max=True))
def test_filter_agrees_with_sorting(relevance: Tensor, top_k: float) -> None:
    """Which of several equal values are kept is free; how many, and everything else, is not."""
    mine = relevance_filter(relevance, top_k)
    expected = slow_filter(relevance, top_k)
    assert mine.shape == relevance.shape
    assert bool(((mine == relevance) | (mine == 0)).all())
    rows, wanted = (t.reshape(t.shape[0], -1).sort(1).values for t in (mine, expected))
    assert torch.equal(rows, wanted)


@pytest.mark.parametrize(
    ("top_k", "size", "kept"),
    [(0.05, 100, 5), (0.05, 19, 1), (0.05, 59, 2), (1e-9, 100, 1), (0.999, 100, 99), (0.5, 1, 1)],
)
@pytest.mark.parametrize("ties", [False, True])
def test_exactly_k_are_kept(top_k: float, size: int, kept: int, ties: bool) -> None:
    """k = max(1, int(p · n)), of values that are all equal too."""
    row = torch.full((size,), 2.0) if ties else torch.randperm(size) + 1.0
    mine = relevance_filter(torch.stack([row, row]), top_k)
    assert (mine != 0).sum(1).tolist() == [kept, kept]


def test_filter_is_by_signed_value() -> None:
    """Large negative relevance goes first; where all is negative, the least negative stays."""
    relevance = torch.tensor([[-9.0, 1.0, -8.0, 3.0], [-4.0, -2.0, -3.0, -1.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0, 3.0], [0.0, -2.0, 0.0, -1.0]])
    assert torch.equal(relevance_filter(relevance, 0.5), expected)


def test_samples_are_filtered_alone() -> None:
    """A sample with little relevance keeps as many values as one with much."""
    relevance = torch.stack([torch.arange(1.0, 11.0), torch.arange(1.0, 11.0) * 1e6])
    mine = relevance_filter(relevance.reshape(2, 5, 2), 0.3)
    assert (mine != 0).sum((1, 2)).tolist() == [3, 3]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_filter_keeps_dtype_and_device(dtype: torch.dtype) -> None:
    relevance = numbers(2, 3, 4).to(dtype)
    mine = relevance_filter(relevance, 0.5)
    assert (mine.dtype, mine.device) == (dtype, relevance.device)
    assert torch.equal(mine, slow_filter(relevance, 0.5))


def test_filter_of_one_dimension_and_of_strides() -> None:
    """(N,) is one value per sample, of which one is always kept; memory layout does not matter."""
    values = torch.tensor([1.0, -2.0, 0.0])
    assert torch.equal(relevance_filter(values, 0.01), values)
    strided = numbers(4, 6, 2).permute(2, 1, 0)
    assert torch.equal(relevance_filter(strided, 0.3), slow_filter(strided, 0.3))


def test_filter_leaves_its_argument_alone() -> None:
    relevance = numbers(2, 10)
    before = relevance.clone()
    relevance_filter(relevance, 0.1)
    assert torch.equal(relevance, before)
    assert relevance_filter(relevance, 1) is relevance
    assert relevance_filter(relevance, 1.0) is relevance


WRONG_FRACTIONS = [0, 0.0, -1, -0.5, 1.5, 2, True, False, float("nan"), float("inf"), "a", None]


@pytest.mark.parametrize("top_k", WRONG_FRACTIONS)
def test_wrong_fractions(top_k: Any) -> None:
    """Everywhere where a fraction can be given, before anything runs; True is no 100 %."""
    words = "top_k is the fraction of relevance values to keep: 0 < top_k <= 1, got"
    with pytest.raises(OptionError, match=words):
        relevance_filter(torch.ones(2, 3), top_k)
    with pytest.raises(OptionError, match=words):
        LRPFx(cnn(12), top_k=top_k)
    with pytest.raises(OptionError, match=words):
        LRPFx(cnn(12), filters=[("conv1", top_k)])
    with pytest.raises(OptionError, match=words):
        Composite([], filters=[("conv1", top_k)])


def test_filter_needs_a_batch() -> None:
    for other in (torch.rand(2, 3).to_sparse(), torch.rand(2, 3, device="meta")):
        with pytest.raises(OptionError, match="a dense tensor with values"):
            relevance_filter(other, 0.5)
    with pytest.raises(OptionError, match="batch dimension"):
        relevance_filter(torch.tensor(1.0), 0.5)


LARGE = (3, 16, 24, 24)
"""More values per sample than the filter leaves to ``topk``."""


@pytest.mark.parametrize("top_k", [1e-6, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_filter_equals_sorting(top_k: float, layout: Any, dtype: torch.dtype) -> None:
    r = torch.randn(LARGE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if dtype != torch.bfloat16:  # which has too few values to be without ties
        assert torch.equal(
            relevance_filter(r.to(dtype).to(memory_format=layout), top_k),
            slow_filter(r.to(dtype), top_k),
        )
    kept = relevance_filter(r.to(dtype).to(memory_format=layout), top_k)
    assert (kept.flatten(1) != 0).sum(1).tolist() == [max(1, int(top_k * r[0].numel()))] * 3


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 2.0), (-3.0, -1.0), (0.0, -1.0), (2.0, 2.0)])
def test_filter_keeps_exactly_k_of_equal_values(values: tuple[float, float]) -> None:
    """Half the entries have one value and half the other, so that the threshold falls among equals."""
    low, high = values
    r = torch.full(LARGE, low)
    r[:, ::2] = high
    for top_k in (0.3, 0.5, 0.8):
        k = int(top_k * r[0].numel())
        kept = relevance_filter(r, top_k)
        assert torch.equal(kept.flatten(1).sum(1), slow_filter(r, top_k).flatten(1).sum(1))
        assert int((kept[0] != 0).sum()) <= k
        assert set(kept.unique().tolist()) <= {low, high, 0.0}


def test_filter_leaves_its_argument_alone_and_takes_any_strides() -> None:
    r = torch.randn(LARGE)[:, :, ::2, 1:].transpose(2, 3).expand(3, -1, -1, -1)
    before = r.clone()
    assert torch.equal(relevance_filter(r, 0.1), slow_filter(r, 0.1))
    assert torch.equal(r, before)


@settings(max_examples=100, deadline=None)
@given(relevances(), st.floats(1e-6, 1.0, exclude_max=True))
def test_filter_by_magnitude_agrees_with_sorting(relevance: Tensor, top_k: float) -> None:
    """The sizes of what is kept; the signs are those that the values had."""
    mine = relevance_filter(relevance, top_k, by="magnitude")
    expected = slow_filter(relevance, top_k, "magnitude")
    assert bool(((mine == relevance) | (mine == 0)).all())
    rows, wanted = (t.abs().reshape(t.shape[0], -1).sort(1).values for t in (mine, expected))
    assert torch.equal(rows, wanted)


@pytest.mark.parametrize("by", ["value", "magnitude"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("every", [5000, 7, 2])
def test_exactly_k_of_values_that_are_not_finite(by: Any, wrong: float, every: int) -> None:
    """More of them than are kept, fewer, and one; NaN counts as the largest, as in ``topk``."""
    r = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0))
    r[0, ::every] = wrong
    for top_k in (0.05, 0.77):
        kept = relevance_filter(r, top_k, by=by)
        assert int((kept != 0).sum()) == int(top_k * 5000)


@pytest.mark.parametrize(("top_k", "n", "kept"), [(0.29, 100, 29), (0.07, 100, 7), (0.58, 50, 29)])
def test_fractions_mean_what_they_say(top_k: float, n: int, kept: int) -> None:
    """Though 0.29 · 100 is less than 29 in floats."""
    assert int((relevance_filter(torch.randn(1, n), top_k) != 0).sum()) == kept


def test_filter_takes_negative_views() -> None:
    r = torch.randn(1, 5000, dtype=torch.complex64).conj().imag
    assert r.is_neg()
    assert torch.equal(relevance_filter(r, 0.3), relevance_filter(r.resolve_neg(), 0.3))


@pytest.mark.parametrize("top_k", [1e-6, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_filter_by_magnitude_of_many_values(top_k: float, dtype: torch.dtype) -> None:
    """Where the threshold is found by a partition, with ties at the threshold too."""
    r = torch.randn(LARGE, generator=torch.Generator().manual_seed(2), dtype=dtype)
    expected = slow_filter(r, top_k, "magnitude")
    assert torch.equal(relevance_filter(r, top_k, by="magnitude"), expected)
    equal = torch.full(LARGE, -2.0, dtype=dtype)
    equal[:, ::2] = 2.0
    kept = relevance_filter(equal, top_k, by="magnitude")
    assert (kept.flatten(1) != 0).sum(1).tolist() == [max(1, int(top_k * r[0].numel()))] * 3


@pytest.mark.parametrize(
    ("values", "by", "expected"),
    [
        # both signs are kept: positive ones sum up to 8 and negative ones to -5, as before
        ([6.0, 2.0, -4.0, -1.0], "magnitude", [8.0, 0.0, -5.0, 0.0]),
        # one sign is kept, and the whole sum 3 has it
        ([6.0, 2.0, -4.0, -1.0], "value", [2.25, 0.75, 0.0, 0.0]),
        # one sign is kept, and the whole sum -6 has the other one: left alone
        ([1.0, 2.0, -4.0, -5.0], "value", [1.0, 2.0, 0.0, 0.0]),
        ([0.0, 0.0, 0.0, 0.0], "value", [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_renormalized_filter_keeps_the_sum(
    values: list[float], by: Any, expected: list[float]
) -> None:
    mine = relevance_filter(torch.tensor([values, values]), 0.5, by=by, renormalize=True)
    assert torch.equal(mine, torch.tensor([expected, expected]))


# The filter in the propagation


@pytest.mark.parametrize("optimize", [True, False])
def test_renormalized_filters_conserve(optimize: bool) -> None:
    """By magnitude and without biases everything arrives, however little is kept on the way."""
    model, x = cnn(16), numbers(2, 2, 16, 16)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.zeros_(module.bias)
    options: dict[str, Any] = {"top_k": 0.3, "filter_by": "magnitude", "optimize": optimize}
    lrp = LRPFx(model, "zero", renormalize=True, **options)
    relevance, delta = lrp.attribute(x, 1, return_convergence_delta=True)
    output = model(x)[:, 1].detach()
    assert_close(relevance.sum((1, 2, 3)), output, tolerance=CONSERVED)
    assert float(delta.abs().max()) <= CONSERVED * float(output.abs().max())
    plain = LRPFx(model, "zero", **options).attribute(x, 1)
    assert float((plain.sum((1, 2, 3)) - output).abs().max()) > 0.01 * float(output.abs().max())


def test_plan_says_what_a_filter_keeps() -> None:
    """Filters given as numbers follow the options; a TopK says it for itself."""
    filters = [("conv1", 0.5), ("conv2", TopK(0.25, "value"))]
    lrp = LRPFx(cnn(12), top_k=0.1, filters=filters, filter_by="magnitude", renormalize=True)
    found = {step.path: str(step.top_k) for step in lrp.plan().steps if step.top_k is not None}
    assert found["conv1"] == "0.5 by magnitude, renormalized"
    assert found["conv2"] == "0.25"
    assert found["classifier"] == "0.1 by magnitude, renormalized"


@pytest.mark.parametrize("options", [{"filter_by": "size"}, {"renormalize": 1}, {"filter_by": 1}])
def test_wrong_options_of_filters(options: Any) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        LRPFx(cnn(12), **options)


def pulled(output: Tensor, *inputs: Tensor, relevance: Tensor) -> list[Tensor]:
    """``x ⊙ Jᵀ[R / S(z)]`` for each input, by autograd."""
    quotient = relevance / (output + torch.where(output < 0, -1e-6, 1e-6))
    gradients = torch.autograd.grad(output, inputs, quotient.detach())
    return [(x * g).detach() for x, g in zip(inputs, gradients, strict=True)]


def relevance_before(layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """One step of the loop of the blog post, for the rules of EpsilonPlus."""
    if isinstance(layer, nn.ReLU):
        return relevance
    if isinstance(layer, nn.Flatten):
        return relevance.reshape(x.shape)
    x = x.detach().requires_grad_()
    if isinstance(layer, nn.MaxPool2d):
        return torch.autograd.grad(layer(x), x, relevance)[0]
    if isinstance(layer, (nn.AvgPool2d, nn.Linear)):
        return pulled(layer(x), x, relevance=relevance)[0]
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    up, down = (x.detach().clamp(**{side: 0}).requires_grad_() for side in ("min", "max"))
    weight = layer.weight.detach()
    z = F.conv2d(up, weight.clamp(min=0), layer.bias.detach().clamp(min=0), padding=layer.padding)
    z = z + F.conv2d(down, weight.clamp(max=0), padding=layer.padding)
    return sum(pulled(z, up, down, relevance=relevance), start=torch.zeros_like(x)).detach()


def loop(model: nn.Sequential, x: Tensor, target: int, top_k: dict[str, float]) -> Tensor:
    """LRP by a loop over the layers, with a filter on what enters each layer named in ``top_k``."""
    activations = [x]
    for layer in model:
        activations.append(layer(activations[-1]).detach())
    relevance = torch.zeros_like(activations[-1])
    relevance[:, target] = 1.0
    layers = list(model.named_children())
    for (name, layer), activation in reversed(list(zip(layers, activations, strict=False))):
        if name in top_k:
            relevance = slow_filter(relevance, top_k[name])
        relevance = relevance_before(layer, activation, relevance)
    return relevance


FILTERED = ["conv1", "pool1", "conv2", "pool2", "hidden", "classifier"]


@pytest.mark.parametrize("top_k", [1.0, 0.5, 0.05])
def test_top_k_filters_before_every_layer_with_weights_or_pooling(top_k: float) -> None:
    model, x = cnn(12), numbers(3, 2, 12, 12)
    mine = LRPFx(model, "epsilon_plus", top_k=top_k, start="one_hot").attribute(x, 1)
    filters = {} if top_k == 1 else dict.fromkeys(FILTERED, top_k)
    assert_close(mine, loop(model, x, 1, filters))


def test_filter_changes_the_map() -> None:
    """Else the test above would prove nothing."""
    model, x = cnn(12), numbers(3, 2, 12, 12)
    few = LRPFx(model, top_k=0.05, start="one_hot").attribute(x, 1)
    assert int((few != 0).sum()) < int((LRPFx(model).attribute(x, 1) != 0).sum()) / 2


@pytest.mark.parametrize("how", ["option", "composite"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("conv2", 0.1)], {"conv2": 0.1}),
        ([("pool*", 0.1), ("hidden", 0.3)], {"pool1": 0.1, "pool2": 0.1, "hidden": 0.3}),
        ([(nn.Conv2d, 0.2)], {"conv1": 0.2, "conv2": 0.2}),
        ([(operation("max_pool2d_with_indices"), 0.2)], {"pool1": 0.2}),
        (
            [("conv2", 0.1), (convolution | dense, 0.4)],
            {
                "conv1": 0.4,
                "conv2": 0.1,
                "hidden": 0.4,
                "classifier": 0.4,
            },
        ),
        ([("conv2", 1.0), (convolution, 0.4)], {"conv1": 0.4}),
    ],
    ids=["one", "globs", "type", "operation", "first match wins", "one left out"],
)
def test_filters_per_layer(how: str, lines: Any, expected: dict[str, float]) -> None:
    """By ``filters=`` and as a part of the composite alike; the first line that matches counts."""
    model, x = cnn(12), numbers(3, 2, 12, 12)
    if how == "option":
        lrp = LRPFx(model, "epsilon_plus", filters=lines, start="one_hot")
    else:
        own = [(convolution, rules.ZPlus()), (dense, rules.Epsilon())]
        lrp = LRPFx(model, Composite(own, filters=lines), start="one_hot")
    assert_close(lrp.attribute(x, 1), loop(model, x, 1, expected))


def test_filters_come_before_top_k_and_that_before_the_composites() -> None:
    model, x = cnn(12), numbers(3, 2, 12, 12)
    composite = Composite(
        [(convolution, rules.ZPlus()), (dense, rules.Epsilon())],
        filters=[("conv1", 0.01), ("relu2", 0.2)],
    )
    lrp = LRPFx(model, composite, top_k=0.5, filters=[("conv2", 0.1)], start="one_hot")
    expected = dict.fromkeys(FILTERED, 0.5) | {"conv2": 0.1, "relu2": 0.2}
    assert_close(lrp.attribute(x, 1), loop(model, x, 1, expected))


def test_filter_stands_where_the_blog_post_puts_it() -> None:
    """Before convolutions, linear layers, pooling and the spatial mean; not before others."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.up, self.head = nn.Upsample(scale_factor=2, mode="bilinear"), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(x).relu()) + x.mean((2, 3), keepdim=True).sum(1, keepdim=True)
            x = F.adaptive_max_pool2d(self.up(x), 4)
            return self.head(F.adaptive_avg_pool2d(x, 2).mean((2, 3)))

    plan = LRPFx(Net(), top_k=0.5).plan(torch.randn(1, 2, 4, 4))
    by_operation = {
        step.operation.name: step.top_k for step in plan.steps if step.operation is not None
    }
    with_filter = {name for name, top_k in by_operation.items() if top_k is not None}
    assert with_filter == {
        *("conv2d", "linear", "mean", "adaptive_avg_pool2d", "adaptive_max_pool2d")
    }
    assert set(by_operation) - with_filter >= {"relu", "batch_norm", "add", "upsample_bilinear2d"}


class TwoReaders(nn.Module):
    """One convolution, whose output two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3)
        self.a, self.b = nn.Conv1d(3, 2, 2), nn.Conv1d(3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (self.a(x) + self.b(x)).flatten(1)


def test_relevance_of_several_readers_is_summed_before_the_filter() -> None:
    """Filtered apart and then summed, up to twice as many values would survive."""
    model, x = TwoReaders().double(), numbers(2, 2, 9)
    rule = Composite([(anything(), rules.Epsilon())])
    arrived = LayerLRPFx(model, "conv", rule).attribute(x, 3)
    assert isinstance(arrived, Tensor)
    filtered = slow_filter(arrived, 0.2)
    expected = LRPFx(model.conv, rule, start=lambda output: filtered).attribute(x)
    lrp = LRPFx(model, rule, filters=[("conv", 0.2)])
    assert_close(lrp.attribute(x, 3), expected)
    (node,) = [
        node
        for node in lrp.graph.nodes
        if node.op == "call_module"
        and isinstance(lrp.graph.owning_module.get_submodule(str(node.target)), TopKFilter)
    ]
    assert node.args[0].target is torch.ops.aten.add


def test_relevance_of_a_layer_is_that_before_its_filter() -> None:
    """A filter belongs to the layer below it: what arrived at a layer is shown whole."""
    model, x = cnn(12), numbers(2, 2, 12, 12)
    plain = LayerLRPFx(model, "conv2").attribute(x, 1)
    assert torch.equal(LayerLRPFx(model, "conv2", filters=[("conv2", 0.1)]).attribute(x, 1), plain)


@pytest.mark.parametrize(
    "filters", [("conv1", 0.5), ["conv1"], [("conv1",)], [(1, 0.5)], [0.5]], ids=str
)
def test_filters_of_a_wrong_form(filters: Any) -> None:
    with pytest.raises(CompositeError, match=r"pairs \(matcher, top_k\)|a matcher is a path glob"):
        LRPFx(cnn(12), filters=filters)


def test_filter_for_a_layer_that_is_not_there() -> None:
    """A misspelt path would else silently filter nothing, whatever the composite."""
    with pytest.raises(CompositeError, match=r"matches nothing.*near misses: 'conv"):
        LRPFx(cnn(12), filters=[("cnov1", 0.5)]).attribute(numbers(1, 2, 12, 12), 0)


def test_filtered_run_equals_plain() -> None:
    """In the memory of the relevance or in new memory, through a whole network."""
    model, x = model_of(Residual, torch.float32), torch.randn(2, 3, 48, 48)
    results = [
        LRPFx(model, "epsilon_plus", top_k=0.1, optimize=optimize).attribute(x, 1)
        for optimize in (True, Optimizations(channels_last=False, in_place=False), False)
    ]
    assert_same(results[0], results[2])
    assert_same(results[1], results[2])
