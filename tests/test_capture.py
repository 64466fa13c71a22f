"""Capture: however a model is written, it is read right, once for all sizes, and left alone."""

from __future__ import annotations

import collections
import functools
import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy
import pytest
import torch
import torch.nn.functional as F
from models import (
    NETWORKS,
    ROUNDING,
    Network,
    Reused,
    TwoInputs,
    distance,
    input_x_gradient,
    numbers,
)
from torch import Tensor, fx, nn
from torchvision.models import resnet18

from lrp_fx import LRPFx
from lrp_fx.canonize.pipeline import canonize
from lrp_fx.capture.captured import Arguments, Captured, module_path
from lrp_fx.capture.members import named_tensors, walk
from lrp_fx.capture.reading import read
from lrp_fx.capture.running import run_model
from lrp_fx.errors import CaptureError, InputError, LRPError, OptionError, UnsupportedOperationError
from lrp_fx.graph.calls import name_of
from lrp_fx.meaning.facts import analyse

STABILIZED = 1e-3
"""Of max |R|: what ε = 1e-6 takes, beside sums that are 1e-3 and more on the fixed seeds."""
OTHER_KERNELS = 1e-5
"""Of an output in float32: torch.export switches off MKLDNN for the whole process while it runs, so
other threads' forwards go through other kernels meanwhile."""

both_ways = pytest.mark.parametrize("way", ["symbolic", "export"])
all_ways = pytest.mark.parametrize("way", ["symbolic", "export", "auto"])


class After(nn.Module):
    """A function, or a module, behind a layer that makes its input signed and of a known size."""

    def __init__(self, function: Callable[..., Any], stem: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1) if stem is None else stem
        self.function = function

    def forward(self, x: Tensor, *others: Any) -> Any:
        return self.function(self.stem(x), *others)


def after(function: Callable[..., Any], stem: Callable[[], nn.Module] | None = None) -> nn.Module:
    torch.manual_seed(0)
    return After(function, None if stem is None else stem()).double().eval()


def captured(model: nn.Module, *inputs: Any, way: str = "symbolic") -> Captured:
    """The model as the captures read it; the reading is verified."""
    arguments = Arguments.of(inputs)
    return read(model, arguments, way, run_model(model, arguments))


def operations(model: nn.Module, *inputs: Any, way: str = "symbolic") -> list[str]:
    """The names of the calls on the input in the canonical graph, the stem's aside."""
    canonical = canonize(captured(model, *inputs, way=way))
    facts = analyse(canonical.module.graph, canonical.placeholders())
    calls = [node for node in canonical.module.graph.nodes if node in facts.dynamic]
    return [name_of(n) for n in calls if n.op == "call_function" and module_path(n) != "stem"]


def everything(output: Tensor) -> Tensor:
    """A start: all of the output is explained at once."""
    return output


def relevance(model: nn.Module, *inputs: Tensor, way: str = "symbolic", **options: Any) -> Tensor:
    """All relevance of a model's output, under ε."""
    lrp = LRPFx(model, "epsilon", start=everything, capture=way, **options)
    found = lrp.attribute(inputs if len(inputs) > 1 else inputs[0])
    return torch.cat([each.flatten() for each in found]) if len(inputs) > 1 else found


def signal(model: nn.Module) -> Tensor:
    """An input for ``after``: an image, or what its stem takes."""
    stem = model.get_submodule("stem")
    if isinstance(stem, nn.Conv1d):
        return numbers(2, 3, 9)
    if isinstance(stem, nn.Conv3d):
        return numbers(2, 3, 4, 5, 6)
    return numbers(2, 3, 6, 8)


def one_dimensional() -> nn.Module:
    return nn.Conv1d(3, 4, 3, padding=1)


def three_dimensional() -> nn.Module:
    return nn.Conv3d(3, 4, 3, padding=1)


def planar() -> nn.Module:
    return nn.Conv2d(3, 4, 3, padding=1)


# However it is written, it is one operation


