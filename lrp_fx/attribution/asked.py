"""The values that a view asks for, which canonization must not fold away."""

from __future__ import annotations

from torch import fx, nn

from lrp_fx.canonize import may_vanish
from lrp_fx.capture import Captured
from lrp_fx.errors import InputError
from lrp_fx.plan import Layer, View, find_layer, path_and_call


def asked(captured: Captured, model: nn.Module, view: View) -> set[fx.Node]:
    """The nodes whose values have to stay in the graph when norms are folded.

    If a neuron is explained, the value of its layer has to be there, whether a norm or scale
    computes it or reads it. If the relevance of a layer is wanted, its value has to be there only
    if a norm, scale, shift or pad computes it. If a norm only reads it, the layer and the norm are
    one linear operation, and the relevance is that of both.

    Args:
        captured: a graph before any norm was folded.
        model: the user's model.
        view: the explained output or layer, and for which inputs or layers.
    """
    paths = {path for path, _ in model.named_modules(remove_duplicate=False)}

    def found(layer: Layer, of_input: bool) -> tuple[fx.Node, ...]:
        if isinstance(layer, str) and path_and_call(layer, paths)[0] not in paths:
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
