"""Where NaN or infinity came up first, for the error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.checks import all_finite
from lrp_fx.errors import InputError, LRPError, NonFiniteError
from lrp_fx.evaluation import Runner


def first_non_finite(
    module: fx.GraphModule,
    start: fx.Node,
    arguments: tuple[Any, ...],
    live: Mapping[str, Tensor] | None = None,
) -> LRPError:
    """The error that names the node in which NaN or infinity came up.

    Args:
        module: the LRP graph, which is run once more.
        start: the node that relevance starts with.
        arguments: those of the run.
        live: as in :class:`Runner`.
    """
    finder = _Finder(module, live)
    with torch.no_grad():
        finder.run(*arguments)
    if start.args[0] in finder.forward:
        node = finder.forward[0]
        return InputError(
            f"the model's own forward pass yields NaN or infinity in '{node.name}'{_path(node)}"
        )
    if start in finder.backward:
        mode = module.get_submodule(str(start.target))
        return InputError(f"what the relevance starts with holds NaN or infinity: {mode}")
    node = next(iter(finder.backward), start)
    rule = ""
    if node.op == "call_module":
        rule = f": {module.get_submodule(str(node.target))}"
    return NonFiniteError(
        f"the relevance becomes NaN or infinite in '{node.name}'{_path(node)}{rule}. A larger ε in "
        "that rule's stabilizer or another rule there helps."
    )


class _Finder(Runner):
    """Runs the graph and notes the nodes whose values are not finite, before the start and from it on.

    Those before may well be meant: the −∞ of a mask.
    """

    def __init__(self, module: fx.GraphModule, live: Mapping[str, Tensor] | None) -> None:
        super().__init__(module, live)
        self.forward: list[fx.Node] = []
        self.backward: list[fx.Node] = []
        self._noted = self.forward

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name == "start":
            self._noted = self.backward
        if n.op in ("call_function", "call_module") and not _finite(result):
            self._noted.append(n)
        return result


def _path(node: fx.Node) -> str:
    calls = node.meta.get("module_calls", ())
    return f" (module '{calls[-1][0]}')" if calls and calls[-1][0] else ""


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or all_finite(value)
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return True
