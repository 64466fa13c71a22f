"""The Captum contract: forms, targets, deltas, layers, neurons, and Captum's own tools on top."""

from __future__ import annotations

import inspect
import itertools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    Attribution,
    GradientAttribution,
    InputXGradient,
    LayerActivation,
    LayerAttribution,
    NeuronAttribution,
    NoiseTunnel,
)
from captum.attr import visualization as captum_visualization
from captum.concept import TCAV, Classifier, Concept
from captum.metrics import infidelity, sensitivity_max
from captum.testing.attr.helpers.gen_test_utils import get_target_layer, parse_test_config
from captum.testing.attr.helpers.test_config import config as captum_config
from captum.testing.helpers import basic_models
from matplotlib.figure import Figure
from torch import Tensor, nn

from lrp_fx import Composite, LayerLRPFx, LRPFx, NeuronLRPFx, rules
from lrp_fx.composites import anything, compat
from lrp_fx.errors import (
    CompositeError,
    InputError,
    LRPError,
    TargetError,
    UnsupportedOperationError,
)

ROUNDING = 1e-10
"""Of max |R| in float64: two ways through the same sums, whose order (and so whose rounding) differs."""
ROUNDING_32 = 1e-5
"""The same in float32."""
STABILIZED = 1e-3
"""What ε = 1e-6 takes at every unit, of the output: |z| is 1e-2 and more on the fixed seeds."""
CAPTUM = 1e-4
"""What Captum's own tests allow between a float32 result and its printed value."""


def assert_close(mine: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
    """Equal shapes and dtypes, and equal up to ``tolerance`` of the largest expected value."""
    assert mine.shape == expected.shape
    assert mine.dtype == expected.dtype
    assert float((mine - expected).abs().max()) <= tolerance * float(expected.abs().max())


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def cnn(bias: bool = True) -> nn.Sequential:
    """Images (N, 2, 8, 8) to four classes; batch norm has seen a batch, so that its scale is sane."""
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 4, 3, padding=1, bias=bias),
            norm1=nn.BatchNorm2d(4),
            relu1=nn.ReLU(inplace=True),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 5, 3, bias=bias),
            relu2=nn.ReLU(),
            pool2=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.5),
            classifier=nn.Linear(5, 4, bias=bias),
        )
    ).double()
    model(numbers(16, 2, 8, 8, seed=9))
    if not bias:
        assert model.norm1.running_mean is not None
        model.norm1.running_mean.zero_()
    return model.eval()


class Residual(nn.Module):
    """Two convolutions with a skip connection around the second, no additive constants."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.branch = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = self.act(x + self.branch(x))
        return self.head(x.mean((2, 3)))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 6), nn.Linear(5, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(F.relu(self.left(a) + self.right(b)))


class Dense(nn.Module):
    """Every class of every place: (N, 2, H, W) to (N, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


# What goes in and what comes out


def test_positional_order_of_attribute() -> None:
    """Captum's tools and its users pass these arguments by position."""
    order = [
        *("self", "inputs", "target", "additional_forward_args"),
        *("return_convergence_delta", "verbose"),
    ]
    assert list(inspect.signature(LRPFx.attribute).parameters)[:6] == order
    layer = [*order[:5], "attribute_to_layer_input", "verbose"]
    assert list(inspect.signature(LayerLRPFx.attribute).parameters)[:7] == layer
    neuron = [
        *("self", "inputs", "neuron_selector", "additional_forward_args"),
        "attribute_to_neuron_input",
    ]
    assert list(inspect.signature(NeuronLRPFx.attribute).parameters)[:5] == neuron


def test_positional_call_equals_call_by_name() -> None:
    lrp, x = LRPFx(cnn()), numbers(2, 2, 8, 8)
    by_position, delta = lrp.attribute(x, 1, None, True, False)
    by_name, other = lrp.attribute(
        inputs=x, target=1, additional_forward_args=None, return_convergence_delta=True
    )
    assert torch.equal(by_position, by_name)
    assert torch.equal(delta, other)


@pytest.mark.parametrize(
    ("attribution", "base"),
    [
        (LRPFx(nn.ReLU()), Attribution),
        (LayerLRPFx(nn.ReLU(), ""), LayerAttribution),
        (NeuronLRPFx(nn.ReLU(), ""), NeuronAttribution),
    ],
)
def test_is_an_attribution(attribution: Any, base: type) -> None:
    """Not a ``GradientAttribution``: NoiseTunnel would switch on gradients of the inputs for it."""
    assert isinstance(attribution, base)
    assert not isinstance(attribution, GradientAttribution)
    assert type(attribution).get_name() == type(attribution).__name__
    assert attribution.has_convergence_delta() is True
    assert attribution.multiplies_by_inputs is True
    assert attribution.attribute.__wrapped__ is not None


@pytest.mark.parametrize("form", ["tensor", "tuple of one", "tuple of two"])
def test_form_of_the_result_follows_the_inputs(form: str) -> None:
    """A tensor for a tensor, a tuple for a tuple, even of one: ``sensitivity_max`` passes those."""
    if form == "tuple of two":
        inputs: Any = numbers(2, 3), numbers(2, 5)
        result = LRPFx(TwoInputs().double()).attribute(inputs, 0)
    else:
        x = numbers(2, 2, 8, 8)
        inputs = x if form == "tensor" else (x,)
        result = LRPFx(cnn()).attribute(inputs, 0)
    assert type(result) is type(inputs)
    pairs = zip(result, inputs, strict=True) if isinstance(result, tuple) else [(result, inputs)]
    for relevance, value in pairs:
        assert relevance.shape == value.shape


def test_tuple_of_one_holds_the_same_relevance() -> None:
    lrp, x = LRPFx(cnn()), numbers(2, 2, 8, 8)
    assert torch.equal(lrp.attribute((x,), 0)[0], lrp.attribute(x, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3),
        lambda x: x[:, :, ::2, ::2],
        lambda x: x[:1].expand(3, -1, -1, -1),
        lambda x: x.requires_grad_(),
    ],
    ids=["plain", "channels_last", "transposed", "strided", "expanded", "requires_grad"],
)
def test_result_is_plain(arrange: Any, dtype: torch.dtype) -> None:
    """Detached and contiguous (``sensitivity_max`` calls ``view``), in memory of its own."""
    x = arrange(numbers(2, 2, 16, 16, dtype=dtype))
    relevance = LRPFx(cnn().to(dtype)).attribute(x, 0)
    assert (relevance.shape, relevance.dtype, relevance.device) == (x.shape, dtype, x.device)
    assert relevance.is_contiguous()
    assert not relevance.requires_grad
    assert relevance.grad_fn is None
    relevance.view(-1)[:] = 0
    assert x.abs().min() > 0


@pytest.mark.parametrize("start", ["logit", lambda output: output], ids=["logit", "callable"])
def test_result_never_is_the_input_itself(start: Any) -> None:
    """Writing into the relevance of a model without operations does not write into its input."""
    x = numbers(2, 1)
    relevance = LRPFx(nn.Identity(), start=start).attribute(x)
    assert torch.equal(relevance, x)
    assert relevance.data_ptr() != x.data_ptr()