def _unassigned(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """A call that is made for its effect on the argument alone."""

    def call(y: Tensor) -> Tensor:
        function(y)
        return y

    return call


def _added_in_place(y: Tensor) -> Tensor:
    z = y * 2
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
        ["mul", "add"],
        planar,
        [
            *(lambda y: y * 2 + y, lambda y: torch.add(y * 2, y), lambda y: (y * 2).add(y)),
            *(lambda y: (y * 2).add_(y), _added_in_place),
        ],
    ),
    "weighted addition": (
        ["add"],
        planar,
        [lambda y: torch.add(y, y, alpha=2), lambda y: y.add(y, alpha=2)],
    ),
    "subtraction": (
        ["mul", "sub"],
        planar,
        [
            *(lambda y: y * 2 - y, lambda y: torch.sub(y * 2, y), lambda y: torch.subtract(y * 2, y)),
            lambda y: (y * 2).sub_(y),
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
    """Operators with the number on either side keep their meaning; nothing folds into a tanh."""
    model = after(function, nn.Tanh)
    assert operations(model, signal(model), way=way) == expected


@both_ways
@pytest.mark.parametrize("function", [torch.max, torch.maximum], ids=["max", "maximum"])
def test_maximum_of_two_tensors_is_no_maximum_of_a_dimension(
    function: Callable[..., Tensor], way: str
) -> None:
    """``torch.max`` has two meanings under one name."""
    model = after(lambda y: function(y, y * 2))
    assert operations(model, signal(model), way=way) == ["mul", "maximum"]


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
}
BY_EXPORT: dict[str, Callable[[Tensor], Tensor]] = {
    "list": lambda y: y[:, [2, 0]],
    "new axis behind an ellipsis": lambda y: y[..., None],
    "loop over a split": lambda y: torch.cat(list(y.split(1, dim=1))[::-1], 1),
    "starred": lambda y: torch.stack([y.unbind(1)[0], *y.unbind(1)[2:]], 1),
}


def _two(parts: Any) -> tuple[Tensor, Tensor]:
    first, second = parts
    return first, second


@both_ways
@pytest.mark.parametrize("name", [*INDICES, *BY_EXPORT])
def test_indexing(name: str, way: str) -> None:
    """Every form of ``x[…]`` and of unpacking is read right, and its relevance is the adjoint's."""
    model = after({**INDICES, **BY_EXPORT}[name])
    x = signal(model)
    if way == "symbolic" and name in BY_EXPORT:
        way = "auto"
    model.get_submodule("stem").bias.data.zero_()
    lrp = LRPFx(model, "zero", start=everything, capture=way)
    found = lrp.attribute(x)
    by_export = way == "export" or name in BY_EXPORT
    assert lrp.plan(x).notes[0] == f"capture: {'export' if by_export else 'symbolic'}"
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


# In-place code


def _alias(y: Tensor) -> Tensor:
    z = y
    z += 1
    return y * 2


def _view(y: Tensor) -> Tensor:
    y[:, :1].mul_(3)
    return y


def _named_view(y: Tensor) -> Tensor:
    part = y[:, 1:3]
    part += 1
    part.relu_()
    return y - 1


def _reshaped(y: Tensor) -> Tensor:
    flat = y.view(y.size(0), -1)
    flat.mul_(2)
    return y + flat.view_as(y)


def _piece(y: Tensor) -> Tensor:
    first, second = y.chunk(2, dim=1)
    first *= 3
    second.add_(first)
    return y


def _assigned_part(y: Tensor) -> Tensor:
    y[:, 0] = y[:, 1]
    return y


def _power(y: Tensor) -> Tensor:
    z = y
    z **= 1
    z *= 2
    return y


def _of_the_caller(y: Tensor) -> Tensor:
    def change(z: Tensor) -> None:
        z.mul_(2)

    change(y)
    return y


def _kept_apart(y: Tensor) -> Tensor:
    z = y.clone()
    z += 5
    return y + z


@all_ways
@pytest.mark.parametrize(
    "function",
    [
        *(_alias, _view, _named_view, _reshaped, _piece, _assigned_part, _power),
        *(_of_the_caller, _kept_apart),
    ],
)
def test_in_place_code(function: Callable[[Tensor], Tensor], way: str) -> None:
    """Whoever holds the memory sees the change; where symbols cannot tell, they say so."""
    model = after(function)
    x = signal(model)
    with torch.no_grad():
        expected = model(x.clone())
        if way == "symbolic" and function not in (_alias, _of_the_caller, _kept_apart):
            with pytest.raises(CaptureError, match=r"in-place|__setitem__|something other than"):
                captured(model, x, way=way)
            return
        graph = captured(model, x, way=way)
        assert torch.equal(graph.module(x.clone())[0], expected)
        assert distance(canonize(graph).module(x.clone())[0], expected) <= ROUNDING


def test_in_place_code_never_changes_the_inputs() -> None:
    """A model that overwrites its input overwrites a copy of it."""
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 3))
    for way in ("symbolic", "export"):
        x = numbers(2, 3, 4, dtype=torch.float32)
        before, version = x.clone(), x._version
        LRPFx(model, capture=way).attribute(x, target=0)
        assert torch.equal(x, before)
        assert x._version == version


# Paths and lines


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x))  # the line of tanh


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(Inner(), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.block(x))
        return x.exp()  # the line of exp


