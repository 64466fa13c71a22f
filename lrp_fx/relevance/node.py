"""The base of all relevance nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lrp_fx.relevance.causes import Taken
from lrp_fx.stabilizer import may_write


class RelevanceNode(nn.Module):
    """One node of the relevance pass: the relevance of an operation's output in, of its inputs out.

    Subclasses write :meth:`propagate`, and :meth:`taken` where not all relevance goes on. The
    relevance pass runs outside autocast: under autocast the operands come in mixed dtypes and are
    cast to that of the relevance, at least float32.
    """

    books: ClassVar[Literal["both", "arrival", "departure", "nothing"]] = "both"
    """Where the ledger looks for the relevance of an operation that has several nodes: the first sees
    it arrive, the last sees it leave, and reads what the first returned."""

    result: ClassVar[Literal["new", "moved", "shared"]] = "shared"
    """What the results share memory with: ``new`` with nothing; ``moved`` each with a part of its own of
    the relevance that came in; ``shared`` with whatever it may be."""
    overwrites = False
    """Whether nobody else reads the relevance that comes in, so that it may be overwritten."""

    def _may_overwrite(self) -> bool:
        """Whether to do so now."""
        return self.overwrites and may_write()

    precision: torch.dtype | None = None
    """What the operands are cast to before the rule; None for no cast."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run :meth:`forward`, without the hooks that the user registered for all modules."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run :meth:`propagate`, outside autocast."""
        if self.precision is not None:
            args, kwargs = _cast(args, self.precision), _cast(kwargs, self.precision)
        return _outside_autocast(self.propagate, args, kwargs)

    def account(self, *args: Any, **kwargs: Any) -> Taken:
        """Run :meth:`taken`, outside autocast."""
        taken: Taken = _outside_autocast(self.taken, args, kwargs)
        return taken

    def extra_repr(self) -> str:
        """The rule, where the node has one."""
        return str(getattr(self, "rule", ""))

    def propagate(self, *args: Any, **kwargs: Any) -> Any:
        """Relevance of the inputs from the relevance of the output, the operands and the arguments."""
        raise NotImplementedError

    def taken(self, *args: Any, **kwargs: Any) -> Taken:
        """What :meth:`propagate` with these arguments keeps, by cause: nothing, unless overridden.

        It is derived from the rule's formula and not from what :meth:`propagate` returns, so that each
        checks the other.
        """
        return {}


class EdgeRelevance(RelevanceNode):
    """What stands on an edge, before the rule of the node that relevance enters: relevance in and out.

    Filters, hooks and masks are such nodes. What they take away is booked as ``filter``.
    """

    kind = "edge"
    """How the ledger calls it."""


def _outside_autocast(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    device = _device_type((args, kwargs))
    if device is None or not torch.is_autocast_enabled(device):
        return function(*args, **kwargs)
    dtype = _relevance_dtype(args[0] if args else kwargs)
    with torch.autocast(device, enabled=False):
        return function(*_cast(args, dtype), **_cast(kwargs, dtype))


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        return next((t for t in map(_first_tensor, value) if t is not None), None)
    return None


def _device_type(args: tuple[Any, ...]) -> str | None:
    tensor = _first_tensor(args)
    return None if tensor is None else tensor.device.type


def _relevance_dtype(relevance: Any) -> torch.dtype:
    tensor = _first_tensor(relevance)
    return torch.float32 if tensor is None else torch.promote_types(tensor.dtype, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return type(value)(_cast(item, dtype) for item in value)
    if isinstance(value, dict):
        return {key: _cast(item, dtype) for key, item in value.items()}
    return value
