"""Finds the nodes of a layer in a canonical graph."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Container, Iterable

from torch import fx, nn

from lrp_fx._common import entries
from lrp_fx.capture import Captured
from lrp_fx.errors import InputError
from lrp_fx.graph import Call, ancestors, is_size
from lrp_fx.meaning import is_place

Layer = nn.Module | str


def find_layer(
    captured: Captured,
    model: nn.Module,
    layer: Layer,
    *,
    before: fx.Node | None = None,
    of_input: bool = False,
) -> tuple[fx.Node, ...]:
    """The nodes whose values are a layer's output, or its inputs.

    Args:
        captured: the canonical graph.
        model: the user's model.
        layer: a module of the model, its path, ``path#i`` for the i-th call (from 0) of a module
            that is called several times, or the name of a node as the plan shows it.
        before: a node that must depend on the layer.
        of_input: return the tensors that the layer reads, not those that it returns.

    Raises:
        InputError: if there is no such layer, if it is called several times, if no operation of it
            is left in the graph, or if ``before`` does not depend on it.
    """
    nodes = _named(captured, model, layer, of_input)
    if before is not None and ancestors(before).isdisjoint(nodes):
        raise InputError(
            f"the explained '{before.name}' does not depend on '{nodes[0].name}', which stands for the "
            "layer: the layer comes after the explained output, or lies on another path"
        )
    return nodes


def as_layers(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """A list of layers, each a module or a name, as a tuple.

    Raises:
        InputError: for anything else, or an empty list.
    """
    listed = None if isinstance(layers, (str, nn.Module)) else entries(layers)
    if listed is None:
        raise InputError(f"layers are given as a list, got {layers!r}")
    found = tuple(listed)
    for layer in found:
        if not isinstance(layer, (str, nn.Module)):
            raise InputError(
                f"a layer is a module, its path or the name of a node, got {type(layer).__name__}"
            )
    if not found:
        raise InputError("the list of layers is empty")
    return found


def layer_name(model: nn.Module, layer: Layer) -> str:
    """The path of a module, or the name that was given."""
    if isinstance(layer, str):
        return layer
    paths = (path for path, module in model.named_modules() if module is layer)
    return next(paths, type(layer).__name__)


def path_and_call(layer: str, paths: Container[str]) -> tuple[str, str]:
    """The path and the number of the call in ``path#number``; a path may hold a ``#`` itself."""
    path, _, index = (layer, "", "") if layer in paths else layer.rpartition("#")
    return (path, index) if path else (layer, "")


def _named(
    captured: Captured, model: nn.Module, layer: Layer, of_input: bool
) -> tuple[fx.Node, ...]:
    if isinstance(layer, nn.Module):
        paths = [path for path, m in model.named_modules(remove_duplicate=False) if m is layer]
        if not paths:
            raise InputError(f"the layer {type(layer).__name__} is not a module of the model")
        return _of_module(captured, paths, None, of_input)
    modules = dict(model.named_modules(remove_duplicate=False))
    path, index = path_and_call(layer, modules)
    if index and not index.isdecimal():
        raise InputError(f"'{layer}': # must be followed by the number of the call, from 0")
    if path in modules:
        aliases = [p for p, m in modules.items() if m is modules[path]]
        return _of_module(captured, aliases, int(index) if index else None, of_input)
    for node in captured.module.graph.nodes:
        if node.name == layer and node.op == "call_function":
            return _inputs({node}, _reading_input(node.graph)) if of_input else _results(node)
    names = [n.name for n in captured.module.graph.nodes if n.op == "call_function"]
    near = difflib.get_close_matches(layer, filter(None, modules), n=3, cutoff=0.4)
    near = near or difflib.get_close_matches(layer, names, n=3, cutoff=0.4)
    hint = f"; near misses: {', '.join(near)}" if near else ""
    raise InputError(f"the model has no module or node '{layer}'{hint}")


def _of_module(
    captured: Captured, paths: list[str], number: int | None, of_input: bool
) -> tuple[fx.Node, ...]:
    """The values of one call of a module that has the paths ``paths``."""
    reading = _reading_input(captured.module.graph)
    members: dict[Call, set[fx.Node]] = {}
    dissolved: dict[Call, fx.Node] = {}
    for node in captured.module.graph.nodes:
        if node.op != "call_function" or node not in reading:
            continue
        for call in node.meta.get("module_calls", ()):
            members.setdefault(call, set()).add(node)
        for call in node.meta.get("merged_calls", ()):
            dissolved[call] = node
        for call in node.meta.get("merged_into_input", ()):
            dissolved[call] = node.all_input_nodes[0]
    known = sorted(call for call in members.keys() | dissolved.keys() if call[0] in paths)
    if not known:
        calls = ", and a graph that was recorded for one input holds only the calls of that run"
        raise InputError(
            f"no operation of the layer '{paths[0]}' is left in the graph (dropout and identities are "
            f"removed{calls if captured.way == 'record' else ''}): name a neighbouring layer"
        )
    names = ", ".join(f"{path}#{count}" for path, count in known)
    if number is None and len(known) > 1:
        raise InputError(
            f"the layer '{paths[0]}' is called {len(known)} times: name one of {names}"
        )
    chosen = [call for call in known if number in (None, call[1])]
    if not chosen:
        raise InputError(
            f"the layer '{paths[0]}' has no call #{number} among its {len(known)}: name one of {names}"
        )
    (call,) = chosen
    if call not in members:  # it was merged into a node of another layer, which holds its values
        return (dissolved[call],)
    if of_input:
        return _inputs(members[call], reading)
    inside = members[call]
    outside = {n: n.users.keys() - inside for n in captured.module.graph.nodes if n in inside}
    # a user that reads only the shape does not read what the module returns
    read = tuple(n for n, users in outside.items() if any(map(_reads_values, users)))
    return read or tuple(n for n, users in outside.items() if users)


def _reads_values(node: fx.Node) -> bool:
    """Whether a node reads more of its operands than their shapes."""
    return node.op == "output" or not is_size(node)


def _results(node: fx.Node) -> tuple[fx.Node, ...]:
    """The tensors that a node returns: itself or its parts, except positions of maxima."""
    if not node.users or any(user.target is not operator.getitem for user in node.users):
        return (node,)
    return tuple(part for part in node.users if not is_place(part))


def _inputs(members: set[fx.Node], reading: set[fx.Node]) -> tuple[fx.Node, ...]:
    """The tensors that a set of nodes reads from outside, except parameters and sizes."""
    graph = next(iter(members)).graph
    found = {s for node in members for s in node.all_input_nodes if s not in members}
    return tuple(node for node in graph.nodes if node in found & reading)


def _reading_input(graph: fx.Graph) -> set[fx.Node]:
    """The tensors that depend on the model's inputs."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        is_tensor = node.op == "call_function" and not is_size(node)
        if node.op == "placeholder" or (is_tensor and not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return found
