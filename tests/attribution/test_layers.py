"""The relevance of layers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx
from lrp_fx.errors import (
    InputError,
    UnsupportedOperationError,
)
from tests.helpers.closeness import ROUNDING, assert_close
from tests.helpers.models import Exotic, Skipping, TwoVectors, normed_cnn
from tests.helpers.numbers import numbers


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
    model, x = normed_cnn(bias=False), numbers(3, 2, 8, 8)
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
    model, inputs = TwoVectors().double(), (numbers(2, 3), numbers(2, 5))
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
    model, x = Skipping().double(), numbers(2, 2, 6, 6)
    logit = model(x)[:, 1].detach()
    for layer, to_input in (("act#0", False), ("branch", True), ("add", False), ("stem", False)):
        relevance = LayerLRPFx(model, layer, "zero").attribute(x, 1, None, False, to_input)
        assert_close(relevance.sum((1, 2, 3)), logit)
    skip, branch = LayerLRPFx(model, "add", "zero").attribute(x, 1, None, False, True)
    assert_close(skip.sum((1, 2, 3)), logit)
    assert_close(branch, LayerLRPFx(model, model.branch, "zero").attribute(x, 1))


def test_layer_input_is_the_output_of_the_layer_before() -> None:
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    for before, layer in (("relu1", "pool1"), ("pool1", "conv2"), ("flatten", "classifier")):
        mine = LayerLRPFx(model, layer).attribute(x, 1, attribute_to_layer_input=True)
        assert torch.equal(mine, LayerLRPFx(model, before).attribute(x, 1))
    first = LayerLRPFx(model, "conv1").attribute(x, 1, attribute_to_layer_input=True)
    assert torch.equal(first, LRPFx(model).attribute(x, 1))


def test_list_of_layers() -> None:
    """A list of relevances, and of deltas, in the order asked for."""
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
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
    with pytest.raises(InputError, match=r"no call #3 among its \d: name one of linear#0"):
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
    model, x = normed_cnn(), numbers(1, 2, 8, 8)
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
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
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


@pytest.mark.parametrize("to_input", [False, True])
def test_no_rules_are_asked_for_below_the_layer(to_input: bool) -> None:
    model, x = Exotic().double(), numbers(2, 4)
    with pytest.raises(UnsupportedOperationError, match=r"lgamma.*models\.py:\d+"):
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
