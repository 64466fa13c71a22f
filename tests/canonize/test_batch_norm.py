"""Batch norms: folded exactly, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.capture.captured import Captured
from lrp_fx.composites import EpsilonPlus
from lrp_fx.graph.calls import name_of
from lrp_fx.meaning.facts import analyse
from tests.helpers.canonical import EPS, FOLDED, canonical, lively, norm, operations
from tests.helpers.captures import both_ways
from tests.helpers.closeness import ROUNDING, distance
from tests.helpers.models import NETWORKS, Network
from tests.helpers.numbers import numbers

WAYS = [("symbolic", torch.float32), ("symbolic", torch.float64), ("export", torch.float64)]
SHAPES = {1: (2, 4, 9), 2: (2, 4, 7, 6), 3: (2, 4, 5, 6, 4)}

BEHIND: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), norm(4, 1)), (3, 5)),
    "linear without bias": (
        lambda: nn.Sequential(nn.Linear(5, 4, bias=False), norm(4, 1, affine=False)),
        (3, 5),
    ),
    "conv2d with padding": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), norm(6)), SHAPES[2]),
    "conv2d depthwise": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, dilation=2), norm(8)),
        SHAPES[2],
    ),
    "conv2d same, even kernel": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, (2, 4), padding="same"), norm(6)),
        SHAPES[2],
    ),
    "conv2d, weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3, padding=1)), norm(6)
        ),
        SHAPES[2],
    ),
    "conv2d and identities": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Identity(), nn.Dropout2d(), norm(6)),
        SHAPES[2],
    ),
    "two norms": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), norm(6), norm(6)), SHAPES[2]),
    **{
        f"conv{dims}d{' grouped' if groups > 1 else ''}": (
            lambda dims=dims, groups=groups: nn.Sequential(
                getattr(nn, f"Conv{dims}d")(4, 6, 3, groups=groups, bias=groups > 1),
                norm(6, dims, affine=groups > 1),
            ),
            SHAPES[dims],
        )
        for dims in (1, 2, 3)
        for groups in (1, 2)
    },
    **{
        f"conv_transpose{dims}d{' grouped' if groups > 1 else ''}": (
            lambda dims=dims, groups=groups: nn.Sequential(
                getattr(nn, f"ConvTranspose{dims}d")(
                    *(4, 6, 3, 2, 1, 1, groups), bias=groups > 1, dilation=1
                ),
                norm(6, dims),
            ),
            SHAPES[dims],
        )
        for dims in (1, 2, 3)
        for groups in (1, 2)
    },
    "conv_transpose2d depthwise": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 8, 2, 2, groups=4), norm(8)),
        SHAPES[2],
    ),
}
BEFORE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.ReLU(), norm(5, 1), nn.Linear(5, 4)), (3, 5)),
    "linear without bias": (
        lambda: nn.Sequential(nn.ReLU(), norm(5, 1, affine=False), nn.Linear(5, 4, bias=False)),
        (3, 5),
    ),
    "conv1d": (lambda: nn.Sequential(nn.ReLU(), norm(4, 1), nn.Conv1d(4, 6, 3, 2)), SHAPES[1]),
    "conv2d": (
        lambda: nn.Sequential(nn.ReLU(), norm(4), nn.Conv2d(4, 6, (3, 2), bias=False)),
        SHAPES[2],
    ),
    "conv2d, padding in words": (
        lambda: nn.Sequential(nn.ReLU(), norm(4), nn.Conv2d(4, 6, 3, padding="valid")),
        SHAPES[2],
    ),
    "conv2d, 1×1 same": (
        lambda: nn.Sequential(nn.ReLU(), norm(4), nn.Conv2d(4, 6, 1, padding="same")),
        SHAPES[2],
    ),
    "conv2d depthwise": (
        lambda: nn.Sequential(nn.ReLU(), norm(4), nn.Conv2d(4, 4, 3, groups=4)),
        SHAPES[2],
    ),
    "conv3d": (lambda: nn.Sequential(nn.ReLU(), norm(4, 3), nn.Conv3d(4, 6, 2)), SHAPES[3]),
}


class Siamese(nn.Module):
    """One convolution under two norms, one norm over two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.first, self.second = norm(4), norm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(self.conv(x)) + self.second(self.conv(x)) + self.first(self.other(x))


