"""Which forward hooks of the user's only observe: no capture calls them with what stands for tensors."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.members import walk
from lrp_fx.capture.running import SAME_KERNELS, close, isolated, run_model
from lrp_fx.capture.structural_copy import BEFORE_FORWARD, FORWARD_HOOKS, Hooks
from lrp_fx.errors import InputError
from lrp_fx.graph import global_hooks, members_of, tree_flatten, version_of


def forward_hooks(model: nn.Module) -> Hooks:
    """All forward hooks of the model's modules, those before a forward too."""
    return frozenset(
        (id(module), key)
        for _, module in walk(model)
        for name in FORWARD_HOOKS
        for key in getattr(module, name)
    )


def has_global_hooks() -> bool:
    """Whether there are forward hooks of all modules, whose state nothing here looks at."""
    return any(global_hooks())


def assumed_observers(model: nn.Module) -> Hooks:
    """The hooks that are taken for observers while there are no inputs to find out with.

    All but those before the forward of a module with tensor attributes, which may compute these
    (weight norm, pruning).
    """
    acting = frozenset(
        (id(module), key)
        for _, module in walk(model)
        if any(isinstance(value, Tensor) for value in vars(module).values())
        for key in getattr(module, BEFORE_FORWARD)
    )
    return forward_hooks(model) - acting


def observers(model: nn.Module, arguments: Arguments) -> Hooks:
    """The hooks that change nothing of what the model computes.

    A hook acts if, in a run, it returns something, writes to what it was given, or, before a forward,
    to a tensor of its module. A hook may also leave something behind that the model reads; so the
    model must compute the same without the others, on values that it has not seen, for on others what
    an earlier run left would do.
    """
    hooks = forward_hooks(model)
    if not hooks:
        return hooks
    acting: set[tuple[int, int]] = set()

    def run(copy: nn.Module, given: Arguments) -> None:
        for (_, own), (_, module) in zip(walk(model), walk(copy), strict=True):
            for name in FORWARD_HOOKS:
                known = getattr(module, name)
                for key, hook in known.items():
                    note = functools.partial(acting.add, (id(own), key))
                    known[key] = functools.partial(_watched, hook, note, name == BEFORE_FORWARD)
        given.call(copy, given.tensors)

    isolated(model, arguments, run)
    quiet = hooks - acting
    if not quiet:
        return quiet
    for values in (_others(arguments), arguments.tensors):
        try:
            unseen = replace(arguments, tensors=values)
            own, mine = run_model(model, unseen), run_model(model, unseen, quiet)
        except InputError:  # not every model takes any values
            continue
        same = len(own) == len(mine) and all(
            close(a, b, SAME_KERNELS) for a, b in zip(own, mine, strict=True)
        )
        return quiet if same else frozenset()
    return frozenset()


def _watched(hook: Any, note: Any, before: bool, module: nn.Module, *given: Any) -> Any:
    """Call a hook, and note if it acts."""
    seen = _state(module, given, before)
    result = hook(module, *given)
    now = _state(module, given, before)
    if result is not None or not _same(seen, now):
        note()
    return result


def _state(module: nn.Module, given: Any, before: bool) -> list[tuple[Any, int | None]]:
    """What a hook may write to: leaves and their versions."""
    leaves = tree_flatten(given)[0]
    if before:
        holders = (vars(module), *members_of(module)[:2])
        leaves += [v for held in holders for v in held.values() if isinstance(v, Tensor)]
    return [(leaf, _version(leaf)) for leaf in leaves]


def _same(one: list[tuple[Any, int | None]], other: list[tuple[Any, int | None]]) -> bool:
    return len(one) == len(other) and all(
        a is b and version == now for (a, version), (b, now) in zip(one, other, strict=True)
    )


def _version(leaf: Any) -> int | None:
    if not isinstance(leaf, Tensor) or leaf.is_inference():
        return None
    return version_of(leaf)


def _others(arguments: Arguments) -> tuple[Tensor, ...]:
    """Other values in the same places: floating ones changed, or tokens in another order."""
    tensors = arguments.tensors
    if any(t.is_floating_point() for t in tensors):
        return tuple(
            t.flip(tuple(range(t.dim()))) * 0.75 if t.is_floating_point() else t for t in tensors
        )
    return tuple(t.flip(-1) if t.dim() else t for t in tensors)
