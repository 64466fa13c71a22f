"""Recurrent layers as one call, where torch would take them apart step by step.

Without data torch runs such a layer as thousands of small operations, and a recording shows them. The
operations ``lrp_fx::lstm``, ``gru``, ``rnn_tanh`` and ``rnn_relu`` compute the same, know the shapes of
their results, and stay one call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lrp_fx.graph.calls import Packet, aten

RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
"""The names of the recurrent layers."""
_STATES = {"lstm": ("Tensor[]", "(Tensor, Tensor, Tensor)")}
_OPTIONS = (
    "Tensor[] parameters, bool has_biases, int num_layers, float dropout, bool train, "
    "bool bidirectional, bool batch_first"
)
_BIDIRECTIONAL = 5
_operations: Any = torch.ops.lrp_fx


def results_of_layer(input: Tensor, hidden: Any, *options: Any) -> tuple[Tensor, ...]:
    """Empty tensors like the results of a recurrent layer: its output and its final states.

    Args:
        input: the input, (T, N, D) or (N, T, D).
        hidden: the initial states, each (layers · directions, N, H).
        options: the other arguments of the layer, in torch's order.
    """
    states = list(hidden) if isinstance(hidden, (list, tuple)) else [hidden]
    width = states[0].shape[-1] * (2 if options[_BIDIRECTIONAL] else 1)
    finals = (torch.empty_like(state) for state in states)
    return input.new_empty((*input.shape[:-1], width)), *finals


def _define(name: str) -> None:
    states, results = _STATES.get(name, ("Tensor", "(Tensor, Tensor)"))
    full = f"lrp_fx::{name}"
    torch.library.define(full, f"(Tensor input, {states} hidden, {_OPTIONS}) -> {results}")
    torch.library.impl(full, "CompositeExplicitAutograd", getattr(torch, name))
    torch.library.register_fake(full, results_of_layer)


for _name in RECURRENT:
    _define(_name)
_WHOLE: dict[Any, Any] = {
    torch_s: getattr(_operations, name)
    for name in RECURRENT
    for torch_s in (getattr(torch, name), getattr(aten, name), getattr(aten, name).input)
}
_OF_TORCH: dict[Any, Packet] = {
    getattr(_operations, name): getattr(aten, name) for name in RECURRENT
}


class WholeLayers(TorchFunctionMode):
    """Inside, each recurrent layer is one call; packed sequences are left alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        whole = _WHOLE.get(func)
        if whole is not None and not kwargs and len(args) == 9 and isinstance(args[3], bool):
            func = whole
        return func(*args, **(kwargs or {}))


def of_torch(packet: Packet | None) -> Packet | None:
    """The operation of torch for one of :class:`WholeLayers`; the packet itself for others."""
    return packet if packet is None else _OF_TORCH.get(packet, packet)
