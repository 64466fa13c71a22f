"""The LRP graph: its module, the parameters it reads, and the node where relevance starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, fx


@dataclass(frozen=True)
class LRPGraph:
    """The result of rewriting.

    Args:
        module: takes the model's input tensors, the target, and the channels of each mask of the
            plan. It returns (the relevance of each source, the explained output, the relevance that
            the propagation started with).
        start: the node of the relevance that the propagation starts with.
        constants: computes, from parameters alone, what the LRP graph reads under ``constants.*``
            (modified and folded weights, tables), in the order of ``constant_names``.
        constant_names: the attributes of ``module`` that hold the computed constants.
        parameters: the tensor attributes of both modules: the model's own, and those of ``made``.
        made: tensors that the model's code makes or hides, without a path in the model.
    """

    module: fx.GraphModule
    start: fx.Node
    constants: fx.GraphModule
    constant_names: tuple[str, ...]
    parameters: tuple[str, ...]
    made: Mapping[str, Tensor]
