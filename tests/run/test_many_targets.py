"""Several targets, and several layers, from one pass: the same as one by one.

Bit for bit where the same kernels run; the targets of a single sample run as a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx, Optimizations
from lrp_fx.errors import TargetError
from lrp_fx.graph.walks import split_by_dependence
from lrp_fx.plan.view import View
from lrp_fx.run import many_targets as stacked
from tests.helpers.closeness import assert_close
from tests.helpers.counting import convolutions
from tests.helpers.models import NETWORKS
from tests.helpers.numbers import numbers

SOME = ["residual", "unet", "squeeze-excitation", "two inputs", "dict"]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus", "epsilon_alpha2_beta1"])
@pytest.mark.parametrize("propagation", ["direct", "gradient"])
def test_many_targets_are_what_each_alone_is(name: str, composite: str, propagation: Any) -> None:
    network = NETWORKS[name]
    options: dict[str, Any] = {"propagation": propagation, "output": network.output}
    lrp = LRPFx(network.model(), composite, **options)
    inputs = network.inputs(2)
    targets: list[Any] = [0, 1, [1, 0], torch.tensor([0, 1])]
    many = lrp.attribute_many(inputs, targets)
    for i, target in enumerate(targets):
        alone = lrp.attribute(inputs, target)
        for mine, expected in zip(many, alone, strict=True):
            assert torch.equal(mine[i], expected)


def test_the_forms_of_inputs_and_targets() -> None:
    """A tensor for a tensor, a leading axis for the targets, the top classes of each sample."""
    network = NETWORKS["functional"]
    model, (x,) = network.model(), network.inputs(3)
    lrp = LRPFx(model)
    assert lrp.attribute_many(x, range(2)).shape == (2, *x.shape)
    top = model(x).topk(2).indices
    found = lrp.attribute_many(x, list(top.T))
    assert torch.equal(found[1], lrp.attribute(x, top[:, 1]))
    assert found.grad_fn is None
    for wrong in ([], 3, None, torch.tensor(3), torch.zeros(0, 3).long()):
        with pytest.raises(TargetError, match="non-empty list"):
            lrp.attribute_many(x, wrong)  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="out of range"):
        lrp.attribute_many(x, [0, 10**6])


@pytest.mark.parametrize(
    ("classes", "samples", "chosen"),
    [
        (10, 2, lambda y: range(10)),
        (1000, 3, lambda y: y.topk(5).indices.T),
        (1000, 1, lambda y: y.topk(5).indices.T),
    ],
    ids=["all of ten", "top five of a thousand", "of one sample"],
)
def test_many_classes(classes: int, samples: int, chosen: Callable[[Tensor], Any]) -> None:
    """A range for all samples alike, or a batch axis of targets (T, N)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))
    model, x = model.double(), numbers(samples, 3, 8, 8)
    targets = chosen(model(x).detach())
    lrp = LRPFx(model)
    found = lrp.attribute_many(x, targets)
    assert found.shape == (len(targets), *x.shape)
    for mine, target in zip(found, targets, strict=True):
        assert torch.equal(mine, lrp.attribute(x, target))
    assert len({float(each.sum()) for each in found}) == len(targets)


def test_nothing_is_executed_but_what_is_needed() -> None:
    """Counted where it runs: of three convolutions under ε each has one forward and one adjoint."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)]
    model, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 10)), torch.randn(1, 3, 4, 4)

    def layer(*names: str) -> int:
        lrp = LayerLRPFx(model, list(names), "epsilon")
        return convolutions(lambda: lrp.attribute(x, 1))

    def neuron(name: str) -> int:
        lrp = NeuronLRPFx(model, name, "epsilon")
        return convolutions(lambda: lrp.attribute(x, (1, 1, 1)))

    lrp = LRPFx(model, "epsilon")
    assert convolutions(lambda: model(x)) == 3
    assert convolutions(lambda: lrp.attribute(x, 1)) == 3 + 3
    assert [layer("4"), layer("2"), layer("1"), layer("0")] == [3, 3, 3 + 1, 3 + 2]
    assert [layer("4", "2"), layer("1", "4", "2"), layer("0", "1")] == [3, 3 + 1, 3 + 2]
    assert [neuron("0"), neuron("1"), neuron("2")] == [1 + 1, 2 + 2, 3 + 3]
    assert convolutions(lambda: lrp.attribute_many(x, range(10))) == 3 + 3
    one_by_one = LRPFx(model, "epsilon", optimize=Optimizations(stacked=False))
    assert convolutions(lambda: one_by_one.attribute_many(x, range(10))) == 3 + 10 * 3
    pair = torch.cat([x, x])
    assert convolutions(lambda: lrp.attribute_many(pair, range(10))) == 3 + 10 * 3


class Mixing(nn.Module):
    """Samples see each other: a batch of one is unlike one of several, whose shapes are all right."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.second(h + h.softmax(0))


