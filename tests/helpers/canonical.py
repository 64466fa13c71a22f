"""The canonical graph of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrp_fx.canonize.pipeline import canonize
from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.reading import read
from lrp_fx.capture.running import run_model
from lrp_fx.graph.calls import name_of

FOLDED = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Of max |output|: a fold changes the order of a few hundred products, each rounded to 6e-8 (float32)
or 1e-16 (float64). Without eps, mean, γ or β it would be wrong by 0.1 and more."""
EPS = 0.3
"""Large: a fold that forgets it shows."""


def canonical(model: nn.Module, x: Tensor, way: str = "symbolic") -> Captured:
    """The canonical graph of the model, as read with the input."""
    arguments = Arguments.of((x,))
    return canonize(read(model, arguments, way, run_model(model, arguments)))


def operations(graph: Captured) -> list[str]:
    """The names of its calls."""
    return [name_of(node) for node in graph.module.graph.nodes if node.op == "call_function"]


def lively(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The model in eval mode, with batch norms whose every number matters."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 2.0)
            if module.affine:
                module.weight.data.normal_()
                module.bias.data.normal_()
    return model.to(dtype).eval()


def norm(channels: int, dims: int = 2, *, affine: bool = True) -> nn.Module:
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    return kind(channels, eps=EPS, affine=affine)
