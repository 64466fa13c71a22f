"""The interface of metrics, and the two functions that they judge by: forward pass and explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from lrp_fx._common import all_finite, check_callable
from lrp_fx.errors import InputError, OptionError, TargetError, blamed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from numpy import ndarray

Explain = Callable[[Tensor, Tensor], Tensor]
"""From inputs (N, …) and targets (N,) to relevance of the inputs' shape, or (N, H, W) of images."""

Forward = Callable[[Tensor], Tensor]
"""From inputs (N, …) to logits (N, classes), in any runtime."""

Targets: TypeAlias = "Tensor | Sequence[int] | ndarray"
"""The classes to explain, ``(N,)``, integers."""

Output = Literal["probability", "logit"]
"""The output that is followed: the softmax at the target, or the logit itself."""


class Metric(Protocol):
    """Judges the maps of a method, one score for each sample.

    The metrics of this package are frozen dataclasses whose fields are the settings, so that their
    ``repr`` states all of them.
    """

    @property
    def name(self) -> str:
        """The name in tables. It states the imputer and every setting that is not the default."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score means a better map."""

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores.

        Args:
            forward: the model.
            explain: the method.
            inputs: ``(N, …)``.
            targets: the explained classes, ``(N,)``, int64.

        Returns:
            ``(N,)``, float64.
        """


def name_of(metric: DataclassInstance, base: str) -> str:
    """The base name with the imputer and with each setting that is not the default.

    The batch size is left out, because it changes no score. A label stands alone.
    """
    parts = []
    for field in fields(metric):
        value = getattr(metric, field.name)
        default = value == field.default
        if field.name == "imputer" or (field.name in ("regions", "label") and not default):
            parts.append(str(value))
        elif field.repr and field.name != "batch_size" and not default:
            parts.append(f"{field.name}={value}")
    return f"{base} ({', '.join(parts)})" if parts else base


def settings_of(metric: DataclassInstance) -> str:
    """All fields of a metric, as its ``repr`` shows them; of a tensor the type and the shape."""
    parts = [f"{field.name}={shown(getattr(metric, field.name))}" for field in fields(metric)]
    return f"{type(metric).__name__}({', '.join(parts)})"


def shown(value: object) -> str:
    """The ``repr`` of a setting; of a tensor the type and the shape."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)


def check_label(label: object) -> None:
    """Raise an ``OptionError`` unless the value is a text or None."""
    if label is not None and (not isinstance(label, str) or not label):
        raise OptionError(f"label must be a text of one letter or more, or None, got {label!r}")


def check_metric(metric: object) -> None:
    """Raise an ``OptionError`` unless the value is a metric."""
    check_callable("each metric", metric)
    if not isinstance(getattr(metric, "name", None), str) or not isinstance(
        getattr(metric, "higher_is_better", None), bool
    ):
        raise OptionError(
            "a metric must be one of lrp_fx.evaluate, or have a name and higher_is_better as they do, "
            f"got {metric!r}"
        )


def relevance_of(explain: Explain, inputs: Tensor, targets: Tensor) -> Tensor:
    """The relevance of the inputs, in float64, with as many dimensions as the inputs.

    Relevance ``(N, H, W)`` of images gets a channel of size 1, and relevance ``(N, T)`` of embedded
    tokens ``(N, T, D)`` a feature of size 1. Relevance ``(N, 1, H, W)``, ``(N, 1, T)`` and
    ``(N, T, 1)`` stays. The method gets a copy of the inputs, so it may write to them.

    Raises:
        InputError: if the method returned another shape, complex numbers, NaN or infinity.
    """
    relevance = explain(inputs.clone(), targets.clone())
    if not isinstance(relevance, Tensor):
        raise InputError(f"the method returned {type(relevance).__name__} instead of a tensor")
    if relevance.layout is not torch.strided or relevance.is_nested or relevance.is_meta:
        what = "without data" if relevance.is_meta else f"of layout {relevance.layout}, or nested,"
        raise InputError(f"the method returned relevance {what} instead of a dense tensor")
    found, wanted = tuple(relevance.shape), tuple(inputs.shape)
    if relevance.is_complex():
        raise InputError(f"the method returned complex relevance ({relevance.dtype})")
    relevance = relevance.detach().double()
    summed = []
    if len(wanted) > 2:  # without channels; a table (N, D) has none
        summed.append((*wanted[:1], 1, *wanted[2:]))
    if len(wanted) == 3:
        summed.append((*wanted[:2], 1))
    if found not in (wanted, *summed):
        if len(wanted) == 4 and found == (wanted[0], *wanted[2:]):
            relevance = relevance.unsqueeze(1)
        elif len(wanted) == 3 and found == wanted[:2]:
            if wanted[1] == wanted[2]:
                raise InputError(
                    f"the method returned relevance of shape {found} for inputs of shape {wanted}, "
                    f"which may belong to either dimension: return {(*wanted[:2], 1)} or "
                    f"{(wanted[0], 1, wanted[2])}"
                )
            relevance = relevance.unsqueeze(2)
        else:
            raise InputError(
                f"the method returned relevance of shape {found} for inputs of shape {wanted}: it "
                "must have the inputs' shape, or (N, H, W) for images"
            )
    if not all_finite(relevance):
        raise InputError("the method returned relevance that contains NaN or infinity")
    return relevance


