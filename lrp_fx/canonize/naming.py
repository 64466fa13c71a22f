"""Names nodes after the modules that they came from."""

from __future__ import annotations

import re
import unicodedata
from keyword import iskeyword

from torch import fx, nn

from lrp_fx.graph import module_path, name_of

_IN_CODE = frozenset({"self", "torch", "getattr", "inf", "nan", "device", "fx_pytree", "pytree"})
"""Names that generated code reads."""


def name_after_modules(graph: fx.Graph) -> None:
    """Name each call after its module and operation: ``layer1_0_conv1_conv2d``."""
    taken: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_function":
            base = f"{module_path(node)}_{name_of(node)}"
        elif node.op == "get_attr":
            base = str(node.target)
        else:
            base = node.name
        base = re.sub(r"\W", "_", unicodedata.normalize("NFKC", base)).strip("_") or "value"
        if not base.isidentifier() or _is_taken(base):
            base = f"_{base}"
        name = base
        while name in taken:
            taken[base] += 1
            name = f"{base}_{taken[base]}"
        taken[name] = 0
        node.meta["name"] = name
    for node in graph.nodes:
        node.name = node.meta.pop("name")


def _is_taken(name: str) -> bool:
    """Whether a name cannot be both a variable of generated code and an attribute of a module."""
    return iskeyword(name) or name in _IN_CODE or hasattr(nn.Module, name)
