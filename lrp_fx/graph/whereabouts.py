"""Where a node comes from: the calls of modules around it, and the line of the user's code."""

from __future__ import annotations

from torch import fx

Call = tuple[str, int]
"""One call of a module: the module's path, and the number of the call, counted from 0."""


def module_path(node: fx.Node) -> str:
    """The path of the innermost module whose forward made the call; "" for the model itself."""
    calls: tuple[Call, ...] = node.meta.get("module_calls", ())
    return calls[-1][0] if calls else ""


def where(node: fx.Node) -> str:
    """Words for error messages: the module and the source line that a node comes from."""
    path, source = module_path(node), node.meta.get("source")
    place = f"in module '{path}'" if path else "in the model's own forward"
    return f"{place} ({source})" if source else place
