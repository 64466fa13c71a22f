"""A capture leaves the model as it was: its values, its modes, its optimizers."""

from __future__ import annotations

import collections
import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.captures import both_ways
from tests.helpers.closeness import ROUNDING, distance
from tests.helpers.models import NETWORKS, Network
from tests.helpers.numbers import numbers


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