def _line_of(function: Callable[..., Any], text: str) -> str:
    lines, first = inspect.getsourcelines(function)
    (offset,) = (i for i, line in enumerate(lines) if text in line)
    return f"{Path(__file__)}:{first + offset}"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat(x.chunk(2, 2), 1),
        lambda x: torch.cat(torch.split(x, 2, 2)[::-1], 2),
        lambda x: torch.stack(x.unbind(1), 2),
        lambda x: sum(x.split([3, 3], 2)),
    ],
    ids=["chunk", "split", "unbind", "sum"],
)
def test_results_of_one_call_handed_on_as_a_list(function: Callable[[Tensor], Tensor]) -> None:
    """Only an export knows how many there are: symbolic tracing says so and steps back."""
    model, x = after(function), signal(after(function))
    lrp = LRPFx(model, start=everything)
    relevance = lrp.attribute(x)
    assert "capture: export" in lrp.plan(x).notes
    assert lrp.audit(x).closes(1e-4)
    assert relevance.shape == x.shape


@both_ways
def test_every_call_knows_its_module_and_line(way: str) -> None:
    """Paths, outermost first with the number of the call, and the line of the user's own code."""
    nodes = captured(Outer().eval(), torch.ones(2, 4), way=way).module.graph.nodes
    calls = [node for node in nodes if node.op == "call_function"]
    where = [(name_of(node), module_path(node)) for node in calls]
    once = [("linear", "block.0.dense"), ("tanh", "block.0"), ("relu", "block.1")]
    assert where == [*once, *once, ("exp", "")]
    assert [node.meta["module_calls"][1] for node in calls[:-1]] == [("block", 0)] * 3 + [
        ("block", 1)
    ] * 3
    assert [node.meta["module_calls"][-1][1] for node in calls[:-1]] == [0] * 3 + [1] * 3
    tanh, exp = _line_of(Inner, "line of tanh"), _line_of(Outer, "line of exp")
    assert [node.meta["source"] for node in calls if name_of(node) == "tanh"] == [tanh, tanh]
    assert calls[0].meta["source"] == tanh  # the linear layer is called there
    assert calls[-1].meta["source"] == exp


@both_ways
def test_lines_are_the_models_own(way: str) -> None:
    """A model of torch's modules alone has no line of the user's, least of all one of this library."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    nodes = captured(model, torch.ones(2, 4), way=way).module.graph.nodes
    assert {node.meta.get("source") for node in nodes if node.op == "call_function"} == {None}


# The two captures agree


@pytest.mark.parametrize("name", NETWORKS)
def test_captures_agree(name: str) -> None:
    """Symbolic and export capture give the same map: one checks the other."""
    network = NETWORKS[name]
    model, inputs = network.model(), network.inputs()
    x = inputs if len(inputs) > 1 else inputs[0]
    maps = []
    for way in ("auto", "export"):
        lrp = LRPFx(model, output=network.output, capture=way)
        found = lrp.attribute(x, target=1)
        maps.append(found if isinstance(found, tuple) else (found,))
    for mine, other in zip(*maps, strict=True):
        assert distance(mine, other) <= ROUNDING


SYMBOLIC_DOES_NOT_DO = {"unet", "decoder", "rearranged"}
"""Nearest-neighbour interpolation depends on the number of dimensions, starred unpacking on that of
the parts."""


@pytest.mark.parametrize("name", NETWORKS)
def test_symbolic_tracing_suffices(name: str) -> None:
    """The quick way in is not lost by accident."""
    network = NETWORKS[name]
    lrp = LRPFx(network.model(), output=network.output)
    note = lrp.plan(*network.inputs()).notes[0]
    assert note == f"capture: {'export' if name in SYMBOLIC_DOES_NOT_DO else 'symbolic'}"


class Tangled(nn.Module):
    """Parameters whose names an LRP graph uses itself."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("target", "start", "relevance", "constants", "output", "input_0", "model"):
            self.register_parameter(name, nn.Parameter(torch.randn(4)))
        self.matrix = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.target + self.start
        x = (x @ (self.matrix * self.relevance) + self.constants) * self.output
        return x + self.input_0 * self.model


class TangledModules(nn.Module):
    """Modules with such names."""

    def __init__(self) -> None:
        super().__init__()
        self.relevance, self.constants = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.start, self.target, self.model = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.target(self.start(self.constants(self.relevance(x)))))


@both_ways
@pytest.mark.parametrize("make", [Tangled, TangledModules])
def test_names_do_not_clash(make: type[nn.Module], way: str) -> None:
    """No name of a parameter or module is reserved."""
    torch.manual_seed(0)
    model, x = make().double().eval(), numbers(2, 4)
    lrp = LRPFx(model, "z_plus", capture=way)
    found = lrp.attribute(x, target=2)
    assert torch.isfinite(found).all()
    assert float(found.abs().max()) > 0


# Verification


