"""The LRP graph: its nodes by name, its buffers, what it frees."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lrp_fx import LRPFx
from lrp_fx.relevance.activation import PassRelevance
from lrp_fx.relevance.linear.steps import Share
from lrp_fx.relevance.node import RelevanceNode
from tests.helpers.composites import X
from tests.helpers.models import cnn


def lrp_module(lrp: LRPFx) -> fx.GraphModule:
    module = lrp.graph.owning_module
    assert isinstance(module, fx.GraphModule)
    return module


def test_settings_belong_to_the_copy() -> None:
    """Optimizations give a node other settings, and leave the node as it was written."""
    node = PassRelevance()
    other = node.with_settings(precision=torch.bfloat16).with_settings(overwrites=True)
    assert (other.precision, other.overwrites) == (torch.bfloat16, True)
    assert (node.precision, node.overwrites) == (None, False)
    assert other(torch.ones(2)).dtype == torch.bfloat16


def test_graph_prints_its_relevance_nodes_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    lrp = LRPFx(cnn())
    text, code = str(lrp.graph), lrp.print_readable()
    assert capsys.readouterr().out.strip() == code.strip()
    for layer in ("conv1_conv2d", "relu1_relu", "pool1_max_pool2d", "classifier_linear"):
        assert f"{layer}" in text
    for layer in ("conv1_conv2d", "relu1_relu", "conv2_conv2d", "classifier_linear"):
        assert f"%{layer}_relevance" in text
        assert f"{layer}_relevance = self.relevance.{layer}(" in code
    order = [node.name for node in lrp.graph.nodes]
    assert order.index("classifier_linear") < order.index("start")
    assert order.index("start") < order.index("classifier_linear_relevance")
    assert order.index("conv2_conv2d_relevance") < order.index("conv1_conv2d_relevance")


def test_relevance_nodes_are_modules_and_modified_weights_are_buffers() -> None:
    """So the graph can be printed, moved, hooked and saved like any other module."""
    model = cnn()
    lrp = LRPFx(model, "epsilon_alpha2_beta1")
    lrp.attribute(X, 1)
    module = lrp_module(lrp)
    called = [node for node in module.graph.nodes if node.op == "call_module"]
    assert all(isinstance(module.get_submodule(str(n.target)), RelevanceNode) for n in called)
    conv = module.get_submodule("relevance.conv1_conv2d")
    assert isinstance(conv, Share)
    assert "conv2d, AlphaBeta" in repr(conv)
    buffers = [buffer for name, buffer in module.named_buffers() if "constants." in name]
    weight = model.conv1.weight.detach()
    for wanted in (weight.clamp(min=0), weight.clamp(max=0)):
        assert any(torch.equal(buffer, wanted) for buffer in buffers)
    assert not any(buffer.requires_grad for buffer in buffers)
    assert not list(conv.parameters())
    assert not list(conv.buffers())


def test_graph_runs_as_the_module_that_it_is() -> None:
    """The graph needs nothing of the library around it: tensors and a target in, relevance out."""
    model = cnn()
    lrp = LRPFx(model)
    expected = lrp.attribute(X, 1)
    (relevance,), output, start = lrp_module(lrp)(X, 1)
    assert torch.equal(relevance, expected)
    torch.testing.assert_close(output, model(X))
    assert torch.equal(start[:, 1], output[:, 1])
    interpreted = fx.Interpreter(lrp_module(lrp)).run(X, 1)
    assert torch.equal(interpreted[0][0], expected)


def test_names_that_modules_have_already() -> None:
    """A node called ``to`` must not be looked up as ``nn.Module.to``."""

    class Casts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.double().float().double()

    relevance = LRPFx(Casts()).attribute(torch.ones(2, 1))
    assert torch.equal(relevance, torch.ones(2, 1))


# Memory


class Live(TorchDispatchMode):
    """Counts, at each operation, the tensors of at least ``size`` entries that are alive."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.alive, self.counts = size, 0, list[int]()

    def _gone(self) -> None:
        self.alive -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        makes_views = any(r.alias_info is not None for r in func._schema.returns)
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and tensor.numel() >= self.size and not makes_views:
                self.alive += 1
                weakref.finalize(tensor, self._gone)
        self.counts.append(self.alive)
        return result


def deep(layers: int) -> nn.Sequential:
    blocks = [each for _ in range(layers) for each in (nn.Conv1d(4, 4, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * 256, 2))


@pytest.mark.parametrize("engine", ["direct", "gradient"])
def test_activations_are_freed_on_the_way_back(engine: Any) -> None:
    """What the relevance has passed is gone: at the end as little is alive as in a shallow net,
    and the peak is that of the forward pass.
    """
    x, last_counts, peaks = torch.randn(1, 4, 256), {}, {}
    for layers in (10, 40):
        lrp = LRPFx(deep(layers), "epsilon", propagation=engine)
        lrp.attribute(x, 1)
        with Live(x.numel()) as live:
            lrp.attribute(x, 1)
        last_counts[layers], peaks[layers] = live.counts[-1], max(live.counts)
        # an input and an output for each convolution, and what the one at work needs
        assert peaks[layers] <= 2 * layers + 10
    assert peaks[40] > 40
    assert last_counts[40] == last_counts[10] <= 3


def test_generated_code_drops_values_after_their_last_use() -> None:
    """What makes the freeing: an activation goes with its relevance node, or at once if z⁺ does not
    read it.
    """
    code = dict(
        line.split(" = ", 1)
        for line in map(str.strip, lrp_module(LRPFx(cnn())).code.splitlines())
        if " = " in line
    )
    for made, dropped in (
        ("relu1_relu", "conv1_conv2d"),
        ("conv2_conv2d_relevance", "pool1_getitem"),
        ("conv1_conv2d_relevance", "preferred_layout"),
    ):
        assert f"{dropped} = " in code[made].partition(";")[2]
