"""Each call of a graph knows its module, its line and the number of the call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from lrp_fx import LRPFx
from lrp_fx.capture.members import named_tensors, walk
from lrp_fx.graph import module_path
from lrp_fx.graph.calls import name_of
from tests.helpers.captures import after, both_ways, captured, line_of, signal
from tests.helpers.models import Reused, everything


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
    """Their number is known, since the shapes are."""
    model, x = after(function), signal(after(function))
    lrp = LRPFx(model, start=everything)
    relevance = lrp.attribute(x)
    assert "capture: symbolic" in lrp.plan(x).notes
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
    tanh, exp = line_of(Inner, "line of tanh"), line_of(Outer, "line of exp")
    assert [node.meta["source"] for node in calls if name_of(node) == "tanh"] == [tanh, tanh]
    assert calls[0].meta["source"] == tanh  # the linear layer is called there
    assert calls[-1].meta["source"] == exp


@both_ways
def test_lines_are_the_models_own(way: str) -> None:
    """A model of torch's modules alone has no line of the user's, least of all one of this library."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    nodes = captured(model, torch.ones(2, 4), way=way).module.graph.nodes
    assert {node.meta.get("source") for node in nodes if node.op == "call_function"} == {None}


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
