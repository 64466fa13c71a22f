"""The modules and tensors of a model by their paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx, nn

from lrp_fx.graph import members_of

INTERNAL = frozenset(vars(nn.Module()))
"""The attributes that every module has."""
_OF_GRAPHS = frozenset(dir(fx.GraphModule({}, fx.Graph())))
"""The names of all that a graph module has itself."""


def walk(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """All (path, module) pairs, as ``model.named_modules()`` gives them.

    It takes a third of the time, which matters because it runs before each explanation.
    """
    found: list[tuple[str, nn.Module]] = []
    known: set[nn.Module] = set()
    waiting: list[tuple[str, nn.Module | None]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if module is None or module in known:
            continue
        known.add(module)
        found.append((path, module))
        prefix = f"{path}." if path else ""
        waiting += [
            (prefix + name, child) for name, child in reversed(members_of(module)[2].items())
        ]
    return found


def graph_path(path: str) -> str:
    """The path of a model's tensor in graphs, whose modules have attributes of their own.

    A first name that a graph module needs itself, such as ``graph`` or ``code``, gets an apostrophe.
    """
    first, dot, rest = path.partition(".")
    return f"{first}'{dot}{rest}" if first in _OF_GRAPHS else path


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters, buffers and plain tensor attributes of the modules, by path.

    A tensor with several paths is listed under the first. Parameters come first, then buffers, then
    the other attributes. Paths are those of :func:`graph_path`.
    """
    named: dict[str, Tensor] = {}
    known: set[int] = set()
    modules = [(f"{path}." if path else "", module) for path, module in walk(model)]

    def note(prefix: str, tensors: Iterable[tuple[str, Any]]) -> None:
        for name, value in tensors:
            if value is not None and id(value) not in known:
                known.add(id(value))
                named[graph_path(prefix + name)] = value

    for kind in (0, 1):
        for prefix, module in modules:
            note(prefix, members_of(module)[kind].items())
    for prefix, module in modules:
        own = ((name, v) for name, v in vars(module).items() if name not in INTERNAL)
        note(prefix, (each for each in own if isinstance(each[1], Tensor)))
    return named
