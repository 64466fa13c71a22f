"""Odd small networks: conservation, input × gradient, both engines, and what changes no map."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import CONSERVED, ROUNDING, SAME_SUMS, distance
from tests.helpers.models import NETWORKS, Network, Reused, input_x_gradient, without_shifts
from tests.helpers.networks import COMPOSITES, PAIRS, TARGET, each_composite, in_one, reading
from tests.helpers.numbers import numbers

each_network = pytest.mark.parametrize("name", NETWORKS)
each_homogeneous_network = pytest.mark.parametrize(
    "name", [name for name, network in NETWORKS.items() if network.homogeneous]
)


def map_of(
    network: Network, model: nn.Module, inputs: tuple[Tensor, ...], composite: Any, **options: Any
) -> Tensor:
    """The relevance of all inputs, (N, features)."""
    lrp = LRPFx(model, composite, output=network.output, **options)
    return in_one(lrp.attribute(inputs, target=TARGET))


# What is known of the relevance


@each_network
def test_relevance_sums_to_the_logit(name: str) -> None:
    """With ε = 0 and nothing additive, all of the logit arrives, and nothing twice."""
    network = NETWORKS[name]
    inputs = network.inputs(4)
    model = without_shifts(network.model(), *inputs)
    lrp = LRPFx(model, "zero", output=network.output)
    _, delta = lrp.attribute(inputs, target=TARGET, return_convergence_delta=True)
    logits = network.logit(model, TARGET)(*inputs).detach()
    assert float((delta / logits).abs().max()) <= CONSERVED


@each_homogeneous_network
def test_relevance_is_input_times_gradient_on_homogeneous_networks(name: str) -> None:
    """There LRP-0 has an answer that autograd knows."""
    network = NETWORKS[name]
    inputs = network.inputs(4)
    model = without_shifts(network.model(), *inputs)
    found = LRPFx(model, "zero", output=network.output).attribute(inputs, target=TARGET)
    expected = input_x_gradient(network.logit(model, TARGET), *inputs)
    for mine, theirs in zip(found, expected, strict=True):
        assert distance(mine, theirs) <= ROUNDING


@each_network
def test_networks_are_what_they_say(name: str) -> None:
    """``homogeneous`` is true of those that say so, and false of the others: no test is empty."""
    network = NETWORKS[name]
    inputs = network.inputs(4)
    model = without_shifts(network.model(), *inputs)
    logit = network.logit(model, TARGET)
    with torch.no_grad():
        twice = logit(*(2 * x for x in inputs))
        assert (distance(twice, 2 * logit(*inputs)) <= ROUNDING) == network.homogeneous


@pytest.mark.parametrize(("name", "composite"), PAIRS)
def test_both_engines_agree(name: str, composite: str) -> None:
    """Analytic adjoints and autograd give the same relevance, under every preset, biases and all."""
    inputs = NETWORKS[name].inputs()
    direct, gradient = (
        in_one(
            reading(name, engine)
            .with_composite(COMPOSITES[composite])
            .attribute(inputs, target=TARGET)
        )
        for engine in ("direct", "gradient")
    )
    assert distance(direct, gradient) <= ROUNDING


@pytest.mark.parametrize("bias", ["ignore", "distribute"])
@each_network
def test_both_engines_agree_on_biases(name: str, bias: str) -> None:
    """The other two policies for the bias, likewise."""
    network = NETWORKS[name]
    model, inputs = network.model(), network.inputs()
    direct = map_of(network, model, inputs, "epsilon_plus", bias=bias)
    gradient = map_of(network, model, inputs, "epsilon_plus", bias=bias, propagation="gradient")
    assert distance(direct, gradient) <= ROUNDING


# What may change no map


@each_network
def test_a_batch_is_many_single_runs(name: str) -> None:
    """No sample's map depends on its neighbours, nor on how many there are."""
    network = NETWORKS[name]
    model, inputs = network.model(), network.inputs(4)
    together = map_of(network, model, inputs, "epsilon_plus")
    lrp = LRPFx(model, "epsilon_plus", output=network.output)
    for sample in range(4):
        alone = lrp.attribute(tuple(x[sample : sample + 1] for x in inputs), target=TARGET)
        assert distance(together[sample : sample + 1], in_one(alone)) <= SAME_SUMS


