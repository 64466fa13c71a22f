"""Where the relevance starts, and the filters on its way."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lrp_fx import Composite, LayerLRPFx, LRPFx, NeuronLRPFx, relevance_filter, rules
from lrp_fx.composites import anything, convolution, dense, operation
from lrp_fx.errors import CompositeError, InputError, OptionError, TargetError
from lrp_fx.relevance.edges.top_k import TopKFilter

ROUNDING = 1e-10
"""Of max |R| in float64: two ways through the same sums, whose rounding differs."""
EPS = 1e-6
"""The default ε of rules, additions and pools."""


def assert_close(mine: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
    """Equal shapes and dtypes, and equal up to ``tolerance`` of the largest expected value."""
    assert mine.shape == expected.shape
    assert mine.dtype == expected.dtype
    assert float((mine - expected).abs().max()) <= tolerance * float(expected.abs().max())


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def cnn() -> nn.Sequential:
    """Images (N, 2, 12, 12) to four classes; every kind of layer before which the filter stands."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 4, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 6, 3),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            hidden=nn.Linear(24, 10),
            relu3=nn.ReLU(),
            classifier=nn.Linear(10, 4),
        )
    ).double()


def started(model: nn.Module, layer: str, x: Tensor, target: Any = None, **options: Any) -> Tensor:
    """The relevance that the propagation starts with: that of the explained layer."""
    relevance = LayerLRPFx(model, layer, **options).attribute(x, target)
    assert isinstance(relevance, Tensor)
    return relevance


# Start


def test_logit_starts_with_the_output_at_the_target() -> None:
    model, x = cnn(), numbers(3, 2, 12, 12)
    output = model(x).detach()
    expected = torch.zeros_like(output)
    for sample, target in enumerate([1, 3, 0]):
        expected[sample, target] = output[sample, target]
    assert torch.equal(started(model, "classifier", x, [1, 3, 0]), expected)


def test_one_hot_starts_with_one() -> None:
    """So the map does not depend on the size of the logit, and is not turned by its sign."""
    model, x = cnn(), numbers(3, 2, 12, 12)
    expected = F.one_hot(torch.tensor([1, 3, 0]), 4).double()
    assert torch.equal(started(model, "classifier", x, [1, 3, 0], start="one_hot"), expected)
    logits = model(x).detach()[torch.arange(3), torch.tensor([1, 3, 0])]
    by_logit = LRPFx(model).attribute(x, [1, 3, 0])
    by_one = LRPFx(model, start="one_hot").attribute(x, [1, 3, 0])
    assert_close(by_one * logits.reshape(3, 1, 1, 1), by_logit)


def test_softmax_starts_with_all_classes() -> None:
    """The unsupervised mode: the classes' maps, weighted with their probabilities."""
    model, x = cnn(), numbers(3, 2, 12, 12)
    probabilities = model(x).detach().softmax(1)
    assert_close(started(model, "classifier", x, start="softmax"), probabilities)
    one_hot = LRPFx(model, start="one_hot")
    expected = sum(
        one_hot.attribute(x, target) * probabilities[:, target].reshape(3, 1, 1, 1)
        for target in range(4)
    )
    assert isinstance(expected, Tensor)
    assert_close(LRPFx(model, start="softmax").attribute(x), expected)


def test_softmax_of_a_segmentation_is_over_the_classes() -> None:
    model, x = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3))).double(), numbers(2, 2, 5, 5)
    relevance = started(model, "conv", x, start="softmax")
    assert_close(relevance.sum(1), torch.ones(2, 3, 3, dtype=torch.float64))


def test_softmax_takes_no_target_and_needs_classes() -> None:
    lrp = LRPFx(cnn(), start="softmax")
    with pytest.raises(TargetError, match="all classes at once: pass no target"):
        lrp.attribute(numbers(1, 2, 12, 12), 1)
    flat = LRPFx(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double(), start="softmax")
    with pytest.raises(InputError, match=r"needs an output of \(N, classes"):
        flat.attribute(numbers(2, 3))


def test_callable_starts_with_what_it_returns() -> None:
    """One class against another, which no target can say."""
    model, x, seen = cnn(), numbers(3, 2, 12, 12), []

    def first_against_second(output: Tensor) -> Tensor:
        seen.append(output)
        return output * torch.tensor([1.0, -1.0, 0.0, 0.0])

    relevance, delta = LRPFx(model, start=first_against_second).attribute(
        x, return_convergence_delta=True
    )
    (output,) = seen
    assert_close(output, model(x).detach())
    lrp = LRPFx(model)
    assert_close(relevance, lrp.attribute(x, 0) - lrp.attribute(x, 1))
    assert_close(delta, output[:, 0] - output[:, 1] - relevance.sum((1, 2, 3)))


