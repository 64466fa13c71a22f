"""LRP graphs on tensors of a device that this machine may lack: they have shapes, but no values.

A graph that mixes devices raises an error. So does one that reads values, for which a program must
wait until the device is ready.
"""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lrp_fx import LRPFx
from lrp_fx.plan import View


def move(module: nn.Module, device: str) -> None:
    """Replace all tensors of a module by empty ones on a device, and the device of its calls."""
    for graph in (each for each in module.modules() if isinstance(each, fx.GraphModule)):
        for node in graph.graph.nodes:
            if "device" in node.kwargs:  # that of the input with which the model was read
                node.kwargs = {**node.kwargs, "device": torch.device(device)}
        graph.recompile()
    for each in module.modules():
        for kept in (each._parameters, each._buffers, vars(each)):
            for name, value in list(kept.items()):
                if isinstance(value, Tensor):
                    kept[name] = empty_like(value, device)


def empty_like(tensor: Tensor, device: str) -> Tensor:
    """A tensor of the same form on a device."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def run_on(
    device: str, lrp: LRPFx, inputs: tuple[Tensor, ...], target: Any, additional: Any = None
) -> set[str]:
    """Run the LRP graph with all tensors on a device; the devices of the results.

    Autograd of fake CUDA tensors needs a driver. So the gradient engine runs on ``meta``.
    """
    program, tensors = lrp._prepared(inputs, additional, View())
    program.follow_model()
    module = deepcopy(program.lrp.module)
    with FakeTensorMode() if device != "meta" else nullcontext(), torch.no_grad():
        move(module, device)
        relevance, output, start = module(*(empty_like(t, device) for t in tensors), target)
    return {tensor.device.type for tensor in (*relevance, output, start)}