class BranchOnShape(nn.Module):
    """Its Python wants to know a size."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.small(x) if x.shape[0] < 3 else self.large(x)


def test_branches_on_shapes_are_verified_for_each_shape() -> None:
    """What the branch baked in for one size is noticed at another, and read again there."""
    torch.manual_seed(0)
    model = BranchOnShape().double()
    lrp = LRPFx(model, "zero", bias="ignore")
    for samples in (2, 4, 1, 3, 2):
        x = numbers(samples, 4)
        layer = model.small if samples < 3 else model.large
        expected = x * layer.weight[1] * (layer(x) / (x @ layer.weight.T))[:, 1:2]
        assert distance(lrp.attribute(x, target=1), expected.detach()) <= ROUNDING


class BranchOnType(nn.Module):
    """``isinstance`` is False of what symbolic tracing runs the code on."""

    def __init__(self) -> None:
        super().__init__()
        self.right, self.wrong = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.right(x) if isinstance(x, Tensor) else self.wrong(x)


def test_verification_catches_baked_flags() -> None:
    """A graph of something else is refused with the first module that differs; export reads it."""
    torch.manual_seed(0)
    model, x = BranchOnType().eval(), torch.ones(2, 4)
    with pytest.raises(CaptureError) as error:
        LRPFx(model, capture="symbolic").attribute(x, target=0)
    assert str(error.value).count("something other than the model") == 1
    assert "export" not in str(error.value)
    lrp = LRPFx(model)
    assert [step.path for step in lrp.plan(x).steps] == ["right"]


class Doubled(nn.Linear):
    """Another layer for tensors than for what stands for them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if isinstance(x, Tensor) else 1)


