"""Modules with generated code: any attribute path can be read, and the source text is freed."""

from __future__ import annotations

import functools
import linecache
import re
import weakref
from collections.abc import Mapping
from itertools import count
from keyword import iskeyword
from typing import Any

from torch import fx, nn
from torch.fx import graph_module

_PLAIN = re.compile(r"[ !#-\[\]-~]*")
"""Text that needs no escape between quotes."""


class LateCode(fx.GraphModule):
    """A graph module whose code is written when it first runs: most canonical graphs never do."""

    def recompile(self) -> Any:
        """Forget the code; the next run writes it."""
        setattr(type(self), "forward", LateCode.forward)  # noqa: B010 a class of its own per instance

    def forward(self, *inputs: Any) -> Any:
        """Write the code, which takes the place of this method, and run it."""
        super().recompile()
        with_source(self)
        return type(self).forward(self, *inputs)


def graph_module_of(
    root: nn.Module | Mapping[str, Any],
    graph: fx.Graph,
    class_name: str,
    kind: type[fx.GraphModule] = fx.GraphModule,
) -> fx.GraphModule:
    """A graph module whose code reads attributes of any name, and whose source text is freed with it.

    torch.fx writes an attribute as it is named. A name with a quote, a line break or a backslash, and
    a keyword, are then wrong code; and Python changes letters such as a ligature in names.

    Args:
        root: the tensors and modules by path, or a module that holds them.
        graph: the graph; its ``get_attr`` and ``call_module`` targets are complete.
        class_name: the name of the module's class.
        kind: :class:`LateCode` for a graph that may never run.
    """
    reading = [node for node in graph.nodes if node.op in ("get_attr", "call_module")]
    texts = {str(node.target): _as_torch_writes(str(node.target)) for node in reading}
    quoted = {text: _quoted(path) for path, text in texts.items() if text != _quoted(path)}
    names = {node.name for node in graph.nodes}
    for node in graph.nodes:
        if node.name == "self":  # the module, in the code
            node.name = next(free for n in count(1) if (free := f"self_{n}") not in names)
    if quoted:
        graph.on_generate_code(lambda _: functools.partial(_with_quotes, quoted))
    module = kind(root if isinstance(root, nn.Module) else dict(root), graph, class_name=class_name)
    return module if kind is LateCode else with_source(module)


def _as_torch_writes(path: str) -> str:
    """The expression that torch.fx writes for an attribute."""
    text = "self"
    for name in path.split("."):
        text = f"{text}.{name}" if name.isidentifier() else f'getattr({text}, "{name}")'
    return text


def _quoted(path: str) -> str:
    """An expression that reads the attribute, with any name."""
    text = "self"
    for name in path.split("."):
        if name.isidentifier() and name.isascii() and not iskeyword(name):
            text = f"{text}.{name}"
        else:
            literal = f'"{name}"' if _PLAIN.fullmatch(name) else ascii(name)
            text = f"getattr({text}, {literal})"
    return text


def _with_quotes(quoted: Mapping[str, str], body: list[str]) -> list[str]:
    """The lines of generated code, in which each ``node = attribute`` reads it by a quoted name."""
    return [_line(quoted, line) for line in body]


def _line(quoted: Mapping[str, str], line: str) -> str:
    name, equals, rest = line.partition(" = ")
    found = [text for text in quoted if equals and re.match(rf"{re.escape(text)}(?!\w)", rest)]
    if not found:
        return line
    longest = max(found, key=len)
    return f"{name}{equals}{quoted[longest]}{rest[len(longest) :]}"


def with_source(module: fx.GraphModule) -> fx.GraphModule:
    """Return the module; from now on its source text is freed together with it.

    A model that is captured by recording gets new modules in each call, whose sources would add up.
    """
    name = module.forward.__code__.co_filename
    weakref.finalize(module, _forget, name).atexit = False
    return module


def _forget(name: str) -> None:
    linecache.cache.pop(name, None)
    loader = getattr(graph_module, "_loader", None)  # private to torch, may change
    getattr(loader, "eval_cache", {}).pop(name, None)
