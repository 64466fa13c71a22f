"""The canonical graph: batch norm folded exactly or not at all, identities gone, parameters followed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models import NETWORKS, ROUNDING, Network, distance, numbers
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import prune
from torchvision.ops import StochasticDepth

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.canonize.pipeline import canonize
from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.reading import read
from lrp_fx.capture.running import run_model
from lrp_fx.composites import EpsilonPlus, compat
from lrp_fx.graph.calls import name_of
from lrp_fx.meaning.facts import analyse

FOLDED = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Of max |output|: a fold changes the order of a few hundred products, each rounded to 6e-8 (float32)
or 1e-16 (float64). Without eps, mean, γ or β it would be wrong by 0.1 and more."""
EPS = 0.3
"""Large: a fold that forgets it shows."""

WAYS = [("symbolic", torch.float32), ("symbolic", torch.float64), ("export", torch.float64)]
both_ways = pytest.mark.parametrize("way", ["symbolic", "export"])


def canonical(model: nn.Module, x: Tensor, way: str = "symbolic") -> Captured:
    """The canonical graph of the model, as read with the input."""
    arguments = Arguments.of((x,))
    return canonize(read(model, arguments, way, run_model(model, arguments)))


def operations(graph: Captured) -> list[str]:
    """The names of its calls."""
    return [name_of(node) for node in graph.module.graph.nodes if node.op == "call_function"]


def lively(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The model in eval mode, with batch norms whose every number matters."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 2.0)
            if module.affine:
                module.weight.data.normal_()
                module.bias.data.normal_()
    return model.to(dtype).eval()


def norm(channels: int, dims: int = 2, *, affine: bool = True) -> nn.Module:
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    return kind(channels, eps=EPS, affine=affine)


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


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("way", "dtype"), WAYS)
@pytest.mark.parametrize("name", BEHIND)
def test_batch_norm_folds_into_what_is_before_it(name: str, way: str, dtype: torch.dtype) -> None:
    """Exact to rounding, for every kind of linear operation, its groups, its bias or none."""
    make, shape = BEHIND[name]
    torch.manual_seed(0)
    model, x = lively(make(), dtype), numbers(*shape, dtype=dtype)
    graph = canonical(model, x, way)
    assert "batch_norm" not in operations(graph)
    _assert_same_output(model, graph, x)


@pytest.mark.parametrize(("way", "dtype"), WAYS)
@pytest.mark.parametrize("name", BEFORE)
def test_batch_norm_folds_into_what_is_behind_it(name: str, way: str, dtype: torch.dtype) -> None:
    """Exact to rounding where no padding comes between."""
    make, shape = BEFORE[name]
    torch.manual_seed(0)
    model, x = lively(make(), dtype), numbers(*shape, dtype=dtype)
    graph = canonical(model, x, way)
    assert "batch_norm" not in operations(graph)
    _assert_same_output(model, graph, x)


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


# What does nothing is gone

NOTHING: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "dropout": lambda: nn.Dropout(0.5),
    "dropout in place": lambda: nn.Dropout(0.5, inplace=True),
    "dropout1d": lambda: nn.Dropout1d(0.5),
    "dropout2d": lambda: nn.Dropout2d(0.5),
    "dropout3d": lambda: nn.Dropout3d(0.5),
    "alpha dropout": lambda: nn.AlphaDropout(0.5),
    "feature alpha dropout": lambda: nn.FeatureAlphaDropout(0.5),
    "stochastic depth": lambda: StochasticDepth(0.5, "row"),
}


@both_ways
@pytest.mark.parametrize("name", NOTHING)
def test_what_does_nothing_in_eval_mode_is_gone(name: str, way: str) -> None:
    """Dropouts, identities and stochastic depth leave no node, and their neighbours' fold."""
    shape = {"2d": (2, 3, 5, 4), "3d": (2, 3, 4, 5, 6)}.get(name[-2:], (2, 3, 5))
    x = numbers(*shape)
    model = nn.Sequential(nn.ReLU(), NOTHING[name](), nn.Sigmoid()).train()
    assert operations(canonical(model, x, way)) == ["relu", "sigmoid"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_canonical_graph_computes_what_the_model_computes(name: str) -> None:
    """All passes together, on networks of every kind."""
    network = NETWORKS[name]
    model, inputs = network.model(), network.inputs()
    arguments = Arguments.of(inputs)
    own = run_model(model, arguments)
    graph = canonize(read(model, arguments, "auto", own))
    with torch.no_grad():
        for mine, expected in zip(graph.module(*inputs), own, strict=True):
            assert distance(mine, expected) <= FOLDED[torch.float64]
    names = operations(graph)
    assert not {"dropout", "detach", "clone", "contiguous", "view"} & set(names)


# Parameters change


class Function(nn.Module):
    """Two of these differ by nothing but what they call."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Changing(nn.Module):
    """Folded and unfolded norms, a reused layer, a computed weight, a buffer and a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.late = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.register_buffer("scale", torch.rand(4, 1, 1) + 0.5)
        self.kernel = torch.randn(4, 1, 3, 3, dtype=torch.float64)
        self.factor = 1.0
        self.act = Function(torch.relu)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.conv(x)))
        x = self.again(F.relu(self.again(self.late(x))))
        x = F.conv2d(self.normed(x) * self.scale, self.kernel.to(x.dtype), groups=4)
        return self.fc(x.mean((2, 3)) * self.factor)


