"""What of the model is explained, and for what: the output or a layer, for inputs or for layers."""

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
    """What of the model is explained, and for what.

    Args:
        explained: the layer whose value is explained; None for the model's output.
        explained_input: explain the layer's input, not its output.
        layers: the layers whose relevance is wanted; None for the model's inputs.
        layers_input: the relevance of the layers' inputs, not their outputs.
        audited: for the ledger, which also needs nodes that pass no relevance on.
        masked: the layers whose relevance is masked by channels, per run.
        through: also stop relevance that bypasses the masked layers.
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
    """The nodes whose values have to stay in the graph when norms are folded.

    If a neuron is explained, the value of its layer has to be there, whether a norm or scale
    computes it or reads it. If the relevance of a layer is wanted, its value has to be there only
    if a norm, scale, shift or pad computes it. If a norm only reads it, the layer and the norm are
    one linear operation, and the relevance is that of both.

    Args:
        captured: a graph before any norm was folded.
        model: the user's model.
        view: what is explained, and for what.
    """
    paths = {path for path, _ in model.named_modules(remove_duplicate=False)}

    def found(layer: Layer, of_input: bool) -> tuple[fx.Node, ...]:
        if isinstance(layer, str) and layer.partition("#")[0] not in paths:
            return ()  # a node name from the plan, where norms are folded
        try:
            return find_layer(captured, model, layer, of_input=of_input)
        except InputError:  # raised again when the layer is looked up for the plan
            return ()

    values = set() if view.explained is None else set(found(view.explained, view.explained_input))
    for layer in view.layers or ():
        values |= set(filter(may_vanish, found(layer, view.layers_input)))
    for layer in view.masked:
        values |= set(filter(may_vanish, found(layer, False)))
    return values
