"""Random small networks: any depth, branches, reuse, call form and size, against explicit matrices.

Each network is a list of instructions. It is built once as a module, which the library explains, and
its relevance is worked out here a second time, node by node, with each linear map as a matrix.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import numbers
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import LRPError

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


@dataclass(frozen=True)
class Step:
    """One instruction: what it does, which earlier values it reads, and its settings."""

    kind: str
    sources: tuple[int, ...]
    settings: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A network: the shape of a sample, and the steps."""

    shape: tuple[int, int, int]
    steps: tuple[Step, ...]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Steps that fit the values before them; sides of one are among the sizes."""
    sizes = st.integers(1, 5)
    shape = draw(st.tuples(st.integers(1, 3), sizes, sizes))
    shapes, steps = [shape], []
    convolutions: list[tuple[int, Any]] = []
    for _ in range(draw(st.integers(1, 9))):
        kind = draw(
            st.sampled_from(
                ["conv", "conv", "relu", "relu", "add", "cat", "max", "mean", "reuse", "half"]
            )
        )
        source = draw(st.integers(0, len(shapes) - 1))
        channels, height, width = shapes[source]
        if kind == "conv":
            kernel, stride = draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
            groups = channels if draw(st.booleans()) else 1
            out = groups * draw(st.integers(1, 2))
            options = (channels, out, kernel, stride, kernel // 2, groups, draw(st.booleans()))
            convolutions.append((len(convolutions), options))
            steps.append(Step("conv", (source,), (len(convolutions) - 1, options)))
            shapes.append((out, (height - 1) // stride + 1, (width - 1) // stride + 1))
        elif kind == "reuse":
            fitting = [c for c in convolutions if c[1][0] == channels and c[1][3] == 1]
            if fitting:
                index, options = draw(st.sampled_from(fitting))
                steps.append(Step("conv", (source,), (index, options)))
                shapes.append((options[1], height, width))
        elif kind == "relu":
            steps.append(Step("relu", (source,), (draw(st.sampled_from(FORMS)),)))
            shapes.append(shapes[source])
        elif kind in ("add", "cat"):
            same = [i for i, s in enumerate(shapes) if s[1:] == (height, width)]
            same = [i for i in same if kind == "cat" or shapes[i] == shapes[source]]
            other = draw(st.sampled_from(same))
            steps.append(Step(kind, (source, other)))
            total = channels + shapes[other][0] if kind == "cat" else channels
            shapes.append((total, height, width))
        elif kind in ("max", "mean") and min(height, width) >= 2:
            steps.append(Step(kind, (source,)))
            shapes.append((channels, height // 2, width // 2))
        elif kind == "half":
            kept = (channels + 1) // 2
            steps.append(Step("half", (source,), (kept,)))
            shapes.append((kept, height, width))
    steps.append(Step("head", (len(shapes) - 1,), (shapes[-1][0],)))
    return Recipe(shape, tuple(steps))


class Network(nn.Module):
    """A recipe as a module."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.recipe = recipe
        self.convolutions, self.relu = nn.ModuleDict(), nn.ReLU()
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
        x = operands[0]
        if step.kind == "conv":
            return self.convolutions[str(step.settings[0])](x)  # type: ignore[no-any-return]
        if step.kind == "relu":
            return self.activated(step.settings[0], x)
        if step.kind == "add":
            return operands[0] + operands[1]
        if step.kind == "cat":
            return torch.cat(operands, 1)
        if step.kind == "max":
            return F.max_pool2d(x, 2)
        if step.kind == "mean":
            return F.avg_pool2d(x, 2)
        if step.kind == "half":
            return x[:, : step.settings[0]]
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


def quotient(relevance: Tensor, z: Tensor) -> Tensor:
    return relevance / (z + torch.where(z < 0, -EPS, EPS).to(z))


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
        q = quotient(r.flatten(), z)
        return [
            (flat.clamp(min=0) * (up.T @ q) + flat.clamp(max=0) * (down.T @ q)).reshape(x.shape)
        ]
    if step.kind == "relu":
        return [r]
    if step.kind == "add":
        q = quotient(r, y)
        return [xs[0] * q, xs[1] * q]
    if step.kind == "cat":
        return list(r.split([xs[0].shape[1], xs[1].shape[1]], 1))
    if step.kind == "half":
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
        return [(x.flatten() * (m.T @ quotient(r, y).flatten())).reshape(x.shape)]
    pooled = x.mean((2, 3))
    features = pooled * (quotient(r, y) @ network.head.weight)
    spread = quotient(features, pooled) / (x.shape[2] * x.shape[3])
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
@given(recipe=recipes(), seed=st.integers(0, 2**16))
def test_random_networks_equal_the_matrix_form(recipe: Recipe, seed: int) -> None:
    """The whole way: capture, plan, rules, sums over readers; and the ledger closes at each node."""
    network = Network(recipe, seed).double().eval()
    x = numbers(2, *recipe.shape, seed=seed)
    lrp = LRPFx(network, "epsilon_plus")
    mine = lrp.attribute(x, 1)
    expected = torch.cat([twin(network, x[i : i + 1], 1) for i in range(2)])
    scale = expected.abs().max()
    assert (mine - expected).abs().max() <= AMPLIFIED * scale
    ledger = lrp.audit(x, 1)
    assert ledger.closes()
    assert torch.equal(lrp.attribute_many(x, [0, 1])[1], mine)


@settings(EXAMPLES, max_examples=15)
@given(recipe=recipes(), seed=st.integers(0, 2**16))
def test_random_networks_in_both_engines(recipe: Recipe, seed: int) -> None:
    network = Network(recipe, seed).double().eval()
    x = numbers(2, *recipe.shape, seed=seed)
    for composite in ("epsilon", "epsilon_alpha2_beta1", "epsilon_plus_flat"):
        direct = LRPFx(network, composite).attribute(x, 1)
        gradient = LRPFx(network, composite, propagation="gradient").attribute(x, 1)
        assert (direct - gradient).abs().max() <= AMPLIFIED * direct.abs().max()


BAD = st.one_of(
    st.none(),
    st.integers(-9, 9),
    st.text(max_size=3),
    st.floats(),
    st.lists(st.integers(-9, 9), max_size=3),
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    st.lists(st.tuples(st.integers(-9, 9)), max_size=3),
    st.builds(lambda shape: torch.zeros(shape), st.lists(st.integers(0, 4), max_size=5)),
    st.builds(lambda shape: torch.zeros(shape).long(), st.lists(st.integers(0, 4), max_size=5)),
    st.builds(lambda v: torch.full((2, 3, 5, 5), v), st.sampled_from([float("nan"), float("inf")])),
)


@settings(EXAMPLES, max_examples=150)
@given(x=BAD, target=BAD, top_k=BAD, additional=BAD)
@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
def test_random_bad_input_ends_in_a_documented_error(
    x: Any, target: Any, top_k: Any, additional: Any
) -> None:
    """Whatever goes in: a result of the input's shape, or an error of this library."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, CLASSES))
    good = torch.randn(2, 3, 5, 5)
    for arguments in ((x, 1, 1.0, None), (good, target, 1.0, None), (good, 1, top_k, None)):
        inputs, chosen, fraction, more = arguments
        try:
            found = LRPFx(model, top_k=fraction).attribute(inputs, chosen, more)
        except LRPError:
            continue
        assert found.shape == inputs.shape
    with contextlib.suppress(LRPError):
        LRPFx(model).attribute(good, 1, additional)