class LateDifference(nn.Module):
    """Right up to a module that differs, wrong from there on."""

    def __init__(self, second: type[nn.Linear] = Doubled) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), second(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


def test_verification_names_the_first_module_that_differs() -> None:
    """The error says where the graph goes wrong."""
    model, x = LateDifference().eval(), torch.ones(2, 4)
    with pytest.raises(
        CaptureError, match="something other than the model, first in module 'second'"
    ):
        LRPFx(model, capture="symbolic").attribute(x, target=0)


@pytest.mark.parametrize("way", ["symbolic", "export", "record"])
def test_hooks_that_change_the_output_are_part_of_the_model(way: str) -> None:
    """The map is that of a model with the hook's factor written out."""
    torch.manual_seed(0)
    model, x = LateDifference(nn.Linear).double().eval(), numbers(2, 4)
    model.second.register_forward_hook(lambda module, inputs, output: output * 2)
    found = LRPFx(model, "zero", capture=way).attribute(x, target=0)
    plain = nn.Sequential(model.first, nn.Linear(4, 4), model.third).double()
    plain[1].weight.data, plain[1].bias.data = model.second.weight * 2, model.second.bias * 2
    assert distance(found, LRPFx(plain, "zero").attribute(x, target=0)) <= ROUNDING


def test_hooks_that_watch_change_nothing() -> None:
    """A recording hook leaves the quick way in, and its records alone."""
    model = after(lambda y: y.mean((2, 3)))
    seen: list[Tensor] = []
    model.get_submodule("stem").register_forward_hook(lambda m, i, output: seen.append(output))
    lrp = LRPFx(model)
    lrp.attribute(signal(model), target=0)
    assert lrp.plan().notes[0] == "capture: symbolic"
    assert seen == []


class Unreadable(nn.Module):
    """Nobody reads this without its values."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x) if float(x.sum()) > 0 else -self.dense(x)


@both_ways
def test_an_unreadable_model_is_one_clear_error(way: str) -> None:
    """Each way in says why it does not lead in."""
    with pytest.raises(CaptureError, match="could not be read as a graph") as error:
        LRPFx(Unreadable(), capture=way).attribute(torch.ones(2, 4), target=0)
    assert f"\n  {way}: " in str(error.value)
    assert len(str(error.value)) < 1500


class Shouting(nn.Module):
    """Fails on its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("three channels, please")


def test_a_model_that_fails_is_not_called_unreadable() -> None:
    """The model's own error comes through, with the shapes."""
    with pytest.raises(
        InputError, match=r"the model itself fails on inputs of \(2, 4\).*three channels"
    ):
        LRPFx(Shouting()).attribute(torch.ones(2, 4), target=0)


# Errors


class Forgetful(nn.Module):
    """``training=self.training`` forgotten, several times."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dense, self.draw = nn.Linear(64, 3), draw

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.draw(x))


@both_ways
@pytest.mark.parametrize(
    "draw",
    [
        lambda x: F.dropout(x),
        lambda x: F.alpha_dropout(x, 0.5, training=True),
        lambda x: F.dropout1d(x[:, :, None], 0.3)[:, :, 0],
        lambda x: F.rrelu(x, training=True),
        lambda x: x + torch.randn_like(x),
        lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)),
    ],
    ids=["dropout", "alpha dropout", "dropout1d", "rrelu", "noise", "mask"],
)
def test_randomness_in_eval_mode_is_an_error(draw: Callable[[Tensor], Tensor], way: str) -> None:
    """It is said to be random and where, not that its graph is wrong."""
    with pytest.raises(
        CaptureError, match=r"random in eval mode(.|\n)*training=self\.training"
    ) as error:
        LRPFx(Forgetful(draw), capture=way).attribute(-torch.ones(2, 64), target=0)
    assert f"{Path(__file__).name}:" in str(error.value)


@both_ways
@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4, track_running_stats=False),
        lambda y: F.batch_norm(y, None, None, training=True),
        lambda y: F.batch_norm(y, torch.zeros(4).double(), torch.ones(4).double(), training=True),
    ],
    ids=["module", "function", "statistics that are not used"],
)
def test_batch_norm_over_the_batch_is_an_error(norm: Callable[[Tensor], Tensor], way: str) -> None:
    """It mixes samples: one's explanation would depend on the others."""
    model = after(norm)
    with pytest.raises(CaptureError, match="running statistics"):
        LRPFx(model, start=everything, capture=way).attribute(signal(model))


class Strange(nn.Module):
    """Three operations that nobody described, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)
        self.inner = After(lambda y: y.digamma(), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.lgamma(self.dense(x))  # the line of lgamma
        x = self.inner(x)
        x = torch.dstack([x, x])  # the line of dstack
        return torch.lgamma(x)


@both_ways
def test_unknown_operations_are_one_error(way: str) -> None:
    """All of them at once, each with its module and line, and what to do; never a silent zero map."""
    with pytest.raises(UnsupportedOperationError) as error:
        LRPFx(Strange(), start=everything, capture=way).attribute(torch.ones(2, 4))
    text = str(error.value)
    assert text.count("lgamma in the model's own forward") == 2
    assert f"lgamma in the model's own forward ({_line_of(Strange, 'line of lgamma')})" in text
    assert f"dstack in the model's own forward ({_line_of(Strange, 'line of dstack')})" in text
    assert f"digamma in module 'inner' ({__file__}:" in text
    assert 'unknown="vjp"' in text


@both_ways
def test_unknown_operations_on_request(way: str) -> None:
    """``unknown="vjp"`` shares by contributions, for operands in lists too."""
    model = after(lambda y: torch.dstack([y, y.asinh()]).flatten(1))
    model.get_submodule("stem").bias.data.zero_()
    x = signal(model)
    lrp = LRPFx(model, "epsilon", start=everything, capture=way, unknown="vjp")
    y = model.get_submodule("stem")(x).detach()
    share = y + y.asinh()  # what goes in at an operation on single values comes out
    z = model.get_submodule("stem")(x.requires_grad_())
    (expected,) = torch.autograd.grad(z, x, share / z.detach())
    found = lrp.attribute(x.detach())
    assert distance(found, (x * expected).detach()) <= STABILIZED


# Outputs and arguments


class Named(NamedTuple):
    """A model output with names."""

    scores: Tensor
    features: Tensor


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], int | str]] = {
    "dict": (lambda y: {"features": y, "scores": y.mean((2, 3))}, "scores"),
    "ordered dict": (
        lambda y: collections.OrderedDict(scores=y.mean((2, 3)), features=y),
        "scores",
    ),
    "tuple": (lambda y: (y, y.mean((2, 3))), 1),
    "list": (lambda y: [y, 3, y.mean((2, 3))], -1),
    "named tuple": (lambda y: Named(y.mean((2, 3)), y), 0),
    "one of a tuple": (lambda y: (y.mean((2, 3)), "remark", None), 0),
    "nested": (lambda y: {"a": (y, y), "b": y.mean((2, 3))}, "b"),
}


@both_ways
@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_with_structure(name: str, way: str) -> None:
    """``output=`` chooses; the map is that of a model which returns that one alone."""
    function, key = OUTPUTS[name]
    model, alone = after(function), after(lambda y: y.mean((2, 3)))
    x = signal(model)
    found = LRPFx(model, output=key, capture=way).attribute(x, target=1)
    assert distance(found, LRPFx(alone).attribute(x, target=1)) <= ROUNDING


@both_ways
def test_an_output_that_is_not_there_is_an_error(way: str) -> None:
    """The error lists what there is."""
    model = after(OUTPUTS["dict"][0])
    with pytest.raises(OptionError, match="'features', 'scores'"):
        LRPFx(model, capture=way, output="logits").attribute(signal(model), target=0)


class Optional(nn.Module):
    """Arguments of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(
        self,
        x: Tensor,
        scale: float,
        mode: str,
        others: list[Tensor],
        settings: dict[str, Any],
        nothing: None = None,
    ) -> Tensor:
        y = self.dense(x * scale) + others[0]
        if mode == "negative":
            y = -y
        return y * others[1] if settings["second"] else y


@both_ways
def test_additional_arguments(way: str) -> None:
    """Numbers, strings, lists and dicts of tensors go to the model; another value is another reading."""
    torch.manual_seed(0)
    model, x = Optional().double(), numbers(2, 4)
    others = [numbers(2, 3, seed=1), numbers(3, seed=2)]
    lrp = LRPFx(model, "epsilon", capture=way)
    for scale, mode, second in ((1.0, "positive", True), (2.0, "negative", False), (1.0, "", True)):
        additional = (scale, mode, others, {"second": second})
        found, delta = lrp.attribute(x, 1, additional, return_convergence_delta=True)
        sign = -1 if mode == "negative" else 1
        factor = others[1][1] if second else 1.0
        weight = model.dense.weight[1]
        assert distance(found, (x * scale * weight * sign * factor).detach()) <= STABILIZED
        rest = sign * factor * (others[0][:, 1] + model.dense.bias[1])
        assert distance(delta, rest.detach()) <= STABILIZED


def test_arguments_are_told_apart_by_all_their_values() -> None:
    """The text of a large numpy array leaves most of it out."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 3)

        def forward(self, x: Tensor, weights: Any) -> Tensor:
            return self.dense(x) * float(weights.sum())

    lrp, x = LRPFx(Weighted().double(), "zero"), numbers(2, 4)
    weights = numpy.ones(5000)
    once = lrp.attribute(x, 0, (weights,))
    weights[2500] = 5001
    assert distance(lrp.attribute(x, 0, (weights,)), 2 * once) <= ROUNDING


@both_ways
def test_two_inputs(way: str) -> None:
    """Each input has its map; what is passed as an additional argument has none and absorbs."""
    torch.manual_seed(0)
    model = TwoInputs().double()
    image, vector = numbers(2, 3, 7, 7), numbers(2, 5)
    lrp = LRPFx(model, "epsilon", capture=way)
    first, second = lrp.attribute((image, vector), target=1)
    alone = lrp.attribute(image, 1, (vector,))
    assert first.shape == image.shape
    assert second.shape == vector.shape
    assert distance(alone, first) <= ROUNDING


# Harm nobody


def _snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything by which one could tell that somebody was here."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        state = vars(module)
        found[f"{path} attributes"] = sorted(state)
        found[f"{path} values"] = {
            name: (id(value), repr(value)) for name, value in state.items() if name[0] != "_"
        }
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_modules"):
            found[f"{path} {hooks}"] = [(key, id(value)) for key, value in state[hooks].items()]
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found[f"{name} tensor"] = (
            id(tensor),
            tensor.data_ptr(),
            tensor._version,
            tensor.requires_grad,
        )
        found[f"{name} gradient"] = None if tensor.grad is None else id(tensor.grad)
    return found


class Counting(nn.Module):
    """Counts its calls in a buffer, a tensor, a list and an attribute, and keeps its last input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.plain = torch.zeros(2)
        self.dense, self.seen, self.count = nn.Linear(4, 3), [], 0
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.plain.add_(1)
        self.seen.append(1)
        self.count += 1
        self.last = x
        return self.dense(x)


@pytest.mark.parametrize("way", ["symbolic", "export", "record"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["residual", "parametrized", "reused", "counting"])
def test_the_model_is_left_alone(name: str, training: bool, way: str) -> None:
    """No attribute, hook, flag, tensor or version of any module changes, in train mode neither."""
    network = NETWORKS.get(name, Network(Counting, ((4,),)))
    model = network.model().train(training)
    if name == "residual":  # flags that differ from module to module
        model.get_submodule("blocks.0").train(not training)
    inputs = network.inputs()
    before, state = _snapshot(model), {k: v.clone() for k, v in model.state_dict().items()}
    LRPFx(model, "epsilon_alpha2_beta1", capture=way).attribute(inputs[0], target=0)
    assert _snapshot(model) == before
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_train_mode_is_explained_as_eval_mode() -> None:
    """Dropout is off and batch norm uses its running statistics, whatever the flag."""
    network = NETWORKS["residual"]
    model, (x,) = network.model(), network.inputs()
    expected = LRPFx(model).attribute(x, target=0)
    assert torch.equal(LRPFx(model.train()).attribute(x, target=0), expected)


@both_ways
def test_an_optimizer_made_before_still_trains(way: str) -> None:
    """Parameters are the same objects; training between two explanations shows in the second."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    x = numbers(8, 4)
    lrp = LRPFx(model, capture=way)
    first = lrp.attribute(x, target=0)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), torch.arange(8) % 2)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert distance(first, lrp.attribute(x, target=0)) > 1e-3


class Hidden(nn.Module):
    """Modules that are reached by other ways than as submodules, in train mode."""

    def __init__(self, *, registered: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.other = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        body, other = self.body, self.other
        self.lambda_ = lambda x: body(x)
        self.partial = functools.partial(torch.add, alpha=1)
        self.method = self.run_body
        self.containers = collections.OrderedDict(
            a=[body], b=(other, {"c": collections.deque([body])})
        )
        self.head = nn.Linear(4, 3)
        if not registered:
            del self.other

    def run_body(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.method(x) + self.lambda_(x)
        other, more = self.containers["b"]
        x = self.partial(other(x), more["c"][0](x)) + self.containers["a"][0](x)
        return self.head(x)


@both_ways
@pytest.mark.parametrize("registered", [True, False])
def test_hidden_modules_are_copied_too(registered: bool, way: str) -> None:
    """Behind closures, partials, bound methods and containers: run in eval mode, and not touched."""
    torch.manual_seed(0)
    model = Hidden(registered=registered).double().train()
    model.containers["b"][0].double()
    norms = [model.body[1], model.containers["b"][0][1]]
    before = [{k: v.clone() for k, v in norm.state_dict().items()} for norm in norms]
    x = numbers(2, 4)
    way = "auto" if way == "symbolic" else way
    found = LRPFx(model, "epsilon", capture=way).attribute(x, target=0)
    for norm, state in zip(norms, before, strict=True):
        assert norm.training
        assert all(torch.equal(value, state[key]) for key, value in norm.state_dict().items())
    for norm in norms:
        norm.eval()
    model.containers["b"][0].eval()
    expected = LRPFx(model.eval(), "epsilon", capture="export").attribute(x, target=0)
    assert distance(found, expected) <= ROUNDING


@both_ways
def test_one_hidden_module_is_no_lost_parameter(way: str) -> None:
    """A module in a plain list has no path of its own; its tensors are constants of the graph."""

    class InList(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = [nn.Linear(4, 4)], nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layers[0](x))

    torch.manual_seed(0)
    model = InList()
    hidden, x = model.layers[0], torch.randn(2, 4)
    lrp = LRPFx(model, "z_plus", capture=way)
    lrp.attribute(x, target=0)
    with torch.no_grad():
        hidden.weight.mul_(-2.0)
    found = lrp.attribute(x, target=0)
    assert torch.equal(found, LRPFx(model, "z_plus", capture=way).attribute(x, target=0))


# Other threads


class Tied(nn.Module):
    """Modules under two paths: torch.export follows these through ``nn.Module.__getattr__``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
        self.same = self.conv
        self.block = nn.Sequential(self.conv, self.relu, nn.Conv2d(3, 3, 3), self.relu)
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.same(self.conv(x))).mean((2, 3)))


