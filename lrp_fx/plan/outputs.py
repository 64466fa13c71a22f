"""Which of a model's outputs is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from lrp_fx._checks import is_int
from lrp_fx.capture import Captured
from lrp_fx.errors import CaptureError, InputError, OptionError
from lrp_fx.graph import tree_unflatten

OutputKey = int | str | tuple[int | str, ...]
"""An index or a key of the model's output; a tuple of them goes down step by step."""


def candidates(outputs: Sequence[object]) -> tuple[bool, ...]:
    """Which of the flat outputs could be explained unasked: floating, of two dimensions or more."""
    return tuple(
        isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() >= 2
        for leaf in outputs
    )


def explained_result(
    captured: Captured, key: OutputKey | None, suitable: Sequence[bool] | None
) -> tuple[fx.Node, str]:
    """The node of the output that is explained, and a note where there was a choice.

    Args:
        captured: the graph.
        key: which output is asked for; None for the only tensor, or the first suitable one.
        suitable: the :func:`candidates` among the flat outputs; None while no run has shown them.

    Raises:
        OptionError: if there is no such output, or none that is suitable.
        InputError: if there is no tensor at all.
        CaptureError: if nothing is asked for and nothing known of the tensors.
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
        if step in list(entries):  # in the list: it may be unhashable
            value = entries[step]
        elif is_int(step) and -len(values) <= step < len(values):
            value = values[step]
        else:
            raise OptionError(f"the model's output has no {step!r}; it has {_known(value)}")
    if not isinstance(value, fx.Node):
        raise OptionError(f"the output {key!r} is not a tensor but {type(value).__name__}")
    return value


def _place(structured: Any, leaf: object) -> tuple[Any, ...]:
    """The keys that lead to a leaf; () where it is not there."""
    for key, value in _entries(structured).items():
        if value is leaf:
            return (key,)
        if below := _place(value, leaf):
            return (key, *below)
    return ()


def _entries(structured: Any) -> dict[Any, Any]:
    """What a level of the output holds, by key; by index in tuples and lists without names."""
    if isinstance(structured, Mapping):
        return dict(structured)
    if isinstance(structured, (tuple, list)):
        return dict(
            zip(getattr(structured, "_fields", range(len(structured))), structured, strict=True)
        )
    return {}


def _known(structured: Any) -> str:
    """What a level of the output holds, in words."""
    entries = _entries(structured)
    if not entries:
        return "one tensor"
    if isinstance(next(iter(entries)), int):
        return f"indices 0 to {len(entries) - 1}"
    return f"keys {', '.join(map(repr, entries))}"


__all__ = ["OutputKey", "candidates", "explained_result"]
