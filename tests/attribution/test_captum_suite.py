"""Captum's own tests: its suites of targets, neurons and layers, and its published numbers."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from captum.attr import (
    InputXGradient,
    LayerActivation,
    NoiseTunnel,
)
from torch import Tensor, nn

from lrp_fx import Composite, LayerLRPFx, LRPFx, NeuronLRPFx, rules
from lrp_fx.composites import compat
from lrp_fx.errors import (
    InputError,
)
from tests.helpers.closeness import ROUNDING_32, STABILIZED_SUMS, assert_close
from tests.helpers.models import normed_cnn
from tests.helpers.numbers import numbers

pytest.importorskip("captum.testing")  # not in captum 0.8
utils = importlib.import_module("captum.testing.attr.helpers.gen_test_utils")
captum_config = importlib.import_module("captum.testing.attr.helpers.test_config").config
basic_models = importlib.import_module("captum.testing.helpers.basic_models")
get_target_layer, parse_test_config = utils.get_target_layer, utils.parse_test_config

CAPTUM = 1e-4
"""What Captum's own tests allow between a float32 result and its printed value."""


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
    assert float(delta.abs().max()) <= STABILIZED_SUMS * float(started.abs().max())


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
    lrp = LRPFx(normed_cnn(), Composite([("classifier", rules.Pass())]))
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
