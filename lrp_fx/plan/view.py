"""What of the model is explained, and where: the output or a layer, for inputs or for layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from lrp_fx.canonize import may_vanish
from lrp_fx.capture import (
    Captured,
)
from lrp_fx.errors import InputError
from lrp_fx.plan.layers import Layer, find_layer


@dataclass(frozen=True)
class View:
    """What of the model is explained, and where.

    Args:
        explained: the layer whose value is explained, None for the model's output.
        explained_input: the layer's input instead of its output.
        layers: the layers whose relevance is wanted, None for the model's inputs.
        layers_input: their inputs instead of their outputs.
        audited: for the ledger, which also wants to see what goes nowhere.
        masked: layers whose relevance each run masks by channels.
        through: masked layers also keep relevance from going round them.
        channel_dim: the dimension of these channels.
    """

    explained: Layer | None = None
    explained_input: bool = False
    layers: tuple[Layer, ...] | None = None
    layers_input: bool = False
    audited: bool = False
    masked: tuple[Layer, ...] = ()
    through: bool = False
    channel_dim: int = 1


def asked(captured: Captured, model: nn.Module, view: View) -> set[fx.Node]:
    """The nodes whose values nothing that is folded may take the place of.

    A neuron is a value: that of its layer must be there, whether a norm or a scale reads it or made it.
    Of a layer whose relevance is wanted it must be there where a norm, a scale, a shift or a pad makes
    it. Where a norm reads it,
    the layer and the norm are one linear operation, and its relevance is that of both.

    Args:
        captured: a graph before any norm was folded.
        model: the user's model.
        view: what is explained, and where.
    """
    paths = {path for path, _ in model.named_modules(remove_duplicate=False)}

    def found(layer: Layer, of_input: bool) -> tuple[fx.Node, ...]:
        if isinstance(layer, str) and layer.partition("#")[0] not in paths:
            return ()  # a node as the plan shows it, with its norm
        try:
            return find_layer(captured, model, layer, of_input=of_input)
        except InputError:  # it is raised again where the layer is looked for
            return ()

    values = set() if view.explained is None else set(found(view.explained, view.explained_input))
    for layer in view.layers or ():
        values |= set(filter(may_vanish, found(layer, view.layers_input)))
    for layer in view.masked:
        values |= set(filter(may_vanish, found(layer, False)))
    return values
