"""What a layer or neuron attribution explains is what the module returns, whatever became of its norm."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import ConceptLRPFx, LayerLRPFx, LRPFx, NeuronLRPFx
from lrp_fx.errors import InputError
from tests.helpers.closeness import QUOTIENTS, assert_close
from tests.helpers.numbers import numbers

EPS = 1e-4
"""Of max |R|: stabilizers of 1e-6 in one denominator more or less."""


def awake(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random parameters and running statistics, also scales below zero; in eval mode and float64."""
    torch.manual_seed(seed)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, std=0.3)
    return model


class Residual(nn.Module):
    """Norms before and behind convolutions, one module called twice, containers that end at norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
        self.before = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.norm = nn.BatchNorm2d(4)
        self.drop, self.pool = nn.Dropout(), nn.MaxPool2d(2)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Identity(), nn.Linear(4, 3), nn.Softmax(1)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(self.first(x))
        h = self.act(self.conv(h)) + h
        h = self.act(self.norm(self.depthwise(h)))
        return self.head(self.pool(self.drop(h)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.rnn, self.norm, self.head = (
            nn.GRU(4, 4, batch_first=True),
            nn.LayerNorm(4),
            nn.Linear(4, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        h = self.norm(h + self.attention(h, h, h)[0])
        return self.head(self.rnn(h)[0].mean(1))


class SameUneven(nn.Module):
    """A convolution that is padded too much and cut, with its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 4, 4, padding="same"), nn.BatchNorm1d(4)
        self.up, self.last = nn.ConvTranspose1d(4, 4, 2), nn.BatchNorm1d(4)
        self.act, self.head = nn.Hardswish(inplace=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.up(self.act(self.norm(self.conv(x))))).amax(2))


class Scaled(nn.Module):
    """A scale and shift of each unit, written out behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(4, 5), nn.Linear(5, 2)
        self.scale, self.shift = nn.Parameter(numbers(5)), nn.Parameter(numbers(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.linear(x) * self.scale - self.shift)) * 3 + 1


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "norms before and behind": (Residual, (2, 3, 8, 8)),
    "dense": (
        lambda: nn.Sequential(
            *(nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4)),
            *(nn.Tanh(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3), nn.Softmax(1)),
        ),
        (3, 4),
    ),
    "norm first": (
        lambda: nn.Sequential(
            nn.BatchNorm1d(3), nn.Conv1d(3, 4, 2), nn.ELU(), nn.Flatten(), nn.Linear(8, 2)
        ),
        (2, 3, 3),
    ),
    "scaled by hand": (Scaled, (2, 4)),
    "padded and cut": (SameUneven, (2, 3, 6)),
    "attention and recurrence": (Attention, (2, 3, 4)),
}


GONE = {"drop", "head.2", "7", "inner.dropout", "inner.dropout1", "inner.dropout2"}
"""Dropout and identities, of which nothing need be left."""


def own_outputs(model: nn.Module, x: Tensor) -> dict[str, list[object]]:
    """What each module returns, in the order of its calls, by plain forward hooks on a copy."""
    model, found = copy.deepcopy(model), {}
    for path, module in model.named_modules():

        def note(module: nn.Module, inputs: object, output: object, path: str = path) -> None:
            value = output[0] if isinstance(output, tuple) else output
            found.setdefault(path, []).append(value.detach().clone())

        module.register_forward_hook(note)
    model(x)  # with gradients: no fast path goes round the hooks
    return found


def neuron_value(neuron: NeuronLRPFx, layer: str, x: Tensor) -> Tensor:
    """The value that a neuron attribution explains, all layers by one reading of the model."""
    seen: list[Tensor] = []

    def select(y: Tensor) -> Tensor:
        seen.append(y.detach().clone())
        return y.reshape(len(y), -1).sum(1)

    neuron.layer = layer
    neuron.attribute(x, select)
    return seen[-1]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("capture", ["auto", "export"])
@pytest.mark.parametrize("name", MODELS)
def test_a_neuron_has_the_value_that_its_module_returns(name: str, capture: str) -> None:
    make, shape = MODELS[name]
    model, x = awake(make()), numbers(*shape)
    neuron, explained = NeuronLRPFx(model, model, "epsilon", capture=capture), 0
    for path, outputs in own_outputs(model, x).items():
        for call, output in enumerate(outputs):
            layer = f"{path}#{call}" if path else path
            try:
                value = neuron_value(neuron, layer, x)
            except InputError as error:
                if path not in GONE or "is left in the graph" not in str(error):
                    raise
                continue
            explained += 1
            assert value.shape == output.shape, layer
            assert (value - output).abs().max() <= QUOTIENTS * output.abs().max(), layer
    assert explained >= 3


def dense(*, bias: bool = True) -> nn.Sequential:
    """A norm that is folded forward (2) and one that is folded backward (4)."""
    layers = (nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4))
    model = awake(nn.Sequential(*layers, nn.Tanh(), nn.Linear(4, 3, bias=bias)))
    assert isinstance(model, nn.Sequential)
    return model


@pytest.mark.parametrize("composite", ["epsilon", "z_plus", "zero"])
@pytest.mark.parametrize("layer", range(6))
def test_a_neuron_is_that_of_the_network_cut_there(layer: int, composite: str) -> None:
    """Protects what is explained and how: not the ReLU before a norm, not the norm behind a layer."""
    model, x = dense(), numbers(3, 4)
    for neuron in (0, 3):
        cut = LRPFx(model[: layer + 1], composite).attribute(x, neuron)
        mine = NeuronLRPFx(model, str(layer), composite).attribute(x, neuron)
        assert_close(mine, cut, QUOTIENTS)
        if layer:
            above = NeuronLRPFx(model, str(layer), composite)
            below = NeuronLRPFx(model, str(layer - 1), composite).attribute(x, neuron)
            read = above.attribute(x, neuron, attribute_to_neuron_input=True)
            assert_close(read, below, QUOTIENTS)


def test_the_relevance_of_a_norm_that_is_folded_forward() -> None:
    """``n ⊙ Wᵀ[R / S(Wn + b)]`` of what the norm returns, by hand; likewise as the input behind it."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 3))
    model, x = awake(model), numbers(3, 4)
    n = model[:3](x).detach()
    expected = n * model[3].weight[1].detach()
    model[3].bias.data.zero_()
    for layer, of_input in (("2", False), ("3", True)):
        attribution = LayerLRPFx(model, layer, "epsilon")
        mine = attribution.attribute(x, 1, attribute_to_layer_input=of_input)
        assert_close(mine, expected, EPS)