@each_composite
def test_a_reused_module_is_its_unrolled_copy(composite: str) -> None:
    """Each call of a module gets its own relevance; conservation alone would not tell."""
    torch.manual_seed(0)
    reused = Reused().double().eval()
    unrolled = Reused(unrolled=True).double().eval()
    unrolled.load_state_dict(reused.state_dict())
    assert len({id(conv) for conv in reused.convs}) == 1
    assert len({id(conv) for conv in unrolled.convs}) == 3
    x = numbers(2, 3, 12, 12)
    torch.testing.assert_close(reused(x), unrolled(x), rtol=0, atol=0)
    found = LRPFx(reused, COMPOSITES[composite]).attribute(x, target=TARGET)
    expected = LRPFx(unrolled, COMPOSITES[composite]).attribute(x, target=TARGET)
    assert distance(found, expected) <= SAME_SUMS


class Periodic(nn.Module):
    """Convolutions on a torus: no border, no stride, a global mean."""

    def __init__(self) -> None:
        super().__init__()
        circular: dict[str, Any] = {"padding": 1, "padding_mode": "circular"}
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, **circular), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 6, 3, **circular, groups=3), nn.PReLU(), nn.BatchNorm2d(6)),
            nn.Conv2d(6, 6, 3, **circular),
            nn.ReLU(),
        )
        self.shortcut = nn.Conv2d(3, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.features(x) + self.shortcut(x)).mean((2, 3)))


@each_composite
@pytest.mark.parametrize("shift", [(1, 0), (0, -3), (4, 5)])
def test_a_shift_of_the_input_is_a_shift_of_the_relevance(
    shift: tuple[int, int], composite: str
) -> None:
    """No place is treated in another way than its neighbours."""
    model = Network(Periodic).model()
    x = numbers(2, 3, 8, 9)
    lrp = LRPFx(model, COMPOSITES[composite])
    moved = lrp.attribute(x.roll(shift, (2, 3)), target=TARGET)
    assert distance(moved, lrp.attribute(x, target=TARGET).roll(shift, (2, 3))) <= SAME_SUMS


@each_composite
def test_a_mirrored_network_mirrors_the_relevance(composite: str) -> None:
    """Kernels and input flipped together: rules know nothing of left and right."""
    model = Network(Periodic).model()
    mirrored = copy.deepcopy(model)
    for module in mirrored.modules():
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(module.weight.detach().flip(-1))
    x = numbers(2, 3, 8, 9)
    found = LRPFx(mirrored, COMPOSITES[composite]).attribute(x.flip(-1), target=TARGET)
    expected = LRPFx(model, COMPOSITES[composite]).attribute(x, target=TARGET)
    assert distance(found.flip(-1), expected) <= SAME_SUMS


@each_composite
def test_permuted_channels_change_nothing(composite: str) -> None:
    """Hidden units have no order."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 4)),
    ).double()
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    permuted = copy.deepcopy(model)
    permuted[0].weight = nn.Parameter(model[0].weight[order].detach())
    permuted[0].bias = nn.Parameter(model[0].bias[order].detach())
    columns = model[4].weight.reshape(4, 6, 9)[:, order].reshape(4, 54)
    permuted[4].weight = nn.Parameter(columns.detach())
    x = numbers(2, 3, 8, 8)
    found = LRPFx(permuted, COMPOSITES[composite]).attribute(x, target=TARGET)
    expected = LRPFx(model, COMPOSITES[composite]).attribute(x, target=TARGET)
    assert distance(found, expected) <= ROUNDING


# Forms of the same network


class ByModules(nn.Module):
    """A residual network of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        self.mean, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn(self.conv(x))))
        x = self.relu(self.again(x) + x)
        return self.head(self.drop(self.flatten(self.mean(x))))