def test_inputs_of_several_dtypes_keep_theirs() -> None:
    class Mixed(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b.double()

    a, b = numbers(2, 1), numbers(2, 1, dtype=torch.float32)
    relevance = LRPFx(Mixed()).attribute((a, b))
    assert [r.dtype for r in relevance] == [torch.float64, torch.float32]


# Targets

CLASSES = [1, 3, 0]


@pytest.mark.parametrize(
    "target",
    [
        CLASSES,
        torch.tensor(CLASSES),
        torch.tensor(CLASSES, dtype=torch.int32),
        [(index,) for index in CLASSES],
        [index - 4 for index in CLASSES],
        [torch.tensor(index) for index in CLASSES],
    ],
    ids=["list", "1-d", "int32", "tuples", "negative", "0-d list"],
)
def test_targets_of_each_sample(target: Any) -> None:
    """One target per sample: each sample gets the explanation it gets alone."""
    lrp, x = LRPFx(cnn()), numbers(3, 2, 8, 8)
    together = lrp.attribute(x, target)
    for sample, index, mine in zip(x, CLASSES, together, strict=True):
        assert_close(mine, lrp.attribute(sample[None], index)[0])


@pytest.mark.parametrize(
    "target",
    [2, -2, (2,), torch.tensor(2), torch.tensor([2]), torch.tensor(-2)],
    ids=["int", "negative", "tuple", "0-d", "1-d of one", "negative 0-d"],
)
def test_one_target_for_all_samples(target: Any) -> None:
    lrp, x = LRPFx(cnn()), numbers(3, 2, 8, 8)
    assert torch.equal(lrp.attribute(x, target), lrp.attribute(x, [2, 2, 2]))


@pytest.mark.parametrize(
    ("target", "places"),
    [
        ((2, 1, 3), [(2, 1, 3)] * 2),
        ((-1, -3, -1), [(2, 1, 3)] * 2),
        ([(2, 1, 3), (0, 0, 1)], [(2, 1, 3), (0, 0, 1)]),
    ],
    ids=["one tuple", "negative", "list of tuples"],
)
def test_targets_in_outputs_of_more_dimensions(target: Any, places: list[Any]) -> None:
    """A pixel of a segmentation: Σ relevance is its logit, bias apart."""
    model = Dense().double()
    assert model.conv.bias is not None
    nn.init.zeros_(model.conv.bias)
    nn.init.uniform_(model.conv.weight)
    x = numbers(2, 2, 4, 4).abs()
    relevance, delta = LRPFx(model, "zero").attribute(x, target, None, True)
    output = model(x).detach()
    expected = torch.stack([output[(n, *place)] for n, place in enumerate(places)])
    assert_close(relevance.sum((1, 2, 3)), expected)
    assert float(delta.abs().max()) <= ROUNDING * float(expected.abs().max())


@pytest.mark.parametrize("trailing", [(), (1,), (1, 1)], ids=str)
def test_target_may_be_left_out_where_one_value_is_left(trailing: tuple[int, ...]) -> None:
    """None, where a sample has one value; and a class, where only dimensions of one follow it."""

    class Head(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.linear = nn.Linear(3, classes).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).reshape(2, -1, *trailing)

    x = numbers(2, 3)
    one = LRPFx(Head(1))
    assert torch.equal(one.attribute(x), one.attribute(x, 0))
    two = LRPFx(Head(2))
    assert torch.equal(two.attribute(x, 1), two.attribute(x, (1, *(0 for _ in trailing))))


def test_no_dimension_behind_the_batch_needs_no_target() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double()
    x = numbers(4, 3)
    assert model(x).shape == (4,)
    assert_close(LRPFx(model).attribute(x), LRPFx(model[0]).attribute(x))
    with pytest.raises(TargetError, match="first one is the batch"):
        LRPFx(model).attribute(x, 0)


WRONG: dict[str, tuple[Any, str]] = {
    "none": (None, "target is needed"),
    "too large": (4, "index 4 is out of range for 4 outputs"),
    "too small": (-5, "index -5 is out of range for 4 outputs"),
    "too many indices": ((1, 1), "2 indices"),
    "no index": ((), "0 indices"),
    "list too short": ([1], "1 targets for a batch of 2"),
    "list too long": ([1, 1, 1], "3 targets for a batch of 2"),
    "empty list": ([], "0 targets for a batch of 2"),
    "one of a list": ([1, 4], "index 4 is out of range"),
    "one of a tensor": (torch.tensor([1, 4]), "index 4 is out of range"),
    "two dimensions": (torch.tensor([[1], [1]]), "one dimension"),
    "float": (1.0, "must be an int"),
    "bool": (True, "must be an int"),
    "string": ("cat", "must be an int"),
    "bools": ([True, False], "must be an int"),
    "nested lists": ([[1], [1]], "must be an int"),
    "set": ({1}, "must be an int"),
    "float tensor": (torch.tensor([1.0, 1.0]), "must hold integers"),
    "bool tensor": (torch.tensor([True, False]), "must hold integers"),
}


@pytest.mark.parametrize(("target", "words"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("error", [AssertionError, IndexError, LRPError])
def test_wrong_targets(target: Any, words: str, error: type[Exception]) -> None:
    """Captum raises now one, now the other; code that was written against either catches ours."""
    with pytest.raises(error, match=words) as caught:
        LRPFx(cnn()).attribute(numbers(2, 2, 8, 8), target)
    assert caught.type is TargetError


def test_target_for_a_segmentation_needs_all_indices() -> None:
    with pytest.raises(TargetError, match=r"2 indices, but .* 3 dimensions, of sizes \(3, 4, 4\)"):
        LRPFx(Dense()).attribute(torch.ones(1, 2, 4, 4), (1, 1))


# Additional arguments


class Configured(nn.Module):
    """Takes what Captum may pass: tensors, numbers, strings, None, nested tuples, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3, bias=False)

    def forward(
        self,
        x: Tensor,
        shift: Tensor | None = None,
        factor: float = 1.0,
        act: str = "relu",
        more: Any = None,
    ) -> Tensor:
        x = self.linear(x) * factor
        if shift is not None:
            x = x + shift
        if more is not None:
            (scale, (power,)) = more
            x = x * scale * power
        return x.relu() if act == "relu" else x.tanh()


@pytest.mark.parametrize(
    "additional",
    [
        numbers(2, 3, seed=1),
        (numbers(2, 3, seed=1),),
        (None, 2.0),
        (None, 2, "tanh"),
        (numbers(3, seed=1), 0.5, "tanh"),
        (None, 1.0, "relu", (numbers(3, seed=2).abs(), (3,))),
        (numbers(2, 3, seed=1), 1.0, "relu", [2.0, (numbers(3, seed=2).abs(),)]),
    ],
    ids=["tensor", "1-tuple", "number", "string", "mixed", "tensor inside", "list inside"],
)
def test_additional_arguments(additional: Any) -> None:
    """They reach the model as they are; the relevance of the input alone is returned."""
    model, x = Configured().double(), numbers(2, 3)
    relevance, delta = LRPFx(model, "zero").attribute(x, 1, additional, True)
    assert relevance.shape == x.shape
    output = model(x, *(additional if isinstance(additional, tuple) else (additional,)))[:, 1]
    assert_close(relevance.sum(1) + delta, output.detach())


PAIR = (
    torch.tensor([[1.5, 2.0, 34.3], [3.4, 1.2, 2.0]]),
    torch.tensor([[3.0, 3.5, 23.2], [2.3, 1.2, 0.3]]),
)


@pytest.mark.parametrize(
    ("model", "additional"),
    [
        (basic_models.BasicModel4_MultiArgs(), (2.0, 0)),
        (basic_models.BasicModel4_MultiArgs(), (3, -3)),
        (basic_models.BasicModel4_MultiArgs(), True),
        (basic_models.BasicModel4_MultiArgs(), torch.full((2, 3), 3.0)),
        (basic_models.BasicModel5_MultiArgs(), ([3, 2], 0)),
        (basic_models.ReLUDeepLiftModel(), 3),
    ],
    ids=["float", "int", "bool", "tensor", "list", "factor"],
)
def test_additional_arguments_of_captums_models(model: nn.Module, additional: Any) -> None:
    """What they explain sums up to what they return: their only constants are on the inputs."""
    target = 2 if isinstance(model, basic_models.ReLUDeepLiftModel) else None
    relevance, delta = LRPFx(model).attribute(PAIR, target, additional, True)
    output = model(*PAIR, *(additional if isinstance(additional, tuple) else (additional,)))
    output = output if target is None else output[:, target]
    assert float(output.abs().max()) > 0
    assert_close(relevance[0].sum(1) + relevance[1].sum(1), output, ROUNDING_32)
    assert float(delta.abs().max()) <= ROUNDING_32 * float(output.abs().max())


def test_additional_argument_none_is_no_argument() -> None:
    """Captum's rule: None stands for no additional arguments, and changes nothing."""
    lrp, x = LRPFx(Configured().double()), numbers(2, 3)
    assert torch.equal(lrp.attribute(x, 1, None), lrp.attribute(x, 1))
    assert torch.equal(lrp.attribute(x, 1, (None,)), lrp.attribute(x, 1))


def test_additional_arguments_are_not_mixed_up_between_calls() -> None:
    """Each value of a non-tensor argument is a graph of its own; new tensors are just new values."""
    model, x = Configured().double(), numbers(2, 3)
    lrp = LRPFx(model, "zero")
    for shift, factor, act in itertools.product(
        (numbers(2, 3, seed=1), numbers(2, 3, seed=2)), (1.0, 2.0), ("relu", "tanh")
    ):
        fresh = LRPFx(model, "zero").attribute(x, 1, (shift, factor, act))
        assert torch.equal(lrp.attribute(x, 1, (shift, factor, act)), fresh)


# Convergence delta


@pytest.mark.parametrize("composite", ["zero", "epsilon_plus", "epsilon_alpha2_beta1"])
def test_delta_is_the_output_less_the_relevance(composite: str) -> None:
    """N values, over all inputs; zero where every rule conserves and nothing absorbs."""
    model, inputs = TwoInputs().double(), (numbers(3, 3), numbers(3, 5))
    target = [0, 1, 2]
    lrp = LRPFx(model, composite)
    relevance, delta = lrp.attribute(inputs, target, return_convergence_delta=True)
    output = model(*inputs).detach()[torch.arange(3), target]
    sums = sum(r.sum(1) for r in relevance)
    assert delta.shape == (3,)
    assert_close(delta, output - sums)
    assert torch.equal(lrp.compute_convergence_delta(relevance, output), delta)
    assert torch.equal(lrp.compute_convergence_delta(relevance, output[:, None]), delta)


def test_delta_of_a_single_tensor() -> None:
    model, x = cnn(), numbers(2, 2, 8, 8)
    lrp = LRPFx(model)
    relevance, delta = lrp.attribute(x, 1, return_convergence_delta=True)
    output = model(x)[:, 1].detach()
    assert_close(lrp.compute_convergence_delta(relevance, output), delta)


@pytest.mark.parametrize("start", ["one_hot", "softmax"])
def test_delta_counts_from_what_was_started_with(start: Any) -> None:
    """Not from the output: the start may be 1 or a distribution."""
    lrp = LRPFx(cnn(bias=False), "zero", start=start)
    target = None if start == "softmax" else 2
    relevance, delta = lrp.attribute(numbers(3, 2, 8, 8), target, return_convergence_delta=True)
    assert_close(relevance.sum((1, 2, 3)), torch.ones(3, dtype=torch.float64))
    assert float(delta.abs().max()) < ROUNDING


def test_verbose_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    lrp, x = LRPFx(cnn()), numbers(1, 2, 8, 8)
    lrp.attribute(x, 0)
    assert capsys.readouterr().out == ""
    lrp.attribute(x, 0, verbose=True)
    assert "conv1_conv2d" in capsys.readouterr().out


# Captum's tools on top


@pytest.mark.parametrize("chunk", [None, 1, 2, 5])
def test_smoothgrad_is_the_mean_over_noisy_inputs(chunk: int | None) -> None:
    """``NoiseTunnel`` calls once per chunk of samples, with targets repeated for each."""
    lrp, x, spread = LRPFx(cnn()), numbers(2, 2, 8, 8), 0.1
    torch.manual_seed(1)
    mine = NoiseTunnel(lrp).attribute(
        x, nt_samples=5, stdevs=spread, nt_samples_batch_size=chunk, target=torch.tensor([1, 3])
    )
    torch.manual_seed(1)
    total, left = torch.zeros_like(x), 5
    while left:
        size = min(left, chunk or 5)
        noise = torch.normal(0, torch.full((2 * size, 2, 8, 8), spread))
        noisy = x.repeat_interleave(size, 0) + noise
        total += lrp.attribute(noisy, [1] * size + [3] * size).unflatten(0, (2, size)).sum(1)
        left -= size
    assert_close(mine, total / 5)


@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_noise_tunnel_without_noise(nt_type: str, chunk: int | None) -> None:
    """The types of NoiseTunnel are the mean, the mean square and the variance of our relevance."""
    lrp, x = LRPFx(cnn()), numbers(2, 2, 8, 8)
    plain, plain_delta = lrp.attribute(x, 1, return_convergence_delta=True)
    mine, delta = NoiseTunnel(lrp).attribute(
        x,
        nt_type=nt_type,
        nt_samples=4,
        stdevs=0.0,
        nt_samples_batch_size=chunk,
        target=1,
        return_convergence_delta=True,
    )
    if nt_type == "vargrad":
        assert float(mine.abs().max()) <= ROUNDING * float(plain.square().max())
    else:
        assert_close(mine, plain if nt_type == "smoothgrad" else plain.square())
    # with chunks Captum returns the deltas in the order of the chunks, not of the samples
    assert_close(delta.sort().values, plain_delta.repeat_interleave(4).sort().values)


def test_noise_tunnel_on_several_inputs_and_arguments() -> None:
    model, inputs = TwoInputs().double(), (numbers(2, 3), numbers(2, 5))
    lrp = LRPFx(model)
    smooth = NoiseTunnel(lrp).attribute(inputs, nt_samples=3, stdevs=(0.0, 0.0), target=[0, 1])
    for mine, plain in zip(smooth, lrp.attribute(inputs, [0, 1]), strict=True):
        assert_close(mine, plain)
    configured, x = LRPFx(Configured().double()), numbers(2, 3)
    arguments = (numbers(2, 3, seed=1), 2.0, "tanh")
    smooth = NoiseTunnel(configured).attribute(
        x, nt_samples=3, stdevs=0.0, target=1, additional_forward_args=arguments
    )
    assert_close(smooth, configured.attribute(x, 1, arguments))


def test_noise_tunnel_on_a_layer() -> None:
    model, x = cnn(), numbers(2, 2, 8, 8)
    layer = LayerLRPFx(model, "relu2")
    smooth = NoiseTunnel(layer).attribute(x, nt_samples=3, stdevs=0.0, target=1)
    assert_close(smooth, layer.attribute(x, 1))


def test_infidelity() -> None:
    """Of relevance of a linear model, which explains every perturbation, it is zero."""
    model = nn.Linear(5, 3, bias=False).double()
    x = numbers(2, 5)
    relevance = LRPFx(model, "zero").attribute(x, 1)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(inputs)
        return noise / inputs, inputs - noise  # relevance is weight · input

    score = infidelity(model, perturb, x, relevance, target=1, n_perturb_samples=10)
    assert score.shape == (2,)
    assert float(score.max()) < ROUNDING


@pytest.mark.parametrize("form", ["tensor", "tuple"])
def test_sensitivity_max(form: str) -> None:
    lrp, x = LRPFx(cnn()), numbers(2, 2, 8, 8)
    score = sensitivity_max(lrp.attribute, x if form == "tensor" else (x,), target=1)
    assert score.shape == (2,)
    assert torch.isfinite(score).all()
    assert float(score.min()) > 0


def test_visualize_image_attr() -> None:
    """The way of Captum's tutorials: attribute, to numpy, draw."""
    relevance = LRPFx(cnn()).attribute(numbers(1, 2, 8, 8), 1)
    image = relevance[0].permute(1, 2, 0).numpy()
    figure = Figure()
    captum_visualization.visualize_image_attr(
        image,
        method="heat_map",
        sign="all",
        plt_fig_axis=(figure, figure.add_subplot()),
        use_pyplot=False,
    )
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert shown.shape == (8, 8)


class MeanDifference(Classifier):
    """The simplest concept classifier: the difference of the two concepts' mean activations."""

    def __init__(self) -> None:
        self.direction = torch.zeros(0)

    def train_and_eval(self, dataloader: Any, **kwargs: Any) -> None:
        batches = list(dataloader)
        values = torch.cat([inputs.flatten(1) for inputs, _ in batches])
        labels = torch.cat([label for _, label in batches])
        self.direction = values[labels == 1].mean(0) - values[labels == 0].mean(0)

    def weights(self) -> Tensor:
        return torch.stack([-self.direction, self.direction])

    def classes(self) -> list[int]:
        return [0, 1]


def test_tcav(tmp_path: Path) -> None:
    """TCAV sets ``layer`` and calls ``attribute.__wrapped__``, which Captum's own LayerLRP lacks."""
    model, x = cnn().float(), numbers(4, 2, 8, 8, dtype=torch.float32)
    concepts = [
        Concept(0, "dark", [numbers(3, 2, 8, 8, dtype=torch.float32) - 2]),  # type: ignore[arg-type]
        Concept(1, "light", [numbers(3, 2, 8, 8, dtype=torch.float32) + 2]),  # type: ignore[arg-type]
    ]
    layer = LayerLRPFx(model, "conv1")
    tcav = TCAV(
        model,
        ["conv2", "relu1"],
        classifier=MeanDifference(),
        layer_attr_method=layer,
        save_path=str(tmp_path),
    )
    scores = tcav.interpret(x, [concepts], target=1)
    relevance = LayerLRPFx(model, "conv2").attribute(x, 1).flatten(1)
    assert tcav.classifier is not None
    weights = tcav.cavs["0-1"]["conv2"].stats["weights"]
    towards = (relevance @ weights.T.float() > 0).float().mean(0)
    assert_close(scores["0-1"]["conv2"]["sign_count"], towards)


# Captum's contract suite and its basic models

LRP_CASES = [case for case in captum_config if any(a.__name__ == "LRP" for a in case["algorithms"])]
LAYER_CASES = [
    case
    for case in captum_config
    if "layer" in case and "target" in case["attribute_args"] and "neuron" not in case["name"]
]


def _samples(value: Any, index: int, batch: int) -> Any:
    """What belongs to one sample of the batch: of tensors and lists with an entry for each."""
    if isinstance(value, tuple):
        return tuple(_samples(each, index, batch) for each in value)
    if isinstance(value, (Tensor, list)) and len(value) == batch:
        return value[index : index + 1]
    return value


@pytest.mark.parametrize("case", LRP_CASES, ids=lambda case: case["name"])
def test_captum_target_suite(case: dict[str, Any]) -> None:
    """As Captum tests its own LRP: a batch with its targets equals each sample alone."""
    _, model, arguments, _, noise_tunnel, _ = parse_test_config(case)
    lrp = LRPFx(model)
    method = NoiseTunnel(lrp) if noise_tunnel else lrp
    result = method.attribute(**arguments)
    inputs = arguments["inputs"]
    tensors, results = (v if isinstance(v, tuple) else (v,) for v in (inputs, result))
    for tensor, relevance in zip(tensors, results, strict=True):
        assert relevance.shape == tensor.shape
    if noise_tunnel:
        return
    batch = tensors[0].shape[0]
    target = arguments["target"]
    if isinstance(target, Tensor) and target.numel() == 1:
        target = target.item()
    for index in range(batch):
        alone = lrp.attribute(
            _samples(inputs, index, batch),
            target if isinstance(target, (int, tuple)) else _samples(target, index, batch),
            _samples(arguments.get("additional_forward_args"), index, batch),
        )
        for mine, single in zip(
            results, alone if isinstance(alone, tuple) else (alone,), strict=True
        ):
            assert_close(mine[index : index + 1], single, ROUNDING_32)


NEURON_CASES = [case for case in captum_config if "neuron_selector" in case["attribute_args"]]


@pytest.mark.parametrize("case", NEURON_CASES, ids=lambda case: case["name"])
def test_captum_neuron_suite(case: dict[str, Any]) -> None:
    """All forms of a selector: an int, a tuple, slices, a function; the relevance is the inputs'."""
    _, model, arguments, layer, _, _ = parse_test_config(case)
    inputs, selector = arguments["inputs"], arguments["neuron_selector"]
    mine = NeuronLRPFx(model, get_target_layer(model, layer)).attribute(
        inputs,
        selector,
        arguments.get("additional_forward_args"),
        arguments.get("attribute_to_neuron_input", False),
    )
    assert type(mine) is type(inputs)
    assert _shapes(mine) == _shapes(inputs)


def _shapes(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else [_shapes(each) for each in value]


@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case["name"])
def test_captum_layer_suite(case: dict[str, Any]) -> None:
    """The relevance of a layer has the form of its activation, as Captum shows it."""
    _, model, arguments, layer, _, _ = parse_test_config(case)
    module = get_target_layer(model, layer)
    inputs, additional = arguments["inputs"], arguments.get("additional_forward_args")
    to_input = arguments.get("attribute_to_layer_input", False)
    mine = LayerLRPFx(model, module).attribute(
        inputs, arguments["target"], additional, attribute_to_layer_input=to_input
    )
    theirs = LayerActivation(model, module).attribute(inputs, additional, to_input)
    assert type(mine) is type(theirs)
    assert _shapes(mine) == _shapes(theirs)


@pytest.mark.parametrize(
    ("model", "inputs", "target"),
    [
        (basic_models.ReLULinearModel(), (numbers(4, 3), numbers(4, 3, seed=1)), None),
        (basic_models.ReLULinearModel(inplace=True), (numbers(4, 3), numbers(4, 3, seed=1)), 0),
        (basic_models.SimpleLRPModel(inplace=True), numbers(4, 3), None),
        (basic_models.LinearMaxPoolLinearModel(), numbers(4, 4), None),
        (basic_models.BasicLinearModel2(4, 3), numbers(2, 4), 2),
        (basic_models.BasicLinearModel_Multilayer(4, 5, 3), numbers(2, 4), 2),
        (basic_models.BasicLinearReLULinear(4), numbers(2, 4), None),
        (basic_models.BasicModel_MaxPool_ReLU(), numbers(2, 3, 9), [0, 2]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_zero_rule_is_input_times_gradient(model: nn.Module, inputs: Any, target: Any) -> None:
    """On Captum's basic models that are homogeneous; DESIGN 7's identity."""
    model = model.double().eval()
    mine = LRPFx(model, "zero").attribute(inputs, target)
    theirs = InputXGradient(model).attribute(inputs, target)
    pairs = [(mine, theirs)] if isinstance(mine, Tensor) else zip(mine, theirs, strict=True)
    for relevance, expected in pairs:
        assert_close(relevance, expected.detach())


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (basic_models.BasicModel_ConvNet(), (1, 10, 10)),
        (basic_models.BasicModel_ConvNet_MaxPool1d(), (1, 10)),
        (basic_models.BasicModel_ConvNet_MaxPool3d(), (1, 10, 10, 10)),
        (basic_models.BasicModel_ConvNetWithPaddingDilation(), (1, 5, 5)),
        (basic_models.BasicModelWithReusedModules(), (3,)),
        (basic_models.BasicModelWithReusedLinear(), (3,)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_basic_models_with_bias(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Captum's LRP refuses the reused ones and the softmax; with the biases' shares distributed
    nothing is lost under the ε rule.
    """
    model, x = model.double().eval(), numbers(3, *shape).abs() * 10
    lrp = LRPFx(model, "epsilon", bias="distribute")
    relevance, delta = lrp.attribute(x, 0, return_convergence_delta=True)
    assert relevance.shape == x.shape
    started = relevance.flatten(1).sum(1) + delta
    assert float(started.abs().max()) > 0
    assert float(delta.abs().max()) <= STABILIZED * float(started.abs().max())


# Captum's published numbers (its tests of LRP and LayerLRP), where the definitions agree


def _simple(first_weight: float = 2.0) -> nn.Module:
    model = basic_models.SimpleLRPModel(inplace=False).eval()
    with torch.no_grad():
        model.linear.weight[0, 0] = first_weight
    return model


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        nn.init.constant_(self.linear.weight, 5.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + x


def _filled(value: float, *modules: nn.Module) -> nn.Module:
    model = nn.Sequential(*modules)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


THREE = torch.tensor([[1.0, 2.0, 3.0]])
IMAGE = torch.arange(16.0).view(1, 1, 4, 4)
GAMMAS = Composite(
    [
        ("linear", compat.PlainBiasGamma(1.0)),
        ("linear2", compat.PlainBiasGamma()),
    ]
)
CAPTUMS: dict[str, tuple[nn.Module, Tensor, Any, Any, Any]] = {
    "one convolution": (
        basic_models.BasicModel_ConvNet_One_Conv(),
        IMAGE,
        0,
        compat.captum(),
        [[[[0.0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]]],
    ),
    "epsilon": (_simple(), THREE, None, compat.captum(), [[18.0, 36.0, 54.0]]),
    "batch": (
        _simple(),
        torch.cat([THREE, 3 * THREE]),
        0,
        compat.captum(),
        [[18.0, 36.0, 54.0], [54.0, 108.0, 162.0]],
    ),
    "in-place relu": (
        basic_models.SimpleLRPModel(inplace=True).eval(),
        THREE,
        None,
        compat.captum(),
        [[18.0, 36.0, 54.0]],
    ),
    "tanh": (
        _filled(0.1, nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 1, bias=False)),
        THREE,
        None,
        compat.captum(),
        [[0.0269, 0.0537, 0.0806]],
    ),
    "gamma": (_simple(-2.0), THREE, None, GAMMAS, [[28 / 3, 104 / 3, 52.0]]),
    "alpha1 beta0": (
        _simple(-2.0),
        THREE,
        None,
        compat.captum("alpha1_beta0"),
        [[12.0, 33.6, 50.4]],
    ),
    "identity": (
        _simple(-2.0),
        THREE,
        None,
        Composite([("linear", rules.Pass()), ("linear2", rules.Epsilon(1e-9))]),
        [[24.0, 36.0, 36.0]],
    ),
    "skip connection": (Skip(), torch.tensor([[2.0, 3.0]]), 1, compat.captum(), [[10.0, 18.0]]),
    "max_pool1d": (
        _filled(2.0, nn.Linear(2, 2, bias=False), nn.MaxPool1d(2)),
        torch.tensor([[[1.0, 2.0], [5.0, 6.0]]]),
        1,
        compat.captum(),
        [[[0.0, 0.0], [10.0, 12.0]]],
    ),
    "max_pool2d": (
        nn.MaxPool2d(2),
        torch.tensor([[[[1.0, 2.0], [5.0, 6.0]]]]),
        None,
        compat.captum(),
        [[[[0.0, 0.0], [0.0, 6.0]]]],
    ),
    "max_pool3d": (
        nn.MaxPool3d(2),
        torch.arange(1.0, 9.0).view(1, 1, 2, 2, 2),
        None,
        compat.captum(),
        [[[[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 8.0]]]]],
    ),
}


@pytest.mark.parametrize(
    ("model", "x", "target", "composite", "expected"), CAPTUMS.values(), ids=CAPTUMS.keys()
)
def test_numbers_of_captums_lrp_tests(
    model: nn.Module, x: Tensor, target: Any, composite: Any, expected: Any
) -> None:
    relevance = LRPFx(model, composite).attribute(x, target)
    torch.testing.assert_close(relevance, torch.tensor(expected), rtol=CAPTUM, atol=CAPTUM)


def test_the_identity_is_for_layers_that_keep_the_shape() -> None:
    lrp = LRPFx(cnn(), Composite([("classifier", rules.Pass())]))
    with pytest.raises(InputError, match=r"shape \(2, 4\) to an input of shape \(2, 5\)"):
        lrp.attribute(numbers(2, 2, 8, 8), 1)


def test_captums_number_for_two_summed_inputs_is_split_here() -> None:
    """Captum gives *both* inputs of ``x1 + x2`` the whole relevance [16, 32, 48] and reports a delta
    of −104; a sum shares it in proportion, which leaves what the biases absorb.
    """
    x = THREE
    (a, b), delta = LRPFx(basic_models.BasicModel_MultiLayer(), compat.captum()).attribute(
        (x, 3 * x), 0, return_convergence_delta=True
    )
    torch.testing.assert_close(a + b, torch.tensor([[16.0, 32.0, 48.0]]), rtol=CAPTUM, atol=CAPTUM)
    torch.testing.assert_close(b, 3 * a, rtol=CAPTUM, atol=CAPTUM)
    torch.testing.assert_close(delta, torch.tensor([-8.0]), rtol=CAPTUM, atol=CAPTUM)


def test_numbers_of_captums_layer_lrp_tests() -> None:
    model, simple = basic_models.BasicModel_ConvNet_One_Conv(), _simple()
    relevance, delta = LayerLRPFx(model, model.conv1, compat.captum()).attribute(
        IMAGE, 0, return_convergence_delta=True
    )
    expected = torch.tensor([[[[0.0, 4.0], [31.0, 40.0]], [[0.0, 0.0], [-6.0, -15.0]]]])
    torch.testing.assert_close(relevance, expected, rtol=CAPTUM, atol=CAPTUM)
    torch.testing.assert_close(delta, torch.zeros(1), rtol=0, atol=CAPTUM)
    gamma = LayerLRPFx(_simple(-2.0), "linear", GAMMAS).attribute(THREE)
    torch.testing.assert_close(gamma, torch.tensor([[24.0, 36.0, 36.0]]), rtol=CAPTUM, atol=CAPTUM)
    for rule in ("gamma", "alpha1_beta0"):
        found = LayerLRPFx(_simple(-2.0), "linear", compat.captum(rule)).attribute(THREE)
        torch.testing.assert_close(
            found, torch.tensor([[24.0, 36.0, 36.0]]), rtol=CAPTUM, atol=CAPTUM
        )
    tanh = _filled(0.1, nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 1, bias=False))
    found = LayerLRPFx(tanh, "0", compat.captum()).attribute(THREE)
    torch.testing.assert_close(found, torch.full((1, 3), 0.0537), rtol=CAPTUM, atol=CAPTUM)
    layers = [simple.linear, simple.linear2]
    both, deltas = LayerLRPFx(simple, layers, compat.captum()).attribute(  # type: ignore[arg-type]
        torch.cat([THREE, 2 * THREE]), None, None, True, True
    )
    first = torch.tensor([[18.0, 36.0, 54.0], [36.0, 72.0, 108.0]])
    torch.testing.assert_close(both[0], first, rtol=CAPTUM, atol=CAPTUM)
    assert len(both) == len(deltas) == 2
    assert all(float(delta.abs().max()) < CAPTUM for delta in deltas)


# Layers


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("conv1", (4, 8, 8)),
        ("relu1", (4, 8, 8)),
        ("pool1", (4, 4, 4)),
        ("conv2", (5, 2, 2)),
        ("conv2_conv2d", (5, 2, 2)),
        ("conv2#0", (5, 2, 2)),
        ("pool2", (5, 1, 1)),
        ("flatten", (5,)),
        ("classifier", (4,)),
        ("", (4,)),
    ],
)
def test_relevance_of_every_full_cut_is_the_logit(layer: str, shape: tuple[int, ...]) -> None:
    """With biases zero nothing is lost between any layer and the output; by path or by module."""
    model, x = cnn(bias=False), numbers(3, 2, 8, 8)
    logit = model(x)[:, 1].detach()
    for chosen in {layer, dict(model.named_modules()).get(layer, layer)}:
        relevance, delta = LayerLRPFx(model, chosen, "zero").attribute(
            x, 1, return_convergence_delta=True
        )
        assert relevance.shape == (3, *shape)
        assert not relevance.requires_grad
        assert relevance.is_contiguous()
        assert_close(relevance.flatten(1).sum(1), logit)
        assert float(delta.abs().max()) <= ROUNDING * float(logit.abs().max())


def test_both_sides_of_an_addition_are_a_full_cut() -> None:
    """An addition reads two tensors, whose relevance comes as a tuple."""
    model, inputs = TwoInputs().double(), (numbers(2, 3), numbers(2, 5))
    for parameter in (model.left.bias, model.right.bias, model.head.bias):
        nn.init.zeros_(parameter)
    logit = model(*inputs)[:, 1].detach()
    cut = LayerLRPFx(model, "add", "zero")
    both = cut.attribute(inputs, 1, attribute_to_layer_input=True)
    assert isinstance(both, tuple)
    assert_close(both[0].sum(1) + both[1].sum(1), logit)
    assert_close(cut.attribute(inputs, 1).sum(1), logit)
    for layer, relevance in zip((model.left, model.right), both, strict=True):
        assert torch.equal(LayerLRPFx(model, layer, "zero").attribute(inputs, 1), relevance)


def test_relevance_of_a_layer_is_all_of_its_tensors() -> None:
    """What a skip connection and its branch both read has all the relevance, not the share of one."""
    model, x = Residual().double(), numbers(2, 2, 6, 6)
    logit = model(x)[:, 1].detach()
    for layer, to_input in (("act#0", False), ("branch", True), ("add", False), ("stem", False)):
        relevance = LayerLRPFx(model, layer, "zero").attribute(x, 1, None, False, to_input)
        assert_close(relevance.sum((1, 2, 3)), logit)
    skip, branch = LayerLRPFx(model, "add", "zero").attribute(x, 1, None, False, True)
    assert_close(skip.sum((1, 2, 3)), logit)
    assert_close(branch, LayerLRPFx(model, model.branch, "zero").attribute(x, 1))


def test_layer_input_is_the_output_of_the_layer_before() -> None:
    model, x = cnn(), numbers(2, 2, 8, 8)
    for before, layer in (("relu1", "pool1"), ("pool1", "conv2"), ("flatten", "classifier")):
        mine = LayerLRPFx(model, layer).attribute(x, 1, attribute_to_layer_input=True)
        assert torch.equal(mine, LayerLRPFx(model, before).attribute(x, 1))
    first = LayerLRPFx(model, "conv1").attribute(x, 1, attribute_to_layer_input=True)
    assert torch.equal(first, LRPFx(model).attribute(x, 1))


def test_list_of_layers() -> None:
    """A list of relevances, and of deltas, in the order asked for."""
    model, x = cnn(), numbers(2, 2, 8, 8)
    layers: list[Any] = [model.conv2, "relu1", "classifier"]
    found, deltas = LayerLRPFx(model, layers).attribute(x, 1, return_convergence_delta=True)
    assert isinstance(found, list)
    for layer, relevance, delta in zip(layers, found, deltas, strict=True):
        alone, its_delta = LayerLRPFx(model, layer).attribute(x, 1, return_convergence_delta=True)
        assert torch.equal(relevance, alone)
        assert torch.equal(delta, its_delta)


class Reused(nn.Module):
    """One ReLU and one linear layer, called several times."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.relu = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.relu(self.linear(x))
        return x


@pytest.mark.parametrize("layer", ["linear", "relu"])
@pytest.mark.parametrize("by_module", [False, True])
def test_reused_layer_needs_the_number_of_the_call(layer: str, by_module: bool) -> None:
    model = Reused()
    chosen = model.get_submodule(layer) if by_module else layer
    words = f"'{layer}' is called 3 times: name one of {layer}#0, {layer}#1, {layer}#2"
    with pytest.raises(InputError, match=words):
        LayerLRPFx(model, chosen).attribute(torch.ones(1, 4), 0)


def test_calls_of_a_reused_layer() -> None:
    """Each is the layer of the unrolled model."""
    model = Reused().double()
    unrolled = nn.Sequential(*(each for _ in range(3) for each in (model.linear, nn.ReLU())))
    x = numbers(2, 4)
    for call in range(3):
        mine = LayerLRPFx(model, f"linear#{call}").attribute(x, 0)
        expected = LayerLRPFx(unrolled, f"0#{call}").attribute(x, 0)
        assert_close(mine, expected)
    with pytest.raises(InputError, match=r"no call #3: name one of linear#0"):
        LayerLRPFx(model, "linear#3").attribute(x, 0)
    with pytest.raises(InputError, match="# must be followed by the number"):
        LayerLRPFx(model, "linear#last").attribute(x, 0)


@pytest.mark.parametrize("layer", ["dropout", "identity"])
def test_layer_that_does_nothing(layer: str) -> None:
    model = nn.Sequential(
        OrderedDict(
            first=nn.Linear(3, 3),
            dropout=nn.Dropout(),
            identity=nn.Identity(),
            last=nn.Linear(3, 2),
        )
    )
    with pytest.raises(InputError, match=f"no operation of the layer '{layer}' is left"):
        LayerLRPFx(model, layer, capture="symbolic").attribute(torch.ones(1, 3), 0)


def test_unknown_layers() -> None:
    model, x = cnn(), numbers(1, 2, 8, 8)
    with pytest.raises(InputError, match=r"no module or node 'conv3'; near misses: .*conv2"):
        LayerLRPFx(model, "conv3").attribute(x, 0)
    with pytest.raises(InputError, match="ReLU is not a module of the model"):
        LayerLRPFx(model, nn.ReLU()).attribute(x, 0)


class PreActivation(nn.Module):
    """Batch norm *before* its convolution, and one without any convolution beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.conv = nn.Conv2d(2, 3, 3)
        self.alone = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.alone(self.conv(self.norm(x.relu())).relu()).mean((2, 3))


def test_folded_batch_norm_keeps_its_name() -> None:
    """Folded into the convolution before it, norm and convolution have one relevance; folded into
    the one after it, the norm has that of what it reads. Shapes are those of the layers.
    """
    model, x = cnn(), numbers(2, 2, 8, 8)
    folded = LayerLRPFx(model, "norm1").attribute(x, 1)
    assert torch.equal(folded, LayerLRPFx(model, "conv1").attribute(x, 1))
    into_norm = LayerLRPFx(model, "norm1").attribute(x, 1, attribute_to_layer_input=True)
    assert torch.equal(into_norm, folded)
    before = PreActivation().double()
    before(numbers(16, 2, 5, 5))
    before.eval()
    x = numbers(2, 2, 5, 5)
    norm = LayerLRPFx(before, "norm").attribute(x, 1)
    assert norm.shape == x.shape
    into_conv = LayerLRPFx(before, "conv").attribute(x, 1, attribute_to_layer_input=True)
    assert torch.equal(norm, into_conv)
    assert LayerLRPFx(before, "alone").attribute(x, 1).shape == (2, 3, 3, 3)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.relu(), (-x).relu()


class UsesPair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.pair = nn.Linear(3, 4, bias=False), Pair()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.pair(self.linear(x))
        return a * 2 - b


def test_layer_with_several_outputs() -> None:
    """All of them, as Captum does; a neuron must be looked for in one."""
    model, x = UsesPair().double(), numbers(2, 3)
    both = LayerLRPFx(model, model.pair, "zero").attribute(x, 1)
    assert isinstance(both, tuple)
    assert_close(both[0].sum(1) + both[1].sum(1), model(x)[:, 1].detach())
    with pytest.raises(InputError, match="returns 2 tensors: name one of pair_relu, pair_relu_1"):
        NeuronLRPFx(model, model.pair).attribute(x, 1)


class Exotic(nn.Module):
    """An operation that nobody described, below a layer of which the relevance is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.special.i0(self.first(x)).relu())


@pytest.mark.parametrize("to_input", [False, True])
def test_no_rules_are_asked_for_below_the_layer(to_input: bool) -> None:
    model, x = Exotic().double(), numbers(2, 4)
    with pytest.raises(UnsupportedOperationError, match=r"i0.*test_attribution\.py:\d+"):
        LRPFx(model).attribute(x, 0)
    layer = LayerLRPFx(model, "last", "zero")
    relevance = layer.attribute(x, 0, attribute_to_layer_input=to_input)
    assert relevance.shape == ((2, 4) if to_input else (2, 2))
    output = model(x)[:, 0].detach()
    bias = 0 if not to_input else model.last.bias[0].detach()
    assert_close(relevance.sum(1), output - bias)


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.softmax = nn.Linear(3, 2), nn.Linear(3, 2), nn.Softmax(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.softmax(self.a(x)), self.b(x)


@pytest.mark.parametrize("layer", ["b", "softmax"])
def test_layers_off_the_way_have_no_relevance(layer: str) -> None:
    """A head that the explained output does not read, or what lies behind it: not a map of zeros."""
    with pytest.raises(InputError, match=f"'a_linear' does not depend on '{layer}_.*softmax|b_lin"):
        LayerLRPFx(Heads(), layer, output=0).attribute(torch.ones(2, 3), 1)


# Neurons


@pytest.mark.parametrize(
    ("layer", "cut", "selector"),
    [
        ("conv1", 1, (3, 4, 4)),
        ("norm1", 2, (3, 4, 4)),
        ("relu1", 3, (1, -1, 0)),
        ("pool1", 4, [(1, 2, 3), (0, 0, 0)]),
        ("flatten", 8, 3),
        ("classifier", 10, torch.tensor([1, 2])),
    ],
)
def test_neuron_is_the_output_of_the_model_up_to_its_layer(
    layer: str, cut: int, selector: Any
) -> None:
    """Captum has no neuron LRP to compare with; the truncated model is the reference.

    One rule everywhere: by place the neuron is the output, and it is in the truncated model too.
    """
    model, x = cnn(), numbers(2, 2, 8, 8)
    rule = Composite([(anything(), rules.ZPlus())])
    mine = NeuronLRPFx(model, layer, rule).attribute(x, selector)
    assert_close(mine, LRPFx(model[:cut], rule).attribute(x, selector))
    below = NeuronLRPFx(model, "pool1", rule).attribute(x, (1, 1, 1), None, True)
    assert_close(below, LRPFx(model[:3], rule).attribute(x, (1, 1, 1)))


def test_several_neurons_as_one() -> None:
    """By slices, or by a function that sums them up: the sum of their explanations."""
    model, x = cnn(), numbers(2, 2, 8, 8)
    lrp = NeuronLRPFx(model, "pool1")
    slices = lrp.attribute(x, (slice(0, 2), 1, slice(None, None, 2)))
    by_function = lrp.attribute(x, lambda y: y[:, :2, 1, ::2].sum((1, 2)))
    parts = [lrp.attribute(x, (channel, 1, place)) for channel in (0, 1) for place in (0, 2)]
    assert_close(slices, sum(parts[1:], parts[0]))
    assert_close(by_function, slices)
    one_hot = NeuronLRPFx(model, "pool1", start="one_hot")
    by_function = one_hot.attribute(x, lambda y: y[:, :2, 1, ::2].sum((1, 2)))
    assert_close(by_function, one_hot.attribute(x, (slice(0, 2), 1, slice(None, None, 2))))
    with torch.inference_mode():
        assert torch.equal(lrp.attribute(x, (slice(0, 2), 1, slice(None, None, 2))), slices)
        assert torch.isfinite(lrp.attribute(x, lambda y: y.flatten(1).sum(1))).all()
    different = [(slice(0, 2), 1, 1), (slice(0, 3), 1, 1)]
    with pytest.raises(TargetError, match="different numbers"):
        lrp.attribute(x, different)
    with pytest.raises(TargetError, match="selects none"):
        lrp.attribute(x, (slice(4, 9), 1, 1))
    with pytest.raises(TargetError, match=r"one number for each of the 2 samples, got \(2, 4, 4\)"):
        lrp.attribute(x, lambda y: y[:, 0])


def test_a_region_of_a_segmentation_is_a_target() -> None:
    """A slice among the indices: Σ relevance is the logits of the region."""
    model, x = Dense().double(), numbers(2, 2, 4, 4).abs()
    assert model.conv.bias is not None
    nn.init.zeros_(model.conv.bias)
    nn.init.uniform_(model.conv.weight)
    relevance = LRPFx(model, "zero").attribute(x, (2, slice(1, 3), slice(None)))
    assert_close(relevance.sum((1, 2, 3)), model(x).detach()[:, 2, 1:3].sum((1, 2)))


def test_smoothgrad_of_a_neuron() -> None:
    neuron, x = NeuronLRPFx(cnn(), "pool1"), numbers(2, 2, 8, 8)
    smooth = NoiseTunnel(neuron).attribute(x, nt_samples=3, stdevs=0.0, neuron_selector=(1, 2, 3))
    assert_close(smooth, neuron.attribute(x, (1, 2, 3)))


def test_no_rules_are_asked_for_above_a_neuron() -> None:
    """Of what lies behind it nothing is needed, neither forward nor backward."""
    model, x = Exotic().double(), numbers(2, 4)
    neuron = NeuronLRPFx(model, "first", "zero").attribute(x, 2)
    assert_close(neuron, LRPFx(model.first, "zero").attribute(x, 2))


def test_neuron_selectors_are_checked_like_targets() -> None:
    neuron = NeuronLRPFx(cnn(), "flatten")
    with pytest.raises(TargetError, match="index 5 is out of range for 5 outputs"):
        neuron.attribute(numbers(2, 2, 8, 8), 5)
    relevance = neuron.attribute((numbers(2, 2, 8, 8),), 1)
    assert isinstance(relevance, tuple)


# --- another composite ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "zero", "epsilon_plus_flat", "attn_lrp"])
def test_another_composite_gives_the_map_of_a_new_attribution(name: str | None) -> None:
    model, x = cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model, "z_plus", top_k=0.5)
    before = first.attribute(x, 1)
    other = first.with_composite(name)
    assert torch.equal(other.attribute(x, 1), LRPFx(model, name, top_k=0.5).attribute(x, 1))
    assert torch.equal(first.attribute(x, 1), before)
    layer = LayerLRPFx(model, model.conv1, "z_plus")
    layer.attribute(x, 1)
    expected = LayerLRPFx(model, model.conv1, name).attribute(x, 1)
    assert torch.equal(layer.with_composite(name).attribute(x, 1), expected)


def test_another_composite_does_not_read_again_unless_the_model_changed() -> None:
    model, x = cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model, "z_plus")
    first.attribute(x, 1)
    ((reading,),) = first._explainer._readings.values()
    other = first.with_composite("epsilon")
    other.attribute(x, 1)
    ((same,),) = other._explainer._readings.values()
    assert same.canonical is reading.canonical
    assert same.programs is not reading.programs
    model.conv1 = nn.Conv2d(2, 4, 3, padding=1).double()
    assert torch.equal(other.attribute(x, 1), LRPFx(model, "epsilon").attribute(x, 1))


def test_another_composite_keeps_the_hooks_of_its_time() -> None:
    model, x = cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model, "zero")
    handle = first.register_relevance_hook("conv1", lambda relevance, where: 2 * relevance)
    other = first.with_composite("epsilon")
    handle.remove()
    assert torch.equal(other.attribute(x, 1), 2 * LRPFx(model, "epsilon").attribute(x, 1))
    assert torch.equal(first.attribute(x, 1), LRPFx(model, "zero").attribute(x, 1))


def test_an_unknown_other_composite_is_an_error() -> None:
    with pytest.raises(CompositeError, match="epsilon"):
        LRPFx(cnn()).with_composite("epsilom")
