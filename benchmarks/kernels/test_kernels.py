"""One layer at a time: its relevance by both engines, beside the layer's input gradient.

    make bench-kernels

pytest-benchmark measures; results of two versions can be compared with its --benchmark-compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.relevance.edges.top_k import relevance_filter


class Softmax(nn.Module):
    """Behind it something follows: a softmax at the very end would be explained at its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1).flatten(1)


@dataclass(frozen=True)
class Layer:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    composite: str = "epsilon"


MAPS = (4, 64, 56, 56)
LAYERS = {
    "linear epsilon": Layer(lambda: nn.Linear(512, 256), (64, 512)),
    "linear z_plus": Layer(lambda: nn.Linear(512, 256), (64, 512), "z_plus"),
    "conv 3x3 epsilon": Layer(lambda: nn.Conv2d(64, 64, 3, padding=1), MAPS),
    "conv 3x3 z_plus": Layer(lambda: nn.Conv2d(64, 64, 3, padding=1), MAPS, "z_plus"),
    "conv 1x1 z_plus": Layer(lambda: nn.Conv2d(64, 256, 1), MAPS, "z_plus"),
    "depthwise conv z_plus": Layer(
        lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64), MAPS, "z_plus"
    ),
    "max pooling": Layer(lambda: nn.MaxPool2d(2), MAPS),
    "average pooling": Layer(lambda: nn.AvgPool2d(2), MAPS),
    "softmax": Layer(Softmax, (4, 12, 197, 197)),
    "layer norm": Layer(lambda: nn.LayerNorm(768), (4, 197, 768)),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def prepared(layer: Layer) -> tuple[nn.Module, Tensor, Tensor]:
    """The layer, an input as it comes out of a ReLU, and a relevance of its output."""
    model, x = layer.make().eval().requires_grad_(False), torch.rand(layer.shape)
    return model, x, torch.rand_like(model(x))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("engine", ["direct", "gradient"])
def test_relevance(benchmark: Any, name: str, engine: Any) -> None:
    layer = LAYERS[name]
    model, x, upper = prepared(layer)
    lrp = LRPFx(model, layer.composite, propagation=engine, start=lambda output: upper)
    lrp.attribute(x)
    benchmark.group = name
    assert benchmark(lrp.attribute, x).shape == x.shape


@pytest.mark.parametrize("name", LAYERS)
def test_input_gradient(benchmark: Any, name: str) -> None:
    model, x, upper = prepared(LAYERS[name])
    leaf = x.requires_grad_()
    benchmark.group = name
    assert benchmark(lambda: torch.autograd.grad(model(leaf), leaf, upper)[0]).shape == x.shape


@pytest.mark.parametrize("top_k", [0.01, 0.05, 0.5])
def test_filter(benchmark: Any, top_k: float) -> None:
    relevance = torch.randn(4, 64, 112, 112)
    benchmark.group = "filter"
    assert benchmark(relevance_filter, relevance, top_k).shape == relevance.shape