def _step(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().sum().backward()
    optimizer.step()


def _train_mode_forward(model: nn.Module, x: Tensor) -> None:
    model.train()(x * 3)
    model.eval()


@torch.no_grad()
def _load(model: nn.Module, x: Tensor) -> None:
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state)


def _load_by_assignment(model: nn.Module, x: Tensor) -> None:
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def _new_weight(model: nn.Module, x: Tensor) -> None:
    model.fc.weight = nn.Parameter(torch.randn_like(model.fc.weight))


def _new_weight_in_a_fold(model: nn.Module, x: Tensor) -> None:
    model.conv.weight = nn.Parameter(torch.randn_like(model.conv.weight))


def _no_bias(model: nn.Module, x: Tensor) -> None:
    model.fc.bias = None


def _new_module(model: nn.Module, x: Tensor) -> None:
    model.fc = nn.Linear(4, 3).double()


def _new_shape(model: nn.Module, x: Tensor) -> None:
    model.fc = nn.Linear(4, 7).double()


def _other_kind(model: nn.Module, x: Tensor) -> None:
    model.bn = nn.Identity()


def _at_the_same_address(model: nn.Module, x: Tensor) -> None:
    """What is freed first is often where the next object of its size comes to lie."""
    for _ in range(50):
        del model.act
        model.act = Function(torch.tanh)


@torch.no_grad()
def _buffers(model: nn.Module, x: Tensor) -> None:
    model.bn.running_var.mul_(3)
    model.late.running_mean = torch.randn(4).double()
    model.scale.mul_(-1)


def _frozen(model: nn.Module, x: Tensor) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)


@torch.no_grad()
def _plain_tensor(model: nn.Module, x: Tensor) -> None:
    model.kernel.mul_(-2)


def _new_plain_tensor(model: nn.Module, x: Tensor) -> None:
    model.kernel = torch.randn_like(model.kernel)


def _flag(model: nn.Module, x: Tensor) -> None:
    model.factor = -2.0


def _stride(model: nn.Module, x: Tensor) -> None:
    model.conv.stride = (2, 2)


def _hook(model: nn.Module, x: Tensor) -> None:
    model.fc.register_forward_hook(lambda module, inputs, output: output * 2)


def _parametrize(model: nn.Module, x: Tensor) -> None:
    nn.utils.parametrizations.weight_norm(model.conv)


def _no_parametrization(model: nn.Module, x: Tensor) -> None:
    nn.utils.parametrize.remove_parametrizations(model.normed, "weight")


CHANGES = [
    *(_step, _train_mode_forward, _load, _load_by_assignment, _new_weight, _new_weight_in_a_fold),
    *(_no_bias, _new_module, _new_shape, _other_kind, _at_the_same_address, _buffers, _frozen),
    *(_plain_tensor, _new_plain_tensor, _flag, _stride, _hook, _parametrize, _no_parametrization),
]


BY_EXPORT_TOO = [
    *(_step, _new_weight_in_a_fold, _no_bias, _buffers, _plain_tensor, _new_plain_tensor),
    *(_flag, _hook, _no_parametrization),
]
"""Changes of what the captures hold, each in its own way."""


