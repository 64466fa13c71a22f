"""Random small networks: any depth, branches, reuse, call form and size, against explicit matrices.

Each network is a list of instructions. It is built once as a module, which the library explains, and
its relevance is worked out here a second time, node by node, with each linear map as a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.numbers import numbers
from tests.helpers.twins import quotient

EXAMPLES = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
CLASSES = 3
EPS = 1e-6
AMPLIFIED = 1e-8
"""Of max |R|: denominators down to ε amplify the rounding of sums in another order."""

FORMS = ("module", "functional", "method", "in place", "clamp")
TWO_FORMS = ("module", "functional")
"""Of everything but ReLU: a call of a module or an operator, and a function of torch."""


@dataclass(frozen=True)
class Step:
    """One instruction: what it does, which earlier values it reads, its settings, how it is written."""

    kind: str
    sources: tuple[int, ...]
    settings: tuple[Any, ...] = ()
    form: str = "module"


@dataclass(frozen=True)
class Recipe:
    """A network: the shape of a sample, and the steps."""

    shape: tuple[int, int, int]
    steps: tuple[Step, ...]


KINDS = (
    *("conv", "conv", "relu", "relu", "add", "cat", "cat", "max", "mean", "reuse", "half", "none"),
)
NEED_CHANNELS = ("conv", "reuse", "max", "mean")
"""Torch does not convolve or pool values without channels."""


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Steps that fit the values before them; sides of one and values without channels among them."""
    sizes = st.integers(1, 5)
    shape = draw(st.tuples(st.integers(1, 3), sizes, sizes))
    shapes, steps = [shape], []
    bases = [
        0
    ]  # of each value, the one that it is a function of, entry by entry: such a sum has no ε
    convolutions: list[tuple[int, Any]] = []
    for _ in range(draw(st.integers(1, 9))):
        bases += range(len(bases), len(shapes))
        kind, form = draw(st.sampled_from(KINDS)), draw(st.sampled_from(TWO_FORMS))
        filled = [i for i, s in enumerate(shapes) if s[0] or kind not in NEED_CHANNELS]
        source = draw(st.sampled_from(filled))
        channels, height, width = shapes[source]
        if kind == "conv":
            kernel, stride = draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
            groups = channels if draw(st.booleans()) else 1
            out = groups * draw(st.integers(1, 2))
            options = (channels, out, kernel, stride, kernel // 2, groups, draw(st.booleans()))
            convolutions.append((len(convolutions), options))
            steps.append(Step("conv", (source,), (len(convolutions) - 1, options), form))
            shapes.append((out, (height - 1) // stride + 1, (width - 1) // stride + 1))
        elif kind == "reuse":
            fitting = [c for c in convolutions if c[1][0] == channels and c[1][3] == 1]
            if fitting:
                index, options = draw(st.sampled_from(fitting))
                steps.append(Step("conv", (source,), (index, options), form))
                shapes.append((options[1], height, width))
        elif kind == "relu":
            steps.append(Step("relu", (source,), (), draw(st.sampled_from(FORMS))))
            shapes.append(shapes[source])
            bases.append(bases[source])
        elif kind in ("add", "cat"):
            same = [i for i, s in enumerate(shapes) if s[1:] == (height, width)]
            if kind == "add":
                same = [
                    i for i in same if shapes[i] == shapes[source] and bases[i] != bases[source]
                ]
            if not same:
                continue
            other = draw(st.sampled_from(same))
            steps.append(Step(kind, (source, other), (), form))
            total = channels + shapes[other][0] if kind == "cat" else channels
            shapes.append((total, height, width))
            whole = {
                source: shapes[other][0],
                other: channels,
            }  # joined to a value without channels
            if kind == "cat" and 0 in whole.values():
                bases.append(next(bases[i] for i, rest in whole.items() if not rest))
        elif kind in ("max", "mean") and min(height, width) >= 2:
            steps.append(Step(kind, (source,), (), form))
            shapes.append((channels, height // 2, width // 2))
        elif kind in ("half", "none"):
            kept = (channels + 1) // 2 if kind == "half" else 0
            steps.append(Step("some", (source,), (kept,), form))
            shapes.append((kept, height, width))
            if kept == channels:
                bases.append(bases[source])
    last = max(i for i, s in enumerate(shapes) if s[0])
    steps.append(Step("head", (last,), (shapes[last][0],), draw(st.sampled_from(TWO_FORMS))))
    return Recipe(shape, tuple(steps))


class Network(nn.Module):
    """A recipe as a module."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.recipe = recipe
        self.convolutions, self.relu = nn.ModuleDict(), nn.ReLU()
        self.max, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)
        for step in recipe.steps:
            if step.kind == "conv" and str(step.settings[0]) not in self.convolutions:
                inputs, outputs, kernel, stride, padding, groups, bias = step.settings[1]
                self.convolutions[str(step.settings[0])] = nn.Conv2d(
                    *(inputs, outputs, kernel, stride, padding), groups=groups, bias=bias
                )
        self.head = nn.Linear(recipe.steps[-1].settings[0], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.recipe.steps:
            values.append(self.run(step, [values[i] for i in step.sources]))
        return values[-1]

    def run(self, step: Step, operands: list[Tensor]) -> Tensor:
        """One step."""
        x, functional = operands[0], step.form == "functional"
        if step.kind == "conv":
            conv = self.convolutions[str(step.settings[0])]
            assert isinstance(conv, nn.Conv2d)
            if functional:
                options = (conv.stride, conv.padding, conv.dilation, conv.groups)
                return F.conv2d(x, conv.weight, conv.bias, *options)  # type: ignore[arg-type]
            return conv(x)  # type: ignore[no-any-return]
        if step.kind == "relu":
            return self.activated(step.form, x)
        if step.kind == "add":
            return torch.add(*operands) if functional else operands[0] + operands[1]
        if step.kind == "cat":
            return torch.concat(operands, dim=1) if functional else torch.cat(operands, 1)
        if step.kind == "max":
            return F.max_pool2d(x, 2) if functional else self.max(x)  # type: ignore[no-any-return]
        if step.kind == "mean":
            return F.avg_pool2d(x, 2) if functional else self.mean(x)  # type: ignore[no-any-return]
        if step.kind == "some":
            return x.narrow(1, 0, step.settings[0]) if functional else x[:, : step.settings[0]]
        if functional:
            return F.linear(torch.mean(x, dim=(2, 3)), self.head.weight, self.head.bias)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]

    def activated(self, form: str, x: Tensor) -> Tensor:
        """ReLU in one of its forms."""
        if form == "module":
            return self.relu(x)  # type: ignore[no-any-return]
        if form == "functional":
            return F.relu(x)
        if form == "method":
            return x.relu()
        return (x * 1.0).relu_() if form == "in place" else x.clamp(min=0)


def matrix_of(linear: Any, x: Tensor) -> Tensor:
    """The matrix (out, in) of a linear map on one sample."""
    return torch.stack(
        [linear(e.reshape(x.shape)).flatten() for e in torch.eye(x.numel(), dtype=x.dtype)], 1
    )


def share(step: Step, network: Network, xs: list[Tensor], y: Tensor, r: Tensor) -> list[Tensor]:
    """The relevance of a step's operands, of one sample (1, …), by the formulas of EpsilonPlus."""
    x = xs[0]
    if step.kind == "conv":
        layer = network.convolutions[str(step.settings[0])]
        assert isinstance(layer, nn.Conv2d)
        zero = layer(torch.zeros_like(x))
        m = matrix_of(lambda e: layer(e) - zero, x)
        up, down, flat = m.clamp(min=0), m.clamp(max=0), x.flatten()
        z = up @ flat.clamp(min=0) + down @ flat.clamp(max=0)
        if layer.bias is not None:
            z = z + (torch.zeros_like(y) + layer.bias.clamp(min=0).reshape(1, -1, 1, 1)).flatten()
        q = quotient(r.flatten(), z, EPS)
        return [
            (flat.clamp(min=0) * (up.T @ q) + flat.clamp(max=0) * (down.T @ q)).reshape(x.shape)
        ]
    if step.kind == "relu":
        return [r]
    if step.kind == "add":
        q = quotient(r, y, EPS)
        return [xs[0] * q, xs[1] * q]
    if step.kind == "cat":
        return list(r.split([xs[0].shape[1], xs[1].shape[1]], 1))
    if step.kind == "some":
        return [F.pad(r, (0, 0, 0, 0, 0, x.shape[1] - r.shape[1]))]
    if step.kind == "max":
        found = torch.zeros_like(x)
        for place in torch.cartesian_prod(*map(torch.arange, r.shape[1:])).reshape(-1, 3).tolist():
            c, i, j = place
            window = x[0, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            best = int(window.flatten().argmax())
            found[0, c, 2 * i + best // 2, 2 * j + best % 2] += r[0, c, i, j]
        return [found]
    if step.kind == "mean":
        m = matrix_of(lambda e: F.avg_pool2d(e, 2), x)
        return [(x.flatten() * (m.T @ quotient(r, y, EPS).flatten())).reshape(x.shape)]
    pooled = x.mean((2, 3))
    features = pooled * (quotient(r, y, EPS) @ network.head.weight)
    spread = quotient(features, pooled, EPS) / (x.shape[2] * x.shape[3])
    return [x * spread.reshape(1, -1, 1, 1)]


@torch.no_grad()
def twin(network: Network, x: Tensor, target: int) -> Tensor:
    """The relevance of one sample (1, …)."""
    values = [x]
    for step in network.recipe.steps:
        values.append(network.run(step, [values[i] for i in step.sources]))
    arrived = [torch.zeros_like(value) for value in values]
    arrived[-1][0, target] = values[-1][0, target]
    for number in reversed(range(len(network.recipe.steps))):
        step = network.recipe.steps[number]
        xs = [values[i] for i in step.sources]
        for i, r in zip(
            step.sources,
            share(step, network, xs, values[number + 1], arrived[number + 1]),
            strict=True,
        ):
            arrived[i] = arrived[i] + r
    return arrived[0]


@EXAMPLES
@given(recipe=recipes(), samples=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_random_networks_equal_the_matrix_form(recipe: Recipe, samples: int, seed: int) -> None:
    """The whole way: capture, plan, rules, sums over readers; and the ledger closes at each node."""
    network = Network(recipe, seed).double().eval()
    x = numbers(samples, *recipe.shape, seed=seed)
    lrp = LRPFx(network, "epsilon_plus")
    mine = lrp.attribute(x, 1)
    expected = torch.cat([twin(network, each[None], 1) for each in x])
    scale = expected.abs().max()
    assert (mine - expected).abs().max() <= AMPLIFIED * scale
    ledger = lrp.audit(x, 1)
    assert ledger.closes()
    assert ledger.start == pytest.approx(network(x)[:, 1].tolist())
    assert torch.equal(lrp.attribute_many(x, [0, 1])[1], mine)


@settings(EXAMPLES, max_examples=15)
@given(recipe=recipes(), seed=st.integers(0, 2**16))
def test_random_networks_in_both_engines(recipe: Recipe, seed: int) -> None:
    """And under other rules the ledger closes too."""
    network = Network(recipe, seed).double().eval()
    x = numbers(2, *recipe.shape, seed=seed)
    for composite in ("epsilon", "epsilon_alpha2_beta1", "epsilon_plus_flat"):
        lrp = LRPFx(network, composite)
        direct = lrp.attribute(x, 1)
        gradient = LRPFx(network, composite, propagation="gradient").attribute(x, 1)
        assert (direct - gradient).abs().max() <= AMPLIFIED * direct.abs().max()
        assert lrp.audit(x, 1).closes()


class Empty(nn.Module):
    """A function beside a linear layer."""

    def __init__(self, function: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.layer, self.norm = function, nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)  # type: ignore[arg-type]


def with_memory(m: Any, x: Tensor) -> Tensor:
    """Attention to no memory and to itself, as a language model's first step."""
    memory = torch.cat([x[:, :0], m.layer(x)], 1)
    return F.scaled_dot_product_attention(x, memory, memory).mean(1)


EMPTY: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "tokens": lambda m, x: m.layer(torch.cat([x[:, :0], x], 1)).mean(1),
    "layer": lambda m, x: torch.cat([m.layer(x[:, :0]), m.layer(x)], 1).mean(1),
    "sum": lambda m, x: m.layer(x).mean(1) + m.layer(x[:, :0]).sum(1),
    "addition": lambda m, x: torch.cat([x[:, :0] + x[:, :0], m.layer(x)], 1).mean(1),
    "product": lambda m, x: torch.cat([x[:, :0] * x[:, :0].sigmoid(), m.layer(x)], 1).mean(1),
    "softmax": lambda m, x: torch.cat([x[:, :0].softmax(-1), m.layer(x)], 1).mean(1),
    "norm": lambda m, x: torch.cat([m.norm(x[:, :0]), m.layer(x)], 1).mean(1),
    "matrix product": lambda m, x: m.layer(x).mean(1) + (x[:, :, :0] @ x[:, :0]).mean(1),
    "attention": with_memory,
    "split": lambda m, x: m.layer(x.split([0, x.shape[1]], 1)[1]).mean(1),
    "pooling": lambda m, x: torch.cat([F.max_pool1d(x, 1)[:, :0], m.layer(x)], 1).mean(1),
}


@pytest.mark.parametrize("capture", ["symbolic", "export"])
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("name", EMPTY)
def test_values_without_entries(name: str, tokens: int, capture: str) -> None:
    """Tensors with a dimension of zero or one inside the network: nothing is lost there."""
    torch.manual_seed(0)
    model, x = Empty(EMPTY[name]).double().eval(), numbers(2, tokens, 4)
    lrp = LRPFx(model, "epsilon_plus", capture=capture)
    relevance = lrp.attribute(x, 1)
    assert relevance.shape == x.shape
    ledger = lrp.audit(x, 1)
    assert ledger.closes()
    assert ledger.start == pytest.approx(model(x)[:, 1].tolist())
    assert ledger.relevance == pytest.approx(relevance.sum((1, 2)).tolist())


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_inputs_without_entries(shape: tuple[int, ...]) -> None:
    """They have relevance without entries; biases and constants have it all."""

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(shape[-1], 4)
            nn.init.ones_(self.layer.bias)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return (y if y.dim() == 2 else y.sum(1)) + 1

    lrp, x = LRPFx(Sums().double(), "zero"), numbers(2, *shape)
    assert lrp.attribute(x, 1).shape == x.shape
    ledger = lrp.audit(x, 1)
    assert ledger.closes()
    assert ledger.relevance == (0, 0)
    assert sum(taken[0] for taken in ledger.taken.values()) == pytest.approx(ledger.start[0])
