"""Chooses which of a model's outputs is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from lrp_fx._common import is_int
from lrp_fx.capture import Captured
from lrp_fx.errors import CaptureError, InputError, OptionError
from lrp_fx.graph import tree_unflatten

OutputKey = int | str | tuple[int | str, ...]
"""An index or a key of the model's output. A tuple of them descends step by step."""


def candidates(outputs: Sequence[object]) -> tuple[bool, ...]:
    """Which of the flat outputs are explained by default: floating, with two dimensions or more."""
    return tuple(
        isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() >= 2
        for leaf in outputs
    )


def explained_result(
    captured: Captured, key: OutputKey | None, suitable: Sequence[bool] | None
) -> tuple[fx.Node, str]:
    """The output node to explain, and a note for the plan if there was a choice.

    Args:
        captured: the graph.
        key: the requested output; None for the only tensor, or the first suitable one.
        suitable: the :func:`candidates` among the flat outputs; None before a run has shown them.

    Raises:
        OptionError: if there is no such output, or no suitable one.
        InputError: if the model returns no tensor.
        CaptureError: if ``key`` is None, there are several tensors, and ``suitable`` is None.
    """
    results = captured.results()
    structured = tree_unflatten(results, captured.outputs)
    if key is not None:
        return _asked_for(structured, key), f"output: {key!r}"
    tensors = [leaf for leaf in results if isinstance(leaf, fx.Node)]
    if not tensors:
        raise InputError(f"the model returns no tensor but {structured!r}")
    if len(tensors) == 1:
        return tensors[0], ""
    several = f"the model's output holds {len(tensors)} tensors ({_known(structured)})"
    if suitable is None:
        raise CaptureError(
            f"{several}, and which is explained depends on their shapes: pass example inputs, plan(x), "
            "or say which with LRPFx(..., output=...)"
        )
    for leaf, suits in zip(results, suitable, strict=True):
        if suits:
            place = ", ".join(map(repr, _place(structured, leaf)))
            return leaf, f"output: {place}, the first floating tensor of two dimensions or more"
    raise OptionError(
        f"{several}, none of them floating with two dimensions or more: say which one to explain with "
        "LRPFx(..., output=...)"
    )


def _asked_for(structured: Any, key: OutputKey) -> fx.Node:
    value = structured
    for step in key if isinstance(key, tuple) else (key,):
        entries = _entries(value)
        values = list(entries.values())
        if step in list(entries):  # a list, because the step may be unhashable
            value = entries[step]
        elif is_int(step) and -len(values) <= step < len(values):
            value = values[step]
        else:
            raise OptionError(f"the model's output has no {step!r}; it has {_known(value)}")
    if not isinstance(value, fx.Node):
        raise OptionError(f"the output {key!r} is not a tensor but {type(value).__name__}")
    return value


def _place(structured: Any, leaf: object) -> tuple[Any, ...]:
    """The keys that lead to a leaf; () if it is not there."""
    for key, value in _entries(structured).items():
        if value is leaf:
            return (key,)
        if below := _place(value, leaf):
            return (key, *below)
    return ()


def _entries(structured: Any) -> dict[Any, Any]:
    """The entries of one level of the output, by key; by index for tuples and lists without names."""
    if isinstance(structured, Mapping):
        return dict(structured)
    if isinstance(structured, (tuple, list)):
        return dict(
            zip(getattr(structured, "_fields", range(len(structured))), structured, strict=True)
        )
    return {}


def _known(structured: Any) -> str:
    """The entries of one level of the output, in words."""
    entries = _entries(structured)
    if not entries:
        return "one tensor"
    if isinstance(next(iter(entries)), int):
        return f"indices 0 to {len(entries) - 1}"
    return f"keys {', '.join(map(repr, entries))}"
