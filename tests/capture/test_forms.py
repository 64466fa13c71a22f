"""However a model is written, its operations are read as the same ones, once for all sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.captures import after, both_ways, captured, operations, relevance, signal
from tests.helpers.closeness import ROUNDING, STABILIZED, assert_close, distance
from tests.helpers.models import NETWORKS, everything, input_x_gradient
from tests.helpers.numbers import numbers


def one_dimensional() -> nn.Module:
    return nn.Conv1d(3, 4, 3, padding=1)


def three_dimensional() -> nn.Module:
    return nn.Conv3d(3, 4, 3, padding=1)


def planar() -> nn.Module:
    return nn.Conv2d(3, 4, 3, padding=1)


def _unassigned(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """A call that is made for its effect on the argument alone."""

    def call(y: Tensor) -> Tensor:
        function(y)
        return y

    return call


def _added_in_place(y: Tensor) -> Tensor:
    z = y.cumsum(2)
    z += y
    return z


FORMS: dict[str, tuple[list[str], Callable[[], nn.Module], list[Callable[..., Any]]]] = {
    "relu": (
        ["relu"],
        planar,
        [
            *(nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, lambda y: y.relu()),
            *(lambda y: y.relu_(), torch.relu_, functools.partial(F.relu, inplace=True)),
            _unassigned(functools.partial(F.relu, inplace=True)),
            *(_unassigned(nn.ReLU(inplace=True)), _unassigned(lambda y: y.relu_())),
        ],
    ),
    "leaky relu": (
        ["leaky_relu"],
        planar,
        [
            *(nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, inplace=True)),
            *(lambda y: F.leaky_relu(y, 0.2), lambda y: F.leaky_relu_(y, 0.2)),
            lambda y: F.leaky_relu(y, negative_slope=0.2, inplace=True),
            _unassigned(lambda y: F.leaky_relu(y, 0.2, True)),
        ],
    ),
    "sigmoid": (
        ["sigmoid"],
        planar,
        [nn.Sigmoid(), torch.sigmoid, F.sigmoid, lambda y: y.sigmoid(), lambda y: y.sigmoid_()],
    ),
    "hardtanh": (
        ["hardtanh"],
        planar,
        [
            *(nn.Hardtanh(-0.3, 0.2), lambda y: F.hardtanh(y, -0.3, 0.2)),
            lambda y: F.hardtanh(y, max_val=0.2, min_val=-0.3, inplace=True),
        ],
    ),
    "clamp": (
        ["clamp"],
        planar,
        [
            *(lambda y: y.clamp(-0.3, 0.2), lambda y: torch.clamp(y, min=-0.3, max=0.2)),
            *(lambda y: y.clip(-0.3, 0.2), lambda y: y.clamp_(-0.3, 0.2)),
        ],
    ),
    "softmax": (
        ["softmax"],
        planar,
        [nn.Softmax(1), lambda y: F.softmax(y, dim=1), lambda y: y.softmax(1)],
    ),
    "flatten": (
        ["flatten"],
        planar,
        [
            *(nn.Flatten(), lambda y: torch.flatten(y, 1), lambda y: y.flatten(1)),
            lambda y: torch.flatten(y, start_dim=1, end_dim=-1),
        ],
    ),
    "reshape": (
        ["reshape"],
        planar,
        [
            *(lambda y: y.view(2, -1), lambda y: y.reshape(2, -1), lambda y: y.view((2, -1))),
            *(lambda y: torch.reshape(y, (2, -1)), lambda y: y.reshape([2, -1])),
        ],
    ),
    "permute": (
        ["permute"],
        planar,
        [
            *(lambda y: y.permute(0, 2, 3, 1), lambda y: torch.permute(y, (0, 2, 3, 1))),
            lambda y: y.permute([0, 2, 3, 1]).contiguous(),
        ],
    ),
    "transpose": (
        ["transpose"],
        planar,
        [lambda y: y.transpose(1, 2), lambda y: torch.swapaxes(y, 1, 2), lambda y: y.swapdims(1, 2)],
    ),
    "concatenation": (
        ["mul", "cat"],
        planar,
        [
            *(lambda y: torch.cat([y, y * 2], 1), lambda y: torch.cat((y, y * 2), dim=1)),
            *(lambda y: torch.concat([y, y * 2], 1), lambda y: torch.concatenate([y, y * 2], dim=1)),
            lambda y: torch.hstack([y, y * 2]),
        ],
    ),
    "addition": (
        ["cumsum", "add"],
        planar,
        [
            *(lambda y: y.cumsum(2) + y, lambda y: torch.add(y.cumsum(2), y)),
            lambda y: y.cumsum(2).add(y),
            *(lambda y: y.cumsum(2).add_(y), _added_in_place),
        ],
    ),
    "weighted addition": (
        ["add"],
        planar,
        [lambda y: torch.add(y, y, alpha=2), lambda y: y.add(y, alpha=2)],
    ),
    "subtraction": (
        ["cumsum", "sub"],
        planar,
        [
            *(lambda y: y.cumsum(2) - y, lambda y: torch.sub(y.cumsum(2), y)),
            lambda y: torch.subtract(y.cumsum(2), y),
            lambda y: y.cumsum(2).sub_(y),
        ],
    ),
    "scaling": (
        ["mul"],
        planar,
        [
            *(lambda y: y * 0.5, lambda y: 0.5 * y, lambda y: torch.mul(y, 0.5)),
            *(lambda y: y.mul_(0.5), lambda y: torch.multiply(y, 0.5)),
        ],
    ),
    "division": (
        ["div"],
        planar,
        [
            *(lambda y: y / 4, lambda y: torch.div(y, 4), lambda y: y.div_(4)),
            *(lambda y: y.true_divide(4), lambda y: torch.divide(y, 4)),
        ],
    ),
    "mean": (
        ["mean"],
        planar,
        [
            *(lambda y: y.mean((2, 3)), lambda y: torch.mean(y, dim=[2, 3])),
            lambda y: y.mean(dim=(2, 3), keepdim=False),
        ],
    ),
    "max pooling, 1-d": (
        ["max_pool1d_with_indices", "getitem"],
        one_dimensional,
        [
            *(nn.MaxPool1d(3, 2, 1), lambda y: F.max_pool1d(y, 3, 2, 1)),
            lambda y: torch.max_pool1d(y, 3, 2, 1),
        ],
    ),
    "max pooling, 2-d": (
        ["max_pool2d_with_indices", "getitem"],
        planar,
        [
            *(nn.MaxPool2d(2, ceil_mode=True), lambda y: F.max_pool2d(y, 2, ceil_mode=True)),
            lambda y: torch.max_pool2d(y, 2, ceil_mode=True),
        ],
    ),
    "max pooling, 3-d": (
        ["max_pool3d_with_indices", "getitem"],
        three_dimensional,
        [
            *(nn.MaxPool3d(2, (1, 2, 1), 1), lambda y: F.max_pool3d(y, 2, (1, 2, 1), padding=1)),
            lambda y: torch.max_pool3d(y, 2, (1, 2, 1), 1),
        ],
    ),
    "average pooling, 1-d": (
        ["avg_pool1d"],
        one_dimensional,
        [nn.AvgPool1d(2), lambda y: F.avg_pool1d(y, 2), lambda y: torch.avg_pool1d(y, 2)],
    ),
    "average pooling, 2-d": (
        ["avg_pool2d"],
        planar,
        [
            nn.AvgPool2d(3, 2, 1, count_include_pad=False),
            lambda y: F.avg_pool2d(y, 3, 2, padding=1, count_include_pad=False),
        ],
    ),
    "average pooling, 3-d": (
        ["avg_pool3d"],
        three_dimensional,
        [nn.AvgPool3d(2), lambda y: F.avg_pool3d(y, 2)],
    ),
    "adaptive average pooling, 1-d": (
        ["adaptive_avg_pool1d"],
        one_dimensional,
        [
            *(nn.AdaptiveAvgPool1d(4), lambda y: F.adaptive_avg_pool1d(y, 4)),
            lambda y: torch.adaptive_avg_pool1d(y, [4]),
        ],
    ),
    "adaptive average pooling, 2-d": (
        ["adaptive_avg_pool2d"],
        planar,
        [nn.AdaptiveAvgPool2d(2), lambda y: F.adaptive_avg_pool2d(y, (2, 2))],
    ),
    "adaptive average pooling, 3-d": (
        ["adaptive_avg_pool3d"],
        three_dimensional,
        [nn.AdaptiveAvgPool3d((1, 2, 2)), lambda y: F.adaptive_avg_pool3d(y, (1, 2, 2))],
    ),
    "adaptive max pooling, 1-d": (
        ["adaptive_max_pool1d", "getitem"],
        one_dimensional,
        [nn.AdaptiveMaxPool1d(4), lambda y: F.adaptive_max_pool1d(y, 4)],
    ),
    "adaptive max pooling, 2-d": (
        ["adaptive_max_pool2d", "getitem"],
        planar,
        [nn.AdaptiveMaxPool2d(2), lambda y: F.adaptive_max_pool2d(y, (2, 2))],
    ),
    "adaptive max pooling, 3-d": (
        ["adaptive_max_pool3d", "getitem"],
        three_dimensional,
        [nn.AdaptiveMaxPool3d((1, 2, 2)), lambda y: F.adaptive_max_pool3d(y, (1, 2, 2))],
    ),
    "maximum of a dimension": (
        ["max", "getitem"],
        planar,
        [
            *(lambda y: y.max(1)[0], lambda y: y.max(dim=1).values, lambda y: torch.max(y, dim=1)[0]),
            lambda y: torch.max(y, 1).values,
        ],
    ),
    "nothing": (
        ["relu"],
        planar,
        [
            *(nn.ReLU(), lambda y: F.dropout(y, 0.5, training=False).relu()),
            *(nn.Sequential(nn.Identity(), nn.Dropout(), nn.ReLU(), nn.Dropout2d()),),
            *(lambda y: y.clone().relu().contiguous().detach(),),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_one_operation(name: str) -> None:
    """Module, functional, method and in-place forms end as the same calls and the same bits."""
    expected, stem, forms = FORMS[name]
    maps = []
    for form in forms:
        model = after(form, stem)
        x = signal(model)
        assert operations(model, x) == expected
        maps.append(relevance(model, x))
    assert float(maps[0].abs().max()) > 0
    assert all(torch.equal(each, maps[0]) for each in maps[1:])


@pytest.mark.parametrize("name", FORMS)
def test_both_captures_end_as_one(name: str) -> None:
    """Export writes other calls, which the canonical form brings to the same vocabulary.

    But for one: it knows the sizes and writes a reshape for flatten, whose dimensions may be counted
    from the end.
    """
    expected, stem, forms = FORMS[name]
    model = after(forms[-1], stem)
    x = signal(model)
    reshaped = ["reshape" if name == "flatten" else name for name in expected]
    assert operations(model, x, way="export") in (expected, reshaped)
    assert distance(relevance(model, x, way="export"), relevance(model, x)) <= ROUNDING


@both_ways
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda y: 1 - y, ["rsub"]),
        (lambda y: 1 + y, ["add"]),
        (lambda y: torch.rsub(y, 3), ["rsub"]),
        (lambda y: 2 / y, ["reciprocal", "mul"]),
        (lambda y: -y, ["neg"]),
        (lambda y: +y, []),
        (lambda y: y**2, ["pow"]),
        (lambda y: 2**y, ["mul", "exp"]),
        (lambda y: y @ y.transpose(-1, -2), ["transpose", "matmul"]),
    ],
    ids=["1-y", "1+y", "rsub", "2/y", "-y", "+y", "y**2", "2**y", "y@y"],
)
def test_operators(function: Callable[[Tensor], Tensor], expected: list[str], way: str) -> None:
    """Operators with the number on either side keep their meaning; nothing folds into a GELU."""
    model = after(function, nn.GELU)
    assert operations(model, signal(model), way=way) == expected


@both_ways
@pytest.mark.parametrize("function", [torch.max, torch.maximum], ids=["max", "maximum"])
def test_maximum_of_two_tensors_is_no_maximum_of_a_dimension(
    function: Callable[..., Tensor], way: str
) -> None:
    """``torch.max`` has two meanings under one name."""
    model = after(lambda y: function(y, y.cumsum(2)))
    assert operations(model, signal(model), way=way) == ["cumsum", "maximum"]


INDICES: dict[str, Callable[[Tensor], Tensor]] = {
    "int": lambda y: y[:, 1],
    "negative int": lambda y: y[:, -1],
    "slice": lambda y: y[:, 1:3],
    "open slice": lambda y: y[:, :, 2:],
    "negative slice": lambda y: y[:, :, -3:-1],
    "step": lambda y: y[:, ::2, 1::3],
    "bounds from a shape": lambda y: y[:, : y.shape[1] // 2, y.size(2) - 2 :],
    "new axis": lambda y: y[:, None, 0],
    "new axis first": lambda y: y[:, 1:][:, None, :, :2],
    "ellipsis": lambda y: y[..., 1],
    "ellipsis and more": lambda y: y[:, ..., 1:, 0],
    "slices behind an ellipsis": lambda y: y[..., 1:3, ::2],
    "int before an ellipsis": lambda y: y[:, 1, ..., 2:],
    "tensor": lambda y: y[:, torch.tensor([2, 0, 0])],
    "split, unpacked": lambda y: (lambda a, b: torch.cat([b, a], 1))(*_two(y.split(2, dim=1))),
    "sizes, unpacked": lambda y: (lambda a, b: b)(*_two(torch.split(y, [1, 3], 1))),
    "chunk, unpacked": lambda y: (lambda a, b: b * 2 + a)(*_two(y.chunk(2, dim=1))),
    "unbind": lambda y: y.unbind(1)[2],
    "list": lambda y: y[:, [2, 0]],
    "new axis behind an ellipsis": lambda y: y[..., None],
    "loop over a split": lambda y: torch.cat(list(y.split(1, dim=1))[::-1], 1),
    "starred": lambda y: torch.stack([y.unbind(1)[0], *y.unbind(1)[2:]], 1),
}


def _two(parts: Any) -> tuple[Tensor, Tensor]:
    first, second = parts
    return first, second


@both_ways
@pytest.mark.parametrize("name", INDICES)
def test_indexing(name: str, way: str) -> None:
    """Every form of ``x[…]`` and of unpacking is read right, and its relevance is the adjoint's."""
    model = after(INDICES[name])
    x = signal(model)
    model.get_submodule("stem").bias.data.zero_()
    lrp = LRPFx(model, "zero", start=everything, capture=way)
    found = lrp.attribute(x)
    assert lrp.plan(x).notes[0] == f"capture: {way}"
    (expected,) = input_x_gradient(model, x)  # ε = 0 on a linear function
    assert distance(found, expected) <= ROUNDING


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "size(0)": lambda y: y.view(y.size(0), -1).relu(),
    "shape[0]": lambda y: y.reshape(y.shape[0], y.shape[1] * y.shape[2], -1).relu(),
    "unpacked size": lambda y: (lambda n, c, h, w: y.view(n, c * h, w))(*_four(y.size())).relu(),
    "unpacked shape": lambda y: (lambda n, c, h, w: y.view(n, c, w, h))(*_four(y.shape)).relu(),
    "arithmetic": lambda y: y[..., : y.shape[-1] - 1] * y.shape[-2] / (y.shape[-1] + 1),
    "length of the mean": lambda y: y.sum((2, 3)) / (y.size(-1) * y.size(2)),
    "view of another": lambda y: y.flatten(1).view(y.shape) + y,
    "view as another": lambda y: y.flatten(1).view_as(y) + y,
    "zeros of a shape": lambda y: y + torch.zeros_like(y),
    "expand as": lambda y: y[:, :1].expand_as(y) + y,
    "flexible pooling": lambda y: F.avg_pool2d(y, (2, 4)),
    "interpolated to": lambda y: F.interpolate(y[:, :, ::2], size=y.shape[-2:], mode="bilinear"),
}