def doubled(y: Tensor) -> Tensor:
    y *= 2
    return y


def centred(y: Tensor) -> Tensor:
    y -= y.mean(1, keepdim=True)
    return y


def overwritten(y: Tensor) -> Tensor:
    start = y.clone()
    y.zero_()
    return start


WRITING: dict[str, tuple[Any, Any]] = {
    "doubled": (doubled, lambda y: y * 2),
    "centred": (centred, lambda y: y - y.mean(1, keepdim=True)),
    "overwritten": (overwritten, lambda y: y),
}


@pytest.mark.parametrize(("writes", "pure"), WRITING.values(), ids=WRITING.keys())
def test_a_callable_may_write_to_the_output_that_it_gets(writes: Any, pure: Any) -> None:
    """Denominators are those of the model's output, also in an exported program."""
    model, x = cnn(), numbers(3, 2, 12, 12)
    lrp, expected = LRPFx(model, start=writes), LRPFx(model, start=pure).attribute(x)
    assert_close(lrp.attribute(x), expected)
    output, relevance = lrp.export(x).module()(x)
    assert_close(output, model(x).detach())
    assert_close(relevance, expected)


def test_a_callable_that_writes_is_differentiated() -> None:
    model, x = cnn(), numbers(3, 2, 12, 12)
    weights, found = list(model.parameters()), []
    for start in WRITING["doubled"]:
        mine = LRPFx(model, start=start).attribute(x, create_graph=True)
        loss = mine.square().sum()
        found.append(torch.autograd.grad(loss, weights, materialize_grads=True, allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert_close(one, other)


def test_a_selector_may_write_to_the_output_that_it_gets() -> None:
    model, x = cnn(), numbers(3, 2, 12, 12)

    def writes(y: Tensor) -> Tensor:
        y *= 2
        return y[:, :3].sum(1)

    neuron = NeuronLRPFx(model, "classifier")
    assert_close(neuron.attribute(x, writes), neuron.attribute(x, lambda y: 2 * y[:, :3].sum(1)))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (lambda output: output[:, 0], r"output's shape \(2, 4\), got .*\[2\]"),
        (lambda output: output.sum(), r"output's shape \(2, 4\), got .*\[\]"),
        (lambda output: 1.0, r"output's shape \(2, 4\), got .*float"),
        (lambda output: None, r"output's shape \(2, 4\), got .*NoneType"),
    ],
    ids=["column", "number", "float", "nothing"],
)
def test_callable_must_return_the_outputs_shape(start: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        LRPFx(cnn(), start=start).attribute(numbers(2, 2, 12, 12))


def test_callable_takes_no_target() -> None:
    with pytest.raises(TargetError, match=r"callable start decides .* pass no target"):
        LRPFx(cnn(), start=torch.ones_like).attribute(numbers(2, 2, 12, 12), 1)


@pytest.mark.parametrize("start", ["probability", "", None, 1])
def test_unknown_starts(start: Any) -> None:
    with pytest.raises(OptionError, match="start must be one of logit, one_hot, softmax or a call"):
        LRPFx(cnn(), start=start)


class Functional(nn.Module):
    """A final activation that is no module, and one before it that is none either."""

    def __init__(self, final: Any) -> None:
        super().__init__()
        self.linear, self.final = nn.Linear(3, 4), final

    def forward(self, x: Tensor) -> Any:
        return self.final(self.linear(x))


FINAL: dict[str, tuple[Any, str]] = {
    "softmax": (nn.Softmax(1), "softmax"),
    "log_softmax": (nn.LogSoftmax(1), "log_softmax"),
    "sigmoid": (nn.Sigmoid(), "sigmoid"),
    "logsigmoid": (nn.LogSigmoid(), "log_sigmoid"),
    "functional": (lambda y: F.softmax(y, dim=-1), "softmax"),
    "method": (lambda y: y.sigmoid(), "sigmoid"),
    "two": (lambda y: torch.log_softmax(torch.sigmoid(y), 1), "log_softmax, sigmoid"),
    "then dropout": (nn.Sequential(nn.Softmax(1), nn.Dropout()), "softmax"),
    "in a dict": (lambda y: {"p": torch.softmax(y, 1)}, "softmax"),
}


@pytest.mark.parametrize(("final", "name"), FINAL.values(), ids=FINAL.keys())
@pytest.mark.parametrize("start", ["logit", "softmax"])
def test_final_activation_is_explained_at_its_input(final: Any, name: str, start: Any) -> None:
    """A probability's relevance would be the class's against all others; and the plan says so."""
    model, x = Functional(final).double().eval(), numbers(2, 3)
    lrp, bare = LRPFx(model, start=start), LRPFx(model.linear, start=start)
    target = 1 if start == "logit" else None
    assert torch.equal(lrp.attribute(x, target), bare.attribute(x, target))
    note = f"explained: linear_linear, the input of the model's last operation ({name})"
    assert note in str(lrp.plan())


def test_softmax_inside_the_model_stays() -> None:
    """Only the last operation is left out."""
    model = Functional(lambda y: y.softmax(1).sum(1, keepdim=True) * y).double()
    plan = str(LRPFx(model).plan(numbers(2, 3)))
    assert "explained: mul\n" in plan
    assert "last operation" not in plan


# The filter itself


def slow_filter(relevance: Tensor, top_k: float) -> Tensor:
    """Sample by sample, entry by entry, by sorting; of equal values the first ones win."""
    result = torch.zeros_like(relevance)
    for sample, kept in zip(relevance, result, strict=True):
        values = sample.flatten().tolist()
        count = max(1, int(top_k * len(values)))
        order = sorted(range(len(values)), key=lambda i: (-values[i], i))
        for place in order[:count]:
            kept[tuple(torch.unravel_index(torch.tensor(place), sample.shape))] = values[place]
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
        LRPFx(cnn(), top_k=top_k)
    with pytest.raises(OptionError, match=words):
        LRPFx(cnn(), filters=[("conv1", top_k)])
    with pytest.raises(OptionError, match=words):
        Composite([], filters=[("conv1", top_k)])


def test_filter_needs_a_batch() -> None:
    with pytest.raises(OptionError, match="batch dimension"):
        relevance_filter(torch.tensor(1.0), 0.5)


# The filter in the propagation


def pulled(output: Tensor, *inputs: Tensor, relevance: Tensor) -> list[Tensor]:
    """``x ⊙ Jᵀ[R / S(z)]`` for each input, by autograd."""
    quotient = relevance / (output + torch.where(output < 0, -EPS, EPS))
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
    model, x = cnn(), numbers(3, 2, 12, 12)
    mine = LRPFx(model, top_k=top_k, start="one_hot").attribute(x, 1)
    filters = {} if top_k == 1 else dict.fromkeys(FILTERED, top_k)
    assert_close(mine, loop(model, x, 1, filters))


def test_filter_changes_the_map() -> None:
    """Else the test above would prove nothing."""
    model, x = cnn(), numbers(3, 2, 12, 12)
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
    model, x = cnn(), numbers(3, 2, 12, 12)
    if how == "option":
        lrp = LRPFx(model, filters=lines, start="one_hot")
    else:
        own = [(convolution, rules.ZPlus()), (dense, rules.Epsilon())]
        lrp = LRPFx(model, Composite(own, filters=lines), start="one_hot")
    assert_close(lrp.attribute(x, 1), loop(model, x, 1, expected))


def test_filters_come_before_top_k_and_that_before_the_composites() -> None:
    model, x = cnn(), numbers(3, 2, 12, 12)
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
    model, x = cnn(), numbers(2, 2, 12, 12)
    plain = LayerLRPFx(model, "conv2").attribute(x, 1)
    assert torch.equal(LayerLRPFx(model, "conv2", filters=[("conv2", 0.1)]).attribute(x, 1), plain)


@pytest.mark.parametrize(
    "filters", [("conv1", 0.5), ["conv1"], [("conv1",)], [(1, 0.5)], [0.5]], ids=str
)
def test_filters_of_a_wrong_form(filters: Any) -> None:
    with pytest.raises(CompositeError, match=r"pairs \(matcher, top_k\)|a matcher is a path glob"):
        LRPFx(cnn(), filters=filters)


def test_filter_for_a_layer_that_is_not_there() -> None:
    """A misspelt path would else silently filter nothing, whatever the composite."""
    with pytest.raises(CompositeError, match=r"matches nothing.*near misses: 'conv"):
        LRPFx(cnn(), filters=[("cnov1", 0.5)]).attribute(numbers(1, 2, 12, 12), 0)
