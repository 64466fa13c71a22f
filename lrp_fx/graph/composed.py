"""What torch composes operations of: its own decompositions, with sizes left open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from lrp_fx.graph.private_torch import OpOverload, decompositions


def simpler(knows: Callable[[str], bool]) -> dict[Any, Callable[..., Any]]:
    """By operation, the function that computes it with simpler ones.

    Args:
        knows: whether an operation stays as it is, by its ATen name.
    """
    return {
        overload: function
        for overload, function in decompositions().items()
        if isinstance(overload, OpOverload) and not knows(overload.overloadpacket.__name__)
    }


def composed(
    call: Callable[..., Any], examples: Sequence[Tensor], table: Mapping[Any, Callable[..., Any]]
) -> fx.Graph:
    """The graph of ATen calls of a function of tensors. It takes tensors of any sizes.

    Args:
        call: the function.
        examples: tensors without data.
        table: functions of simpler operations, by operation.

    Raises:
        Exception: of many kinds, if the function needs data.
    """
    traced = make_fx(call, decomposition_table=dict(table), tracing_mode="symbolic")
    return traced(*examples).graph