class ByFunctions(ByModules):
    """The same by functions on its parameters."""

    def forward(self, x: Tensor) -> Tensor:
        bn = self.bn
        x = F.conv2d(x, self.conv.weight, self.conv.bias, stride=2, padding=1)
        x = F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.1, bn.eps)
        x = F.max_pool2d(F.relu(x), 3, stride=2, padding=1)
        x = F.relu(torch.add(F.conv2d(x, self.again.weight, padding=(1, 1)), x))
        x = torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)
        return F.linear(F.dropout(x, 0.3, self.training), self.head.weight, self.head.bias)


class ByMethods(ByModules):
    """The same by methods of tensors."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(self.bn(self.conv(x)).relu(), 3, 2, 1)
        x = self.again(x).add(x).relu()
        return self.head(self.drop(self.mean(x).flatten(1)))


class InPlace(ByModules):
    """The same, overwriting all that can be overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        F.relu(x, inplace=True)
        x = self.pool(x)
        y = self.again(x)
        y += x
        y.relu_()
        x = self.mean(y).flatten(1)
        return self.head(F.dropout(x, training=self.training, inplace=True))


@each_composite
@pytest.mark.parametrize("form", [ByFunctions, ByMethods, InPlace])
def test_the_form_of_the_code_changes_nothing(form: type[ByModules], composite: str) -> None:
    """Module, functional, method and in-place form: bit for bit the same map."""
    module_form = Network(ByModules).model()
    model = form().double().eval()
    model.load_state_dict(module_form.state_dict())
    x = numbers(2, 3, 12, 12)
    found = LRPFx(model, COMPOSITES[composite]).attribute(x, target=TARGET)
    expected = LRPFx(module_form, COMPOSITES[composite]).attribute(x, target=TARGET)
    assert torch.equal(found, expected)


def test_a_folded_norm_is_a_convolution_that_was_folded_before() -> None:
    """Folding by hand and folding in the graph give one map."""
    model = Network(ByModules).model()
    by_hand = copy.deepcopy(model)
    by_hand.conv = nn.utils.fuse_conv_bn_eval(by_hand.conv, by_hand.bn)
    by_hand.bn = nn.Identity()
    x = numbers(2, 3, 12, 12)
    for composite in COMPOSITES.values():
        found = LRPFx(model, composite).attribute(x, target=TARGET)
        expected = LRPFx(by_hand, composite).attribute(x, target=TARGET)
        assert distance(found, expected) <= ROUNDING


# Scales


@each_homogeneous_network
def test_twice_the_input_is_twice_the_relevance(name: str) -> None:
    """Rules without constants of their own have no unit of length: R(2 x) = 2 R(x)."""
    network = NETWORKS[name]
    inputs = network.inputs()
    model = without_shifts(network.model(), *inputs)
    once = map_of(network, model, inputs, "zero")
    twice = map_of(network, model, tuple(2 * x for x in inputs), "zero")
    assert distance(2 * once, twice) <= ROUNDING


@pytest.mark.parametrize("start", ["one_hot", "logit"])
def test_relevance_is_linear_in_its_start(start: str) -> None:
    """Between the start and the input relevance is never used to decide anything (without a filter)."""
    network = NETWORKS["residual"]
    model, (x,) = network.model(), network.inputs()

    def scaled(factor: float) -> Callable[[Tensor], Tensor]:
        def begin(output: Tensor) -> Tensor:
            relevance = torch.zeros_like(output)
            relevance[:, TARGET] = output[:, TARGET] if start == "logit" else 1.0
            return factor * relevance

        return begin

    plain = LRPFx(model, start=start).attribute(x, target=TARGET)
    for factor in (1.0, -2.0):
        found = LRPFx(model, start=scaled(factor)).attribute(x)
        assert distance(found, factor * plain) <= SAME_SUMS
