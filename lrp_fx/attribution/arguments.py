"""The arguments of a call: checks them, and arranges them for the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lrp_fx._common import all_finite
from lrp_fx.attribution.given import Named
from lrp_fx.capture import Arguments
from lrp_fx.errors import InputError

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""The floating-point dtypes of inputs: those that torch computes in."""
MAX_SHOWN = 8
"""The largest number of samples that a message names."""


def check_inputs(inputs: tuple[Any, ...]) -> None:
    """Refuse inputs that cannot be explained.

    Raises:
        InputError: as :func:`check_forms` and :func:`check_values`.
    """
    check_forms(inputs)
    check_values(inputs)


def check_forms(inputs: tuple[Any, ...]) -> None:
    """Refuse inputs that cannot be explained with any values.

    Raises:
        InputError: unless all inputs are dense tensors of floating-point numbers, int32 or int64,
            with one common, non-empty batch dimension.
    """
    if isinstance(inputs, PackedSequence):
        raise InputError(
            "the input is a PackedSequence, which no graph can hold: its sizes are values. Pass the "
            "padded tensor to a model that takes it, one length at a time where padding must not count"
        )
    if not inputs:
        raise InputError("there are no inputs: pass a tensor or a tuple of tensors")
    for position, value in enumerate(inputs):
        name = name_of_input(inputs, position)
        if not isinstance(value, Tensor):
            raise InputError(
                f"{name} must be a tensor, got {type(value).__name__}: several inputs are a tuple of "
                "tensors or of NumPy arrays, or a mapping by the names of the model's arguments; pass "
                "what gets no relevance as an additional argument"
            )
        if not value.is_floating_point() and value.dtype not in (torch.int32, torch.int64):
            raise not_tokens(name, value)
        if value.is_floating_point() and value.dtype not in FLOATS:
            words = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
            raise InputError(f"{name} has dtype {value.dtype}: convert it to one of {words}")
        if value.layout != torch.strided or value.is_meta or value.is_nested:
            layout = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
            kind = "meta" if value.is_meta else layout
            raise InputError(f"{name} is a {kind} tensor: pass a dense one with values")
        if value.dim() == 0:
            raise InputError(
                f"{name} has no dimensions: the first one is the batch, x[None] adds it"
            )
        if value.shape[0] == 0:
            raise InputError(f"{name} has an empty batch: shape {tuple(value.shape)}")
        if value.shape[0] != inputs[0].shape[0]:
            raise InputError(
                f"the inputs have different batch sizes: {inputs[0].shape[0]} and {value.shape[0]}; what "
                "is not explained, such as offsets, goes into additional_forward_args"
            )


def check_values(inputs: tuple[Tensor, ...]) -> None:
    """Refuse inputs that hold NaN or infinity.

    Raises:
        InputError: if one does; it says in which samples.
    """
    for position, value in enumerate(inputs):
        if not all_finite(value):
            raise _not_finite(name_of_input(inputs, position), value)


def name_of_input(inputs: tuple[Any, ...], position: int) -> str:
    """Words for an input in messages."""
    if isinstance(inputs, Named):
        return f"the input '{inputs.names[position]}'"
    return f"input {position}" if len(inputs) > 1 else "the input"


def _not_finite(name: str, value: Tensor) -> InputError:
    """The error for an input with NaN or infinity: how many values, in which samples, where first."""
    places = (~torch.isfinite(value)).nonzero()
    samples = sorted(set(places[:, 0].tolist()))
    listed = ", ".join(map(str, samples[:MAX_SHOWN])) + (" …" if len(samples) > MAX_SHOWN else "")
    of = f"sample {listed}" if len(samples) == 1 else f"samples {listed}"
    return InputError(
        f"{name} holds {len(places)} NaN or infinite values, in {of}; the first is at "
        f"{tuple(places[0].tolist())}"
    )


def not_tokens(name: str, value: Tensor) -> InputError:
    """The error for an input that is not floating point and that no relevance can reach."""
    return InputError(
        f"{name} has dtype {value.dtype}: relevance is for floating point inputs, and for integers that "
        "choose rows of a table (nn.Embedding, table[i], one_hot) or are used as numbers, not for masks "
        "and positions; pass it as an additional argument, or convert it as the model expects (images "
        "to float, normalized; words and categories to int64)"
    )


def arguments_of(inputs: tuple[Tensor, ...], additional: object) -> Arguments:
    """The arguments of the model: the inputs, then the additional ones; a dict gives keywords."""
    if isinstance(inputs, Named):
        further = additional if isinstance(additional, dict) else {}
        return Arguments.of((), {**dict(zip(inputs.names, inputs, strict=True)), **further})
    if additional is None:
        return Arguments.of(inputs)
    if isinstance(additional, dict):
        return Arguments.of(inputs, additional)
    return Arguments.of(inputs + (additional if isinstance(additional, tuple) else (additional,)))