def _four(sizes: Any) -> tuple[int, int, int, int]:
    n, c, h, w = sizes
    return n, c, h, w


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_not_baked_in(name: str) -> None:
    """One symbolic reading serves every batch and image size."""
    model = after(SHAPES[name])
    lrp = LRPFx(model, "epsilon", start=everything, capture="symbolic")
    for shape in ((2, 3, 6, 8), (1, 3, 6, 8), (3, 3, 10, 12), (2, 3, 6, 8)):
        x = numbers(*shape)
        assert torch.equal(lrp.attribute(x), relevance(model, x))
    (readings,) = lrp._explainer._readings.values()
    assert len(readings) == 1


def test_other_sizes_are_read_again_where_they_must() -> None:
    """Export leaves the batch open only: what it read for one image size is not used for another."""
    model = after(lambda y: F.interpolate(y, scale_factor=2.0)[:, :, : int(y.shape[2] * 1.5)])
    lrp = LRPFx(model, "epsilon", start=everything)
    readings = []
    for shape in ((2, 3, 4, 4), (3, 3, 4, 4), (1, 3, 4, 4), (2, 3, 6, 5), (2, 3, 4, 4)):
        x = numbers(*shape)
        assert torch.equal(lrp.attribute(x), relevance(model, x, way="export"))
        readings.append(sum(map(len, lrp._explainer._readings.values())))
    assert readings == [1, 1, 1, 2, 2]


