"""The canonical graph: what does nothing is gone, and it computes what the model computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from lrp_fx import LRPFx
from lrp_fx.canonize.pipeline import canonize
from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.reading import read
from lrp_fx.capture.running import run_model
from lrp_fx.composites import compat
from tests.helpers.canonical import FOLDED, canonical, lively, operations
from tests.helpers.captures import both_ways
from tests.helpers.closeness import ROUNDING, distance
from tests.helpers.models import NETWORKS
from tests.helpers.numbers import numbers

NOTHING: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "dropout": lambda: nn.Dropout(0.5),
    "dropout in place": lambda: nn.Dropout(0.5, inplace=True),
    "dropout1d": lambda: nn.Dropout1d(0.5),
    "dropout2d": lambda: nn.Dropout2d(0.5),
    "dropout3d": lambda: nn.Dropout3d(0.5),
    "alpha dropout": lambda: nn.AlphaDropout(0.5),
    "feature alpha dropout": lambda: nn.FeatureAlphaDropout(0.5),
    "stochastic depth": lambda: StochasticDepth(0.5, "row"),
}


@both_ways
@pytest.mark.parametrize("name", NOTHING)
def test_what_does_nothing_in_eval_mode_is_gone(name: str, way: str) -> None:
    """Dropouts, identities and stochastic depth leave no node, and their neighbours' fold."""
    shape = {"2d": (2, 3, 5, 4), "3d": (2, 3, 4, 5, 6)}.get(name[-2:], (2, 3, 5))
    x = numbers(*shape)
    model = nn.Sequential(nn.ReLU(), NOTHING[name](), nn.Sigmoid()).train()
    assert operations(canonical(model, x, way)) == ["relu", "sigmoid"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_canonical_graph_computes_what_the_model_computes(name: str) -> None:
    """All passes together, on networks of every kind."""
    network = NETWORKS[name]
    model, inputs = network.model(), network.inputs()
    arguments = Arguments.of(inputs)
    own = run_model(model, arguments)
    graph = canonize(read(model, arguments, "auto", own))
    with torch.no_grad():
        for mine, expected in zip(graph.module(*inputs), own, strict=True):
            assert distance(mine, expected) <= FOLDED[torch.float64]
    names = operations(graph)
    assert not {"dropout", "detach", "clone", "contiguous", "view"} & set(names)


# Attention


class Attention(nn.Module):
    """Attention with a mask, in one call or written out."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.qkv, self.head = way, nn.Linear(4, 12), nn.Linear(4, 3)
        self.earlier = torch.ones(5, 5, dtype=torch.bool).tril()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.way == "causal":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif self.way == "boolean":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.earlier)
        else:
            y = (q / 2 @ k.mT).masked_fill(~self.earlier, float("-inf")).softmax(-1) @ v
        return self.head(y.mean(1))


@pytest.mark.parametrize("fused", ["causal", "boolean"])
@pytest.mark.parametrize("way", ["auto", "export", "record"])
def test_fused_attention_is_attention_written_out(fused: str, way: str) -> None:
    """Whether told by a flag or by a mask what each place may see; ε = 0, for recording adds the mask."""
    model, plain = lively(Attention(fused)), lively(Attention("plain"))
    plain.load_state_dict(model.state_dict())
    x = numbers(2, 5, 4)
    mine = LRPFx(model, compat.attnlrp(), capture=way).attribute(x, 1)
    assert distance(mine, LRPFx(plain, compat.attnlrp()).attribute(x, 1)) <= ROUNDING
