"""Captum's contract: forms of arguments and results, additional arguments, deltas."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import torch
from captum.attr import (
    Attribution,
    GradientAttribution,
    LayerAttribution,
    NeuronAttribution,
)
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx
from tests.helpers.closeness import ROUNDING, ROUNDING_32, assert_close
from tests.helpers.models import Configured, TwoVectors, normed_cnn
from tests.helpers.numbers import numbers

basic_models = pytest.importorskip("captum.testing.helpers.basic_models")  # not in captum 0.8


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
    lrp, x = LRPFx(normed_cnn()), numbers(2, 2, 8, 8)
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
        result = LRPFx(TwoVectors().double()).attribute(inputs, 0)
    else:
        x = numbers(2, 2, 8, 8)
        inputs = x if form == "tensor" else (x,)
        result = LRPFx(normed_cnn()).attribute(inputs, 0)
    assert type(result) is type(inputs)
    pairs = zip(result, inputs, strict=True) if isinstance(result, tuple) else [(result, inputs)]
    for relevance, value in pairs:
        assert relevance.shape == value.shape


def test_tuple_of_one_holds_the_same_relevance() -> None:
    lrp, x = LRPFx(normed_cnn()), numbers(2, 2, 8, 8)
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
    relevance = LRPFx(normed_cnn().to(dtype)).attribute(x, 0)
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


# Additional arguments


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
    model, inputs = TwoVectors().double(), (numbers(3, 3), numbers(3, 5))
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
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    lrp = LRPFx(model)
    relevance, delta = lrp.attribute(x, 1, return_convergence_delta=True)
    output = model(x)[:, 1].detach()
    assert_close(lrp.compute_convergence_delta(relevance, output), delta)


@pytest.mark.parametrize("start", ["one_hot", "softmax"])
def test_delta_counts_from_what_was_started_with(start: Any) -> None:
    """Not from the output: the start may be 1 or a distribution."""
    lrp = LRPFx(normed_cnn(bias=False), "zero", start=start)
    target = None if start == "softmax" else 2
    relevance, delta = lrp.attribute(numbers(3, 2, 8, 8), target, return_convergence_delta=True)
    assert_close(relevance.sum((1, 2, 3)), torch.ones(3, dtype=torch.float64))
    assert float(delta.abs().max()) < ROUNDING


def test_verbose_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    lrp, x = LRPFx(normed_cnn()), numbers(1, 2, 8, 8)
    lrp.attribute(x, 0)
    assert capsys.readouterr().out == ""
    lrp.attribute(x, 0, verbose=True)
    assert "conv1_conv2d" in capsys.readouterr().out
