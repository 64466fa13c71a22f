"""Relevance through element-wise functions of one operand, which passes unchanged."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.errors import InputError
from lrp_fx.graph import ACTIVATIONS, NUMERIC
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.handling import Operation, Received, Site, always, first
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Pass


class PassRelevance(RelevanceNode):
    """``R_in = R``, summed to the shape of the operand if the operation broadcast it.

    Source: Bach et al. 2015.
    """

    result = "moved"

    def propagate(self, relevance: Tensor, shape: torch.Size | None = None) -> Tensor:
        """The relevance itself, or its sum to ``shape``."""
        return relevance if shape is None else sum_to(relevance, shape)


class SameShapeRelevance(RelevanceNode):
    """``R_in = R`` for operations whose output has the shape of the input (Captum's identity rule)."""

    def propagate(self, relevance: Tensor, shape: torch.Size) -> Tensor:
        """The relevance itself.

        Args:
            relevance: the relevance of the output.
            shape: the shape of the input.

        Raises:
            InputError: if the shapes differ.
        """
        if relevance.shape != shape:
            raise InputError(
                f"Pass() cannot pass relevance of shape {tuple(relevance.shape)} to an input of shape "
                f"{tuple(shape)}: it is for operations that keep the shape"
            )
        return relevance


def write_pass(site: Site) -> Received:
    """Write a node that passes the relevance to the first operand."""
    (operand,) = first(site.node)
    return {operand: [site.call(PassRelevance(), site.relevance)]}


def described_as_passing(name: str, kind: str) -> Operation:
    """Describe an element-wise function, whose relevance passes unchanged."""
    return Operation(
        name=name,
        kind=kind,
        operands=first,
        default=always(Pass()),
        alternatives=(Pass,),
        write=write_pass,
        source="the only conserving choice for a function of one value (Bach et al. 2015)",
    )


OPERATIONS = [
    *(described_as_passing(name, "activation") for name in ACTIVATIONS),
    *(described_as_passing(name, "function") for name in NUMERIC),
]