class TimeFirst(nn.Module):
    """Attention that has the batch in its second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(0))


class Flattened(nn.Module):
    """Tokens of all samples in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.relu(self.first(x.reshape(-1, 6)))
        return self.head(tokens.reshape(x.shape[0], -1, 6).mean(1))


@pytest.mark.parametrize(
    ("make", "shape"), [(Mixing, (6,)), (TimeFirst, (4, 6)), (Flattened, (4, 6))]
)
def test_targets_of_one_sample_that_cannot_be_a_batch(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model, x = make().double().eval(), numbers(1, *shape)
    lrp = LRPFx(model, unknown="vjp")
    found = lrp.attribute_many(x, range(5))
    for target in range(5):
        assert_close(found[target], lrp.attribute(x, target))
    assert lrp._program(x)._stacks.get((x.shape,), lambda: True) is False


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1"])
@pytest.mark.parametrize("propagation", ["direct", "gradient"])
def test_targets_of_one_sample_are_a_batch(name: str, composite: str, propagation: Any) -> None:
    """Of any form, in several batches where a large value would not fit the cache."""
    network = NETWORKS[name]
    options: dict[str, Any] = {"propagation": propagation, "output": network.output}
    lrp = LRPFx(network.model(), composite, **options)
    inputs = network.inputs(1)
    targets: list[Any] = [0, 1, [1], torch.tensor(0), 1]
    for fits in (2**24, 2**12):
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(stacked.FITS, "cpu", fits)
            many = lrp.attribute_many(inputs, targets)
        for i, target in enumerate(targets):
            for mine, expected in zip(many, lrp.attribute(inputs, target), strict=True):
                assert_close(mine[i], expected)


def test_a_wrong_target_among_those_of_one_sample() -> None:
    network = NETWORKS["functional"]
    with pytest.raises(TargetError, match="out of range"):
        LRPFx(network.model()).attribute_many(network.inputs(1)[0], [0, 1, 2, 10**6])


def test_what_targets_share_is_computed_once() -> None:
    """All convolutions of the forward pass and of the rules' denominators lie before the target."""
    network = NETWORKS["residual"]
    lrp = LRPFx(network.model(), "z_plus")
    lrp.attribute(network.inputs(), 0)
    graph = lrp.graph
    (target,) = (node for node in graph.nodes if node.name == "target")
    shared, rest = split_by_dependence(graph, [target])
    kinds = {
        part: [str(node.name) for node in nodes if "denominators" in node.name]
        for part, nodes in (("shared", shared), ("rest", rest))
    }
    assert kinds["shared"]
    assert not kinds["rest"]
    forward = [node for node in rest if node.op == "call_function" and "conv2d" in str(node.target)]
    assert not forward


def runs_of(lrp: LayerLRPFx, x: Tensor, layers: tuple[str, ...]) -> int:
    """How many relevance nodes the program for these layers has."""
    program, _ = lrp._prepared(x, None, View(layers=layers))
    return sum(
        isinstance(n, fx.Node) and n.op == "call_module" for n in program.lrp.module.graph.nodes
    )


def test_many_layers_take_one_pass() -> None:
    """Below the lowest nothing is run; above it each relevance node is there once."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 2),
    ).double()
    x = NETWORKS["functional"].inputs(2)[0]
    layers = ["5", "2", "0"]
    lrp = LayerLRPFx(model, list(layers))
    found, deltas = lrp.attribute(x, 1, return_convergence_delta=True)
    for layer, relevance, delta in zip(layers, found, deltas, strict=True):
        alone = LayerLRPFx(model, layer)
        expected, expected_delta = alone.attribute(x, 1, return_convergence_delta=True)
        assert torch.equal(relevance, expected)
        assert torch.equal(delta, expected_delta)
    assert runs_of(lrp, x, ("5", "2", "0")) == runs_of(lrp, x, ("0",))
    assert runs_of(lrp, x, ("2",)) < runs_of(lrp, x, ("0",))


def test_many_layers_with_inputs_of_two_tensors() -> None:
    """A layer that reads two tensors has a tuple in the list."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Bilinear(4, 4, 2)
            self.add = Add()

        def forward(self, x: Tensor) -> Tensor:
            return self.add(self.first(x), x).tanh()

    torch.manual_seed(0)
    model, x = Joined().double(), torch.randn(2, 4, dtype=torch.float64)
    lrp = LayerLRPFx(model, ["first", "add"])
    first, add = lrp.attribute(x, 1, attribute_to_layer_input=True)
    assert first.shape == x.shape
    assert [each.shape for each in add] == [x.shape, x.shape]


class Add(nn.Module):
    """A sum with a name."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b