# Padding, interpolation, batch norm and dropout as functions


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@both_ways
@pytest.mark.parametrize(
    "stem",
    [
        lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2),
        lambda: nn.Conv2d(3, 4, (2, 3), padding="same"),
        lambda: nn.Conv2d(3, 4, (4, 2), padding="same", dilation=(1, 3), bias=False),
        lambda: nn.Conv2d(3, 4, 3, padding="valid", stride=2),
        lambda: nn.Conv1d(3, 4, 4, padding="same"),
        lambda: nn.Conv3d(3, 4, (1, 2, 3), padding="same"),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 2, padding="same")),
    ],
    ids=["even", "uneven", "uneven twice", "valid", "1-d", "3-d", "computed weight"],
)
def test_padding_in_words(stem: Callable[[], nn.Module], way: str) -> None:
    """``padding="same"`` is symmetric padding, or one row and column more behind; never a guess."""
    model = after(nn.ReLU(), stem)
    x = signal(model)
    if model.get_submodule("stem").bias is not None:
        model.get_submodule("stem").bias.data.zero_()
    found = LRPFx(model, "zero", start=everything, capture=way).attribute(x)
    (expected,) = input_x_gradient(model, x)
    assert distance(found, expected) <= ROUNDING


@both_ways
@pytest.mark.parametrize(
    "function",
    [
        lambda y: F.pad(y, (1, 2)),
        lambda y: F.pad(y, (1, 2, 0, 1), "constant", 0.0),
        lambda y: F.pad(y, (-1, 2, 0, -1)),
        lambda y: F.pad(y, (1, 2, 3, 1), mode="reflect"),
        lambda y: F.pad(y, [2, 1, 0, 1], mode="replicate"),
        lambda y: F.pad(y, (1, 2, 3, 1), mode="circular"),
        nn.ZeroPad2d(1),
        nn.ReflectionPad2d((1, 0, 2, 1)),
        nn.ReplicationPad2d(2),
        nn.CircularPad2d(1),
        nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Conv2d(4, 3, 3, padding=(1, 2), padding_mode="circular", bias=False),
        lambda y: F.interpolate(y, scale_factor=2),
        lambda y: F.interpolate(y, size=(9, 7), mode="nearest"),
        lambda y: F.interpolate(y, size=9, mode="bilinear"),
        lambda y: F.interpolate(y, scale_factor=(1.5, 2), mode="bilinear", align_corners=True),
        lambda y: F.interpolate(y, scale_factor=2, mode="bicubic", align_corners=False),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.UpsamplingNearest2d(scale_factor=2),
    ],
    ids=lambda f: None,
)
def test_padding_and_interpolation(function: Callable[[Tensor], Tensor], way: str) -> None:
    """All modes are read right, and their relevance is input × gradient as for every linear map."""
    model = after(function)
    model.get_submodule("stem").bias.data.zero_()
    x = signal(model)
    way = "auto" if way == "symbolic" else way
    found = LRPFx(model, "zero", start=everything, capture=way).attribute(x)
    (expected,) = input_x_gradient(model, x)
    assert distance(found, expected) <= ROUNDING


