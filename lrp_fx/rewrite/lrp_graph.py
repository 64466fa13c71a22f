"""The LRP graph: a module, what it reads of parameters, and where the relevance starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, fx


@dataclass(frozen=True)
class LRPGraph:
    """The result of the rewriting.

    Args:
        module: called with the model's input tensors, the target and the channels of each mask of the
            plan; returns (the relevance of each
            source, the explained output, the relevance that was started with).
        start: the node of it that the relevance starts with.
        constants: computes, from parameters alone, what the LRP graph reads under ``constants.*``
            (modified and folded weights, tables); its outputs are in the order of ``constant_names``.
        constant_names: the attributes of ``module`` that hold them.
        parameters: the attributes of both that are tensors, the model's own and those of ``made``.
        made: tensors that the model's code made or hides, which have no path in the model.
    """

    module: fx.GraphModule
    start: fx.Node
    constants: fx.GraphModule
    constant_names: tuple[str, ...]
    parameters: tuple[str, ...]
    made: Mapping[str, Tensor]