def batches(inputs: Tensor, targets: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A few inputs ``(N, …)`` at a time, with their targets ``(N,)``."""
    return zip(torch.split(inputs, batch_size), torch.split(targets, batch_size), strict=True)


@torch.no_grad()
def follow(
    forward: Forward, inputs: Tensor, targets: Tensor, output: Output, batch_size: int
) -> Tensor:
    """The output at the targets, batch by batch.

    Args:
        forward: the model.
        inputs: ``(N, …)``.
        targets: ``(N,)``.
        output: the probability or the logit.
        batch_size: of one forward pass.

    Returns:
        ``(N,)``, float64.

    Raises:
        InputError: for the probability of a model with one output, which is always 1.
    """
    found = []
    for x, target in batches(inputs, targets, batch_size):
        logits = logits_of(forward, x).double()
        if output == "probability" and logits.shape[1] == 1:
            raise InputError(
                "the model has one output, whose softmax is 1 for every input: follow the output itself "
                "with output='logit', or return a logit for each of two classes"
            )
        values = logits.softmax(1) if output == "probability" else logits
        found.append(values.gather(1, target.to(values.device)[:, None])[:, 0])
    return torch.cat(found)


@torch.no_grad()
def logits_of(forward: Forward, inputs: Tensor) -> Tensor:
    """The logits of one batch, ``(N, classes)``.

    Raises:
        InputError: if the model returns something else, or is in train mode.
    """
    if isinstance(forward, nn.Module) and any(each.training for each in forward.modules()):
        raise InputError(
            "the model or a part of it is in train mode, where outputs are random: call model.eval()"
        )
    with blamed("the model"):
        logits = forward(inputs.clone())  # an in-place first layer would write to them
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
        what = (
            f"a tensor of shape {tuple(logits.shape)}"
            if isinstance(logits, Tensor)
            else type(logits).__name__
        )
        raise InputError(
            f"the model must return logits of shape (N, classes) for inputs of shape "
            f"{tuple(inputs.shape)}, not {what}: wrap it in a function that picks them"
        )
    return logits


def check_samples(forward: Forward, inputs: Tensor, targets: Targets) -> Tensor:
    """Check that there are samples, and a class of the model for each.

    Returns:
        The targets, ``(N,)``, int64, on the device of the inputs.

    Raises:
        InputError: if the inputs are not a batch, or the model cannot read them or returns no logits.
        TargetError: if the targets are not one class for each sample.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim < 2 or not len(inputs):
        raise InputError("inputs must be a tensor (N, …) of at least one sample")
    try:
        found = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    fractional = found.is_floating_point() or found.is_complex() or found.dtype == torch.bool
    if found.shape != inputs.shape[:1] or fractional:
        raise TargetError(
            f"targets must be integers of shape ({len(inputs)},): one class for each sample"
        )
    found = found.to(inputs.device, torch.int64)
    classes = logits_of(forward, inputs[:1]).shape[1]
    if not bool(((found >= 0) & (found < classes)).all()):
        raise TargetError(f"targets must lie between 0 and {classes - 1}, the model's last class")
    return found