class FunctionalNorm(nn.Module):
    """``F.batch_norm`` takes its statistics before its weights, ATen after them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, eps=0.1)
        for tensor in (self.norm.weight.data, self.norm.running_var):
            tensor.uniform_(0.5, 1.5)
        for tensor in (self.norm.bias.data, self.norm.running_mean):
            tensor.normal_()
        self.functional = True

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not self.functional:
            return norm(self.conv(x))
        statistics = norm.running_mean, norm.running_var
        return F.batch_norm(
            self.conv(x), *statistics, norm.weight, bias=norm.bias, training=False, eps=norm.eps
        )


@both_ways
def test_functional_batch_norm(way: str) -> None:
    """The functional form is the module form, and folds as that does."""
    torch.manual_seed(0)
    model = FunctionalNorm().double().eval()
    x = numbers(2, 3, 6, 6)
    assert "batch_norm" not in operations(model, x, way=way)
    functional = relevance(model, x, way=way)
    model.functional = False
    assert torch.equal(functional, relevance(model, x, way=way))


class ActivatedNorm(nn.BatchNorm2d):
    """A subclass that does more than its base."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        return F.leaky_relu(y, 0.1)


@both_ways
def test_subclasses_of_batch_norm_do_what_they_do(way: str) -> None:
    """A batch norm with an activation of its own is not taken for a plain one."""
    model = after(ActivatedNorm(4))
    assert operations(model, signal(model), way=way) == ["leaky_relu"]


def test_graphs_are_plain_aten() -> None:
    """Calls are ATen overload packets or Python's arithmetic on sizes; nothing of torch's own Python."""
    for name in ("functional", "residual", "layouts", "slopes"):
        network = NETWORKS[name]
        for node in captured(network.model(), *network.inputs()).module.graph.nodes:
            if node.op == "call_function":
                plain = isinstance(node.target, torch._ops.OpOverloadPacket)
                assert plain or node.target.__module__ in ("_operator", "builtins"), node


class Mapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.vmap(lambda row: self.dense(row).relu())(x))


def test_vmap_is_read() -> None:
    """A bias that is added behind the product is an addition, with an ε of its own."""
    torch.manual_seed(0)
    net, x = Mapped().double().eval(), numbers(3, 4)
    mine = LRPFx(net, "epsilon").attribute(x, 1)
    plain = nn.Sequential(net.dense, nn.ReLU(), net.head)
    for expected in (
        LRPFx(plain, "epsilon").attribute(x, 1),
        LRPFx(net, "epsilon", capture="record").attribute(x, 1),
    ):
        assert_close(mine, expected, STABILIZED)