class Elsewhere:
    """Runs a model in another thread for as long as the block lasts."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        with torch.no_grad():
            self.expected = model(x)
        self.runs, self.failures, self.replaced = 0, [], 0
        self.stop = False
        self.call = nn.Module.__call__
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stop:
            try:
                self.replaced += nn.Module.__call__ is not self.call
                with torch.no_grad():
                    y = self.model(self.x)
                self.failures += [] if distance(y, self.expected) <= OTHER_KERNELS else ["value"]
            except Exception as error:
                self.failures.append(repr(error))
            self.runs += 1

    def __enter__(self) -> Elsewhere:
        self.interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)  # as many switches as possible
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.thread.join()
        sys.setswitchinterval(self.interval)


@pytest.mark.parametrize(("way", "captures"), [("symbolic", 40), ("export", 2), ("record", 5)])
@pytest.mark.parametrize("mine", [Tied, lambda: resnet18(weights=None, num_classes=5)])
def test_another_thread_may_run_models(
    mine: Callable[[], nn.Module], way: str, captures: int
) -> None:
    """Its forward neither fails nor gets into the paths of what is captured meanwhile.

    Symbolic tracing does not touch ``nn.Module`` at all; torch.export does, and is kept to its thread.
    """
    torch.manual_seed(0)
    theirs = Tied().eval()
    x = numbers(1, 3, 32, 32, dtype=torch.float32)
    expected = [step.path for step in LRPFx(theirs, capture=way).plan(x).steps]
    with Elsewhere(mine().eval(), x) as elsewhere:
        for _ in range(captures):
            lrp = LRPFx(theirs, capture=way)
            lrp.attribute(x, target=0)
            assert [step.path for step in lrp.plan(x).steps] == expected
    assert elsewhere.failures == []
    assert elsewhere.runs > 0
    if way == "symbolic":
        assert elsewhere.replaced == 0
    assert nn.Module.__call__ is elsewhere.call


class Seen:
    """What a model writes to a class, it writes to no copy."""

    calls: ClassVar[list[Any]] = []


def _look(y: Tensor) -> Tensor:
    Seen.calls.append((nn.Module.__call__, nn.Module.__getattr__))
    return y.relu()


def test_nn_module_is_never_patched_by_symbolic_tracing() -> None:
    """Seen from within the model's own forward, which runs while it is traced."""
    Seen.calls.clear()
    model = after(_look)
    LRPFx(model, start=everything, capture="symbolic").attribute(signal(model))
    assert set(Seen.calls) == {(nn.Module.__call__, nn.Module.__getattr__)}
    assert len(Seen.calls) == 2  # once to run, once to trace


