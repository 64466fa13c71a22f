"""Checks that a graph computes what the model computes; finds the first module that differs."""

from __future__ import annotations

import functools
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.running import SAME_KERNELS, cloned, close, run_isolated
from lrp_fx.capture.trail import Follower
from lrp_fx.graph import Call, draws, forget_shapes

REORDERED = {torch.float64: 1e-4, torch.float32: 2e-2}
"""Relative tolerances for a graph with folded batch norms. Folding changes the rounding, and deep
networks amplify the difference (by 1e10 in a network whose norms have tiny variances). A wrong fold
causes a difference of order one."""


def reproduces(
    module: fx.GraphModule,
    arguments: Arguments,
    own: list[object],
    tolerances: dict[torch.dtype, float],
    follower: Follower | None = None,
) -> bool:
    """Whether the graph computes the flat outputs ``own`` from the arguments, up to a tolerance.

    Outputs that the graph draws at random are left out, but some output must be left.

    Args:
        module: the graph.
        arguments: the model's arguments.
        own: the outputs.
        tolerances: for each dtype, relative to the largest entry.
        follower: follows the run of the graph.
    """
    inputs = cloned(arguments)

    def call() -> tuple[object, ...]:
        outputs: tuple[object, ...] = module.forward(*inputs)  # does not call global hooks
        return outputs

    try:
        with torch.no_grad():
            mine = call() if follower is None else follower.run(inputs, call)
            random = [False] * len(mine)
            if any(map(draws, module.graph.nodes)):
                again = module.forward(*cloned(arguments))
                random = [not close(a, b, tolerances) for a, b in zip(mine, again, strict=True)]
    except Exception:
        return False
    if len(own) != len(mine) or (random and all(random)):
        return False
    pairs = zip(own, mine, random, strict=True)
    return all(is_random or close(a, b, tolerances) for a, b, is_random in pairs)


def same_in_double(one: fx.GraphModule, other: fx.GraphModule, arguments: Arguments) -> bool:
    """Whether two graphs compute the same in float64.

    In float32 a deep network may amplify the rounding of a correct fold beyond any tolerance.
    """
    tensors = tuple(t.double() if t.is_floating_point() else t for t in arguments.tensors)
    exact = replace(arguments, tensors=tensors)
    for each in (one, other):
        forget_shapes(each)  # they hold values that cannot be copied
    try:
        with torch.no_grad():
            expected = list(deepcopy(one).double().forward(*cloned(exact)))
        twin = deepcopy(other).double()
    except Exception:
        return False
    return reproduces(twin, exact, expected, REORDERED)


def first_difference(model: nn.Module, captured: Captured, arguments: Arguments) -> str:
    """Words for an error message: the first module whose output the graph does not reproduce."""
    last: dict[Call, fx.Node] = {}
    for node in captured.module.graph.nodes:
        for call in node.meta.get("module_calls", ()):
            last[call] = node
    values: dict[fx.Node, object] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            values[n] = result = super().run_node(n)
            return result

    try:
        with torch.no_grad():
            Recorder(captured.module, garbage_collect_values=False).run(*cloned(arguments))
        outputs = _outputs_of_modules(model, arguments)
    except Exception as error:
        return f" ({error})"
    for call, own in outputs:
        if call in last and isinstance(own, Tensor):
            node = last[call]
            if not close(own, values.get(node), SAME_KERNELS):
                if not call[0]:
                    return ", in its own forward"
                source = f" at {node.meta['source']}" if node.meta.get("source") else ""
                return f", first in module '{call[0]}'{source}"
    return ""


def _outputs_of_modules(model: nn.Module, arguments: Arguments) -> list[tuple[Call, object]]:
    """The output of each module call in a run of a copy of the model, in order."""

    def run(copy: nn.Module, given: Arguments) -> list[tuple[Call, object]]:
        outputs: list[tuple[Call, object]] = []
        counts: dict[str, int] = {}

        def note(path: str, module: nn.Module, inputs: object, output: object) -> None:
            count = counts.get(path, 0)
            counts[path] = count + 1
            kept = output.clone() if isinstance(output, Tensor) else output
            outputs.append(((path, count), kept))

        for path, module in copy.named_modules():
            module.register_forward_hook(functools.partial(note, path))
        given.call(copy, given.tensors)
        return outputs

    return run_isolated(model, arguments, run)
