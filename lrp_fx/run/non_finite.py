"""Finds where NaN or infinity first appeared, for the error that names the node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx._common import all_finite
from lrp_fx.errors import InputError, LRPError, NonFiniteError
from lrp_fx.graph import name_of
from lrp_fx.run.interpreter import Runner, leading_to

MAX_SHOWN = 8  # the largest number of samples that a message names


def first_non_finite(
    module: fx.GraphModule,
    start: fx.Node,
    arguments: tuple[Any, ...],
    live: Mapping[str, Tensor] | None = None,
) -> LRPError:
    """The error that names the node in which NaN or infinity first appeared.

    Args:
        module: the LRP graph, which is run once more.
        start: the node of the relevance that the propagation starts with.
        arguments: the arguments of the failed run.
        live: as in :class:`Runner`.
    """
    finder = _Finder(module, start, live)
    with torch.no_grad():
        finder.run(*arguments)
    if start.args[0] in finder.forward:
        node = finder.cause(start.args[0])
        return InputError(
            f"the model's own forward pass yields NaN or infinity in '{node.name}'{_path(node)}"
            f"{finder.samples(node)}{_advice(node, finder.kind[node])}"
        )
    if start in finder.backward:
        mode = module.get_submodule(str(start.target))
        return InputError(
            f"what the relevance starts with holds NaN or infinity{finder.samples(start)}: {mode}"
        )
    node = next(iter(finder.backward), start)
    rule = ""
    if node.op == "call_module":
        rule = f": {module.get_submodule(str(node.target))}"
    return NonFiniteError(
        f"the relevance becomes NaN or infinite in '{node.name}'{_path(node)}{rule}"
        f"{finder.samples(node)}. Use a larger ε in the stabilizer of that rule, or another rule."
    )


class _Finder(Runner):
    """Runs the graph and records the nodes with non-finite values, before and from the start.

    Infinities before the start may be intended, such as the −∞ of a mask.
    """

    def __init__(
        self, module: fx.GraphModule, start: fx.Node, live: Mapping[str, Tensor] | None
    ) -> None:
        super().__init__(module, live)
        self.start = start
        self.forward: list[fx.Node] = []
        self.backward: list[fx.Node] = []
        self.kind: dict[fx.Node, str] = {}
        self._samples: dict[fx.Node, list[int]] = {}
        self._noted = self.forward
        self._batch = 0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "placeholder" and not self._batch and isinstance(result, Tensor):
            self._batch = len(result)
        if n is self.start:
            self._noted = self.backward
        if n.op in ("call_function", "call_module"):
            bad = [tensor for tensor in _tensors(result) if not all_finite(tensor)]
            if bad:
                self._note(n, bad[0])
        return result

    def _note(self, node: fx.Node, value: Tensor) -> None:
        self._noted.append(node)
        wrong = value.isnan() if value.isnan().any() else value.isinf()
        self.kind[node] = "NaN" if value.isnan().any() else "infinity"
        if value.dim() and len(value) == self._batch:  # else the layout hides the batch
            of_sample = wrong.reshape(self._batch, -1).any(1)
            self._samples[node] = of_sample.nonzero().flatten().tolist()

    def cause(self, output: Any) -> fx.Node:
        """The first node before ``output`` whose value is NaN (or infinite), as that of ``output`` is."""
        leading = set(leading_to(self.graph, [output]))
        noted = [node for node in self.forward if node in leading]
        made = (node for node in noted if self.kind[node] == self.kind[output])
        return next(made, noted[0])

    def samples(self, node: fx.Node) -> str:
        """Which samples of the batch are affected, in words."""
        found = self._samples.get(node, [])
        if not found:
            return ""
        more = " …" if len(found) > MAX_SHOWN else ""
        listed = ", ".join(map(str, found[:MAX_SHOWN]))
        return f" for sample {listed}" if len(found) == 1 else f" for samples {listed}{more}"


def _path(node: fx.Node) -> str:
    calls = node.meta.get("module_calls", ())
    return f" (module '{calls[-1][0]}')" if calls and calls[-1][0] else ""


def _advice(node: fx.Node, kind: str) -> str:
    name = node.name if node.op == "call_module" else name_of(node)
    if kind == "NaN" and "softmax" in name:
        return ": a row whose every entry is masked has no softmax; leave one entry unmasked"
    return ""


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and value.is_floating_point():
        yield value
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