@pytest.mark.parametrize(
    ("change", "composite", "way"),
    [
        *((change, "epsilon", "auto") for change in CHANGES),
        *((change, "epsilon_alpha2_beta1", "auto") for change in CHANGES),
        *((change, "epsilon_alpha2_beta1", "export") for change in BY_EXPORT_TOO),
    ],
)
def test_changes_of_the_model_are_picked_up(
    change: Callable[[nn.Module, Tensor], None], composite: str, way: str
) -> None:
    """An LRPFx from before explains what the model is now, as a new one does."""
    torch.manual_seed(0)
    model, x = lively(Changing()), numbers(2, 3, 8, 8)
    lrp = LRPFx(model, composite, capture=way)
    before = lrp.attribute(x, target=1)
    change(model, x)
    found = lrp.attribute(x, target=1)
    expected = LRPFx(model, composite, capture=way).attribute(x, target=1)
    assert torch.equal(found, expected)
    same = change in (_frozen, _parametrize, _no_parametrization)
    assert (distance(before, found) <= ROUNDING) == same


@both_ways
def test_a_change_of_dtype_is_picked_up(way: str) -> None:
    """``.double()`` keeps the parameters' identity and version, and is noticed."""
    torch.manual_seed(0)
    model, x = lively(Changing(), torch.float32), numbers(2, 3, 8, 8)
    lrp = LRPFx(model, "epsilon_alpha2_beta1", capture=way)
    single = lrp.attribute(x.float(), target=1)
    model.double()
    found = lrp.attribute(x, target=1)
    assert found.dtype == torch.float64
    fresh = LRPFx(model, "epsilon_alpha2_beta1", capture=way).attribute(x, target=1)
    assert torch.equal(found, fresh)
    model.float()
    assert torch.equal(lrp.attribute(x.float(), target=1), single)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@both_ways
@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "pruning"])
def test_weights_that_a_hook_computes_are_picked_up(kind: str, way: str) -> None:
    """Hooks that set the weight before the forward are read, not the value that they set once."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double(), numbers(2, 4)
    if kind == "weight norm":
        nn.utils.weight_norm(model[0])
        parameter = model[0].weight_g
    elif kind == "spectral norm":
        nn.utils.spectral_norm(model[0])
        parameter = model[0].weight_orig
    else:
        prune.l1_unstructured(model[0], "weight", amount=0.3)
        parameter = model[0].weight_orig
    model.eval()
    lrp = LRPFx(model, "z_plus", capture=way)
    before = lrp.attribute(x, target=0)
    with torch.no_grad():
        parameter.copy_(numbers(*parameter.shape, seed=3))
    found = lrp.attribute(x, target=0)
    assert torch.equal(found, LRPFx(model, "z_plus", capture=way).attribute(x, target=0))
    assert distance(before, found) > 1e-3


def test_an_lrpfx_does_not_keep_a_replaced_module() -> None:
    """Nor does it explain with the modules of another model that was copied from this one."""
    torch.manual_seed(0)
    model, x = lively(Changing()), numbers(2, 3, 8, 8)
    lrp = LRPFx(model)
    first = lrp.attribute(x, target=0)
    other = copy.deepcopy(model)
    _step(other, x)
    assert torch.equal(lrp.attribute(x, target=0), first)


def test_layers_of_a_fold_keep_their_names() -> None:
    """The folded node answers to the paths of the convolution and of the norm."""
    network: Network = NETWORKS["residual"]
    graph = canonical(network.model(), *network.inputs())
    stem = next(n for n in graph.module.graph.nodes if name_of(n) == "conv2d")
    calls = {path for path, _ in (*stem.meta["module_calls"], *stem.meta["merged_calls"])}
    assert {"stem.0", "stem.1"} <= calls


# Attention


class Attention(nn.Module):
    """Attention with a mask, in one call or written out."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.qkv, self.head = way, nn.Linear(4, 12), nn.Linear(4, 3)
        self.earlier = torch.ones(5, 5, dtype=torch.bool).tril()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.way == "causal":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif self.way == "boolean":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.earlier)
        else:
            y = (q / 2 @ k.mT).masked_fill(~self.earlier, float("-inf")).softmax(-1) @ v
        return self.head(y.mean(1))


@pytest.mark.parametrize("fused", ["causal", "boolean"])
@pytest.mark.parametrize("way", ["auto", "export", "record"])
def test_fused_attention_is_attention_written_out(fused: str, way: str) -> None:
    """Whether told by a flag or by a mask what each place may see; ε = 0, for recording adds the mask."""
    model, plain = lively(Attention(fused)), lively(Attention("plain"))
    plain.load_state_dict(model.state_dict())
    x = numbers(2, 5, 4)
    mine = LRPFx(model, compat.attnlrp(), capture=way).attribute(x, 1)
    assert distance(mine, LRPFx(plain, compat.attnlrp()).attribute(x, 1)) <= ROUNDING


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
