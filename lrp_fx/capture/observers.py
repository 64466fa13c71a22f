"""Finding the user's forward hooks that only observe; captures leave them out."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.copier import BEFORE_FORWARD, FORWARD_HOOKS, Hooks
from lrp_fx.capture.members import walk
from lrp_fx.capture.running import SAME_KERNELS, all_close, run_isolated, run_model
from lrp_fx.errors import InputError
from lrp_fx.graph import global_hooks, members_of, tree_flatten, version_of


def forward_hooks(model: nn.Module) -> Hooks:
    """All forward hooks and forward pre-hooks of the model's modules."""
    return frozenset(
        (id(module), key)
        for _, module in walk(model)
        for name in FORWARD_HOOKS
        for key in getattr(module, name)
    )


def has_global_hooks() -> bool:
    """Whether there are global forward hooks, whose state is not part of any signature."""
    return any(global_hooks())


def assumed_observers(model: nn.Module) -> Hooks:
    """The hooks that are assumed to be observers as long as there are no inputs for a test run.

    These are all hooks except the pre-hooks of modules with plain tensor attributes: such a
    pre-hook may compute the attribute, as in weight normalization and pruning.
    """
    acting = frozenset(
        (id(module), key)
        for _, module in walk(model)
        if any(isinstance(value, Tensor) for value in vars(module).values())
        for key in getattr(module, BEFORE_FORWARD)
    )
    return forward_hooks(model) - acting


def observers(model: nn.Module, arguments: Arguments) -> Hooks:
    """The hooks that do not change what the model computes, found by test runs on copies.

    A hook acts if it returns a value or writes to what it was given; a pre-hook also if it writes
    to a tensor of its module. A hook may act in another way: it may store something that the model
    reads. So the model also has to give the same outputs without the hooks that seem to observe.
    This is tested on changed inputs, because on the same inputs the model could read what an
    earlier run has stored.
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

    run_isolated(model, arguments, run)
    quiet = hooks - acting
    if not quiet:
        return quiet
    for values in (_others(arguments), arguments.tensors):
        try:
            unseen = replace(arguments, tensors=values)
            own, mine = run_model(model, unseen), run_model(model, unseen, quiet)
        except InputError:  # the model may not accept the changed values
            continue
        return quiet if all_close(own, mine, SAME_KERNELS) else frozenset()
    return frozenset()


def _watched(hook: Any, note: Any, before: bool, module: nn.Module, *given: Any) -> Any:
    """Call a hook, and call ``note`` if the hook acts."""
    seen = _state(module, given, before)
    result = hook(module, *given)
    now = _state(module, given, before)
    if result is not None or not _same(seen, now):
        note()
    return result


def _state(module: nn.Module, given: Any, before: bool) -> list[tuple[Any, int | None]]:
    """The values that a hook may write to, with their version counters."""
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
    """The arguments with other values: floating point tensors changed, or else integers reordered."""
    tensors = arguments.tensors
    if any(t.is_floating_point() for t in tensors):
        return tuple(
            t.flip(tuple(range(t.dim()))) * 0.75 if t.is_floating_point() else t for t in tensors
        )
    return tuple(t.flip(-1) if t.dim() else t for t in tensors)