def test_a_layer_before_its_norm_has_the_relevance_of_both() -> None:
    """Documented: folded backward, the two are one linear operation, for relevance."""
    model, x = dense(), numbers(3, 4)
    before, norm = LayerLRPFx(model, ["3", "4"], "epsilon").attribute(x, 1)
    assert torch.equal(before, norm)


@pytest.mark.parametrize("composite", ["epsilon", "z_plus"])
def test_several_layers_get_what_each_gets_alone(composite: str) -> None:
    """Protects a layer from another's norm that is kept for that one's sake."""
    model, x = dense(), numbers(3, 4)
    layers = ["5", "2", "0", "3", "1", "2"]
    attribution = LayerLRPFx(model, layers, composite)
    together, deltas = attribution.attribute(x, 1, return_convergence_delta=True)
    for layer, mine, delta in zip(layers, together, deltas, strict=True):
        alone, own = LayerLRPFx(model, layer, composite).attribute(
            x, 1, return_convergence_delta=True
        )
        assert torch.equal(mine, alone)
        # the norms that stay differ, and with them the rounding of the output
        assert (delta - own).abs().max() <= QUOTIENTS * (1 + own.abs().max())
    channels = ConceptLRPFx(model, composite).channel_relevance(x, layers, 1)
    for mine, relevance in zip(channels, together, strict=True):
        assert torch.equal(mine, relevance)


def test_conditions_at_a_folded_norm_add_up() -> None:
    """One condition for each channel of the norm: their sum is what goes through it, all of it."""
    model, x = dense(), numbers(3, 4)
    crp = ConceptLRPFx(model, "epsilon")
    parts = crp.attribute_conditions(x, [{"2": [c]} for c in range(5)], 1)
    whole = crp.attribute(x, 1)
    assert (parts.sum(0) - whole).abs().max() <= EPS * whole.abs().max()
    relevance = LayerLRPFx(model, "2", "epsilon").attribute(x, 1)
    assert (parts[2] != 0).any() == (relevance[:, 2] != 0).any()


def test_a_norm_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.one, self.two = nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.norm(torch.relu(self.one(self.norm(x)))))

    model, x = awake(Twice()), numbers(3, 4)
    neuron = NeuronLRPFx(model, "norm#1", "epsilon")
    for call, output in enumerate(own_outputs(model, x)["norm"]):
        value = neuron_value(neuron, f"norm#{call}", x)
        assert_close(value, output, QUOTIENTS)