def test_many_threads_capture_at_once() -> None:
    """One LRPFx each or one for all, the maps are those of one thread."""
    network = NETWORKS["residual"]
    model, (x,) = network.model(), network.inputs()
    expected = LRPFx(model).attribute(x, target=0)
    shared = LRPFx(model)
    found: list[Tensor] = []

    def explain(index: int) -> None:
        lrp = shared if index % 2 else LRPFx(model)
        found.extend(lrp.attribute(x, target=0) for _ in range(3))

    threads = [threading.Thread(target=explain, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24
    assert all(torch.equal(each, expected) for each in found)


def test_errors_are_the_librarys_own() -> None:
    """Whatever a capture meets, what reaches the user is an LRPError."""

    class Custom:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    for function in (Custom, lambda y: None, lambda y: "text", lambda y: y.numpy()):
        model = after(function)
        for way in ("symbolic", "export", "auto"):
            with pytest.raises(LRPError):
                LRPFx(model, start=everything, capture=way).attribute(signal(model))


def test_graphs_are_plain_aten() -> None:
    """Calls are ATen overload packets or Python's arithmetic on sizes; nothing of torch's own Python."""
    for name in ("functional", "residual", "layouts", "slopes"):
        network = NETWORKS[name]
        for node in captured(network.model(), *network.inputs()).module.graph.nodes:
            if node.op == "call_function":
                plain = isinstance(node.target, torch._ops.OpOverloadPacket)
                assert plain or node.target.__module__ in ("_operator", "builtins"), node


def test_a_reused_module_counts_its_calls() -> None:
    """Each call of a module is told from the others."""
    nodes = captured(Reused().eval(), torch.ones(1, 3, 8, 8)).module.graph.nodes
    convolutions: list[fx.Node] = [node for node in nodes if name_of(node) == "conv2d"]
    assert [node.meta["module_calls"][-1] for node in convolutions] == [
        ("stem", 0),
        *(("convs.0", i) for i in range(3)),
    ]


def test_modules_and_tensors_are_found_as_torch_finds_them() -> None:
    """By a walk of our own, since it runs before each explanation: shared ones once, under one path."""
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.BatchNorm1d(3), shared, nn.ModuleList([shared, nn.LSTM(3, 4)]))
    model.absent = None
    model.register_module("empty", None)
    model[1].plain, model[1].again = torch.ones(2), shared.weight  # type: ignore[assignment]
    assert walk(model) == list(model.named_modules())
    expected = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found = named_tensors(model)
    assert list(found) == [*expected, "1.plain"]
    assert all(found[path] is tensor for path, tensor in expected.items())


LAYOUT: dict[str, Callable[[Tensor], Any]] = {
    "stride": lambda x: x.stride(0),
    "offset": lambda x: x.storage_offset() + 1,
    "size of an element": lambda x: x.element_size(),
    "contiguous": lambda x: 2 if x.is_contiguous() else 3,
    "contiguous as a number": lambda x: x.is_contiguous() + 1,
    "dimensions": lambda x: x.dim(),
    "floating point": lambda x: torch.is_floating_point(x) + 1,
}


class AsksForLayout(nn.Module):
    """Multiplies by a number that says how its input lies in memory."""

    def __init__(self, question: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.a, self.question = nn.Linear(4, 3), question

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * self.question(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", LAYOUT)
def test_questions_about_layout_are_no_operations_on_values(name: str) -> None:
    model, x = AsksForLayout(LAYOUT[name]).eval(), torch.randn(2, 4)
    with pytest.raises(CaptureError, match="symbolic"):
        LRPFx(model, capture="symbolic").attribute(x, 1)
    lrp = LRPFx(model, "epsilon")
    torch.testing.assert_close(lrp.explained_output(x), model(x).detach())
    assert all("stride" not in step.operation.name for step in lrp.plan(x).steps)