class TwoReaders(nn.Module):
    """Somebody else reads what the norm reads (``before``), or what it writes."""

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 6, 3)
        self.norm, self.before = norm(4), before

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x) if self.before else F.relu(self.first(x))
        z = self.norm(y)
        return self.second(F.relu(z) if self.before else z).mean() + (y if self.before else z)


class IsOutput(nn.Module):
    """The convolution's own value is an output too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), norm(4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return y, self.norm(y)


KEPT: dict[str, Callable[[], nn.Module]] = {
    "zero padding behind it": lambda: nn.Sequential(
        nn.ReLU(), norm(4), nn.Conv2d(4, 6, 3, padding=1)
    ),
    "padding on one axis": lambda: nn.Sequential(
        nn.ReLU(), norm(4), nn.Conv2d(4, 6, 3, padding=(0, 1))
    ),
    "padding in words": lambda: nn.Sequential(
        nn.ReLU(), norm(4), nn.Conv2d(4, 6, 3, padding="same")
    ),
    "reflected padding": lambda: nn.Sequential(
        norm(4), nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")
    ),
    "a pad of its own": lambda: nn.Sequential(
        nn.ReLU(), norm(4), nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3)
    ),
    "grouped convolution behind it": lambda: nn.Sequential(
        nn.ReLU(), norm(4), nn.Conv2d(4, 6, 3, groups=2)
    ),
    "transposed convolution behind it": lambda: nn.Sequential(
        nn.ReLU(), norm(4), nn.ConvTranspose2d(4, 6, 3)
    ),
    "max pooling behind it": lambda: nn.Sequential(
        nn.ReLU(), norm(4), nn.MaxPool2d(2), nn.Conv2d(4, 6, 1)
    ),
    "the model's input before it": lambda: nn.Sequential(norm(4), nn.Conv2d(4, 6, 1)),
    "a layer norm before it": lambda: nn.Sequential(
        nn.Linear(6, 6), nn.LayerNorm(6), norm(4), nn.Conv2d(4, 6, 1)
    ),
    "max pooling before it": lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.MaxPool2d(2), norm(6)),
    "relu before it": lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), norm(6)),
    "another reader of its input": lambda: TwoReaders(before=True),
    "another reader of its output": lambda: TwoReaders(before=False),
    "its input is an output": IsOutput,
}


def _assert_same_output(model: nn.Module, graph: Captured, x: Tensor) -> None:
    with torch.no_grad():
        expected = model(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for mine, own in zip(graph.module(x), expected, strict=True):
            assert distance(mine, own) <= FOLDED[x.dtype]


def _assert_folds(
    case: tuple[Callable[[], nn.Module], tuple[int, ...]], way: str, dtype: torch.dtype
) -> None:
    """No batch norm is left in the canonical graph, which computes what the model computes."""
    make, shape = case
    torch.manual_seed(0)
    model, x = lively(make(), dtype), numbers(*shape, dtype=dtype)
    graph = canonical(model, x, way)
    assert "batch_norm" not in operations(graph)
    _assert_same_output(model, graph, x)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("way", "dtype"), WAYS)
@pytest.mark.parametrize("name", BEHIND)
def test_batch_norm_folds_into_what_is_before_it(name: str, way: str, dtype: torch.dtype) -> None:
    """Exact to rounding, for every kind of linear operation, its groups, its bias or none."""
    _assert_folds(BEHIND[name], way, dtype)


@pytest.mark.parametrize(("way", "dtype"), WAYS)
@pytest.mark.parametrize("name", BEFORE)
def test_batch_norm_folds_into_what_is_behind_it(name: str, way: str, dtype: torch.dtype) -> None:
    """Exact to rounding where no padding comes between."""
    _assert_folds(BEFORE[name], way, dtype)


@pytest.mark.parametrize("name", KEPT)
def test_batch_norm_stays_where_a_fold_would_be_wrong(name: str) -> None:
    """At borders, across maxima and under other readers it is left, and the outputs are right."""
    torch.manual_seed(0)
    model, x = lively(KEPT[name]()), numbers(*SHAPES[2])
    graph = canonical(model, x)
    assert operations(graph).count("batch_norm") == 1
    _assert_same_output(model, graph, x)


class WrittenOut(nn.Module):
    """A scale and a shift of each channel before a convolution, numbers among them."""

    def __init__(self, *, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=padding)
        self.scale, self.shift = (
            nn.Parameter(numbers(1, 4, 1, 1, dtype=torch.float64)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((2 - F.relu(x) / self.scale) * 3 + self.shift)


@both_ways
def test_a_scale_and_shift_written_out_folds_into_what_is_behind_it(way: str) -> None:
    """As a batch norm does, and stays where zeros come between."""
    torch.manual_seed(0)
    x = numbers(*SHAPES[2], dtype=torch.float64)
    model = lively(WrittenOut())
    graph = canonical(model, x, way)
    dynamic = analyse(graph.module.graph, graph.placeholders()).dynamic
    assert [name_of(node) for node in dynamic if node.op == "call_function"] in (
        ["relu", "conv2d"],
        ["conv2d", "relu"],
    )
    _assert_same_output(model, graph, x)
    padded = lively(WrittenOut(padding=1))
    graph = canonical(padded, x, way)
    assert {"rsub", "sub"} & set(operations(graph))
    _assert_same_output(padded, graph, x)


@both_ways
def test_a_pad_by_itself_is_that_of_the_convolution(way: str) -> None:
    """Protects rules that look at weights alone from zeros that count as inputs; others stay."""
    conv = nn.Conv2d(4, 6, 3, padding=(0, 1))
    for pad, folds in (
        (nn.ZeroPad2d((2, 2, 1, 1)), True),
        (nn.ZeroPad2d((0, 1, 0, 1)), True),
        (nn.ConstantPad2d(1, 0.5), False),
        (nn.ReflectionPad2d(1), False),
    ):
        model, x = lively(nn.Sequential(pad, conv)), numbers(*SHAPES[2], dtype=torch.float64)
        graph = canonical(model, x, way)
        assert ("pad" in operations(graph)) != folds
        _assert_same_output(model, graph, x)
    model = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 2, 3), nn.Flatten()).double()
    relevance = LayerLRPFx(model, "0", "epsilon").attribute(x, 0)
    assert relevance.shape == (2, 4, 9, 8)  # a layer that somebody asks for is there


def test_shared_layers_fold_each_call_for_itself() -> None:
    """The calls of one convolution get the weights of their own norms."""
    torch.manual_seed(0)
    model, x = lively(Siamese()), numbers(*SHAPES[2])
    graph = canonical(model, x)
    assert "batch_norm" not in operations(graph)
    _assert_same_output(model, graph, x)


class DenseNorm(nn.Module):
    """A norm beside a linear layer, on whatever comes."""

    def __init__(self, *, before: bool, length: int) -> None:
        super().__init__()
        layers = [norm(length, 1), nn.Linear(4, 4)]
        self.layers = nn.Sequential(*(layers if before else layers[::-1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@both_ways
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("length", [3, 4])
def test_batch_norm_over_a_middle_dimension_is_not_folded_into_a_linear_layer(
    length: int, before: bool, way: str
) -> None:
    """Of (N, L, C) the norm's channels are L, the layer's C, also where the two are equal."""
    torch.manual_seed(0)
    model, x = lively(DenseNorm(before=before, length=length)), numbers(2, length, 4)
    composite = EpsilonPlus(1e-15) if before else "zero"
    lrp = LRPFx(model, composite, start=lambda y: y, bias="ignore", capture=way)
    found = lrp.attribute(x)
    assert "batch_norm" in [name_of(step.node) for step in lrp.plan(x).steps]
    bn, dense = model.layers[not before], model.layers[before]
    scale = (bn.weight / (bn.running_var + EPS).sqrt())[:, None]
    shift = bn.bias[:, None] - bn.running_mean[:, None] * scale
    with torch.no_grad():
        y = model(x)
        if before:  # a norm on the model's input is preprocessing: all passes to x
            z = x * scale + shift
            expected = z * ((y / (z @ dense.weight.T)) @ dense.weight)
        else:
            z = dense(x)
            share = z * scale  # of y = s z + t
            expected = x * ((share / (x @ dense.weight.T)) @ dense.weight)
    assert distance(found, expected) <= ROUNDING


def test_one_lrpfx_takes_both_ranks() -> None:
    """The fold that was right for (N, C) is not used for (N, L, C), nor the other way round."""
    torch.manual_seed(0)
    model = lively(DenseNorm(before=False, length=4))
    lrp = LRPFx(model, "epsilon", start=lambda y: y)
    for shape in ((3, 4), (3, 4, 4), (2, 4), (2, 4, 4)):
        x = numbers(*shape)
        fresh = LRPFx(model, "epsilon", start=lambda y: y).attribute(x)
        assert torch.equal(lrp.attribute(x), fresh)


def test_layers_of_a_fold_keep_their_names() -> None:
    """The folded node answers to the paths of the convolution and of the norm."""
    network: Network = NETWORKS["residual"]
    graph = canonical(network.model(), *network.inputs())
    stem = next(n for n in graph.module.graph.nodes if name_of(n) == "conv2d")
    calls = {path for path, _ in (*stem.meta["module_calls"], *stem.meta["merged_calls"])}
    assert {"stem.0", "stem.1"} <= calls


VIEWED: dict[str, list[Callable[[Any, Tensor], Tensor]]] = {
    "behind a convolution": [
        lambda m, x: m.norm(m.conv(x)),
        lambda m, x: m.flat(m.conv(x).flatten(2)).view(-1, 4, 5, 5),
        lambda m, x: m.flat(m.conv(x).flatten(2)).unflatten(2, (5, 5)),
        lambda m, x: m.norm(m.conv(x).transpose(2, 3)).transpose(2, 3),
        lambda m, x: (
            m.flat(m.conv(x).permute(0, 2, 3, 1).reshape(-1, 4))
            .view(-1, 5, 5, 4)
            .permute(0, 3, 1, 2)
        ),
    ],
    "behind a linear layer": [
        lambda m, x: m.flat(m.linear(x.flatten(1))),
        lambda m, x: m.flat(m.linear(x.flatten(1)).unsqueeze(-1)).squeeze(-1),
        lambda m, x: m.norm(m.linear(x.flatten(1))[:, :, None, None]).flatten(1),
        lambda m, x: m.flat(m.linear(x.flatten(1)).view(-1, 2, 2).flatten(1)),
    ],
    "before a linear layer": [
        lambda m, x: m.last(m.flat(m.linear(x.flatten(1)).relu())),
        lambda m, x: m.last(m.flat(m.linear(x.flatten(1)).relu().unsqueeze(-1)).squeeze(-1)),
        lambda m, x: m.last(m.flat(m.linear(x.flatten(1)).relu()).view(-1, 2, 2).flatten(1)),
        lambda m, x: m.last(m.norm(m.linear(x.flatten(1)).relu()[..., None, None]).flatten(1)),
    ],
}


class Viewed(nn.Module):
    """A batch norm behind or before a layer, with views between them."""

    def __init__(self, form: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(75, 4)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(4, 4)
        with torch.no_grad():
            for each in (*self.norm.parameters(), *self.norm.buffers()):
                if each.is_floating_point():
                    each.uniform_(0.5, 2)
        self.flat = nn.BatchNorm1d(4)
        self.flat.load_state_dict(self.norm.state_dict())
        self.form, self.head = form, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.form(self, x))
        return self.head(y.mean((2, 3)) if y.dim() == 4 else y)


@pytest.mark.parametrize("name", VIEWED)
def test_views_between_a_norm_and_its_layer_change_nothing(name: str) -> None:
    x = numbers(2, 3, 5, 5)
    maps = []
    for form in VIEWED[name]:
        torch.manual_seed(1)
        lrp = LRPFx(Viewed(form).double().eval(), "epsilon_plus")
        maps.append(lrp.attribute(x, 1))
        assert "batch_norm" not in {name_of(step.node) for step in lrp.plan(x).steps}
    assert maps[0].any()
    for other in maps[1:]:
        assert torch.allclose(other, maps[0], rtol=1e-9, atol=1e-12)
