"""Names nodes after the modules that they came from."""

from __future__ import annotations

import re

from torch import fx, nn

from lrp_fx.capture import module_path
from lrp_fx.graph import name_of


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
        base = re.sub(r"\W", "_", base).strip("_")
        # Names become attributes of modules: they must not start with a digit or hide an attribute.
        base = f"_{base}" if base[:1].isdigit() or hasattr(nn.Module, base) else base
        name = base
        while name in taken:
            taken[base] += 1
            name = f"{base}_{taken[base]}"
        taken[name] = 0
        node.meta["name"] = name
    for node in graph.nodes:
        node.name = node.meta.pop("name")
