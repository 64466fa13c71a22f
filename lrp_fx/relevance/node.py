"""The base class of all relevance nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from lrp_fx.relevance.causes import Taken, of_constants
from lrp_fx.rules import may_write


class RelevanceNode(nn.Module):
    """A node of the relevance pass: from the relevance of an output to that of the inputs.

    Subclasses implement :meth:`propagate`, with the formula in their docstring, and also
    :meth:`taken` if some relevance is not passed on. The relevance pass runs outside autocast. Under
    autocast, the operands have mixed dtypes; they are cast to the dtype of the relevance, but at
    least to float32.
    """

    books: ClassVar[Literal["both", "arrival", "departure", "nothing"]] = "both"
    """What the ledger books at this node. Most nodes are the only one of their operation: ``both``. If
    an operation has several nodes, relevance arrives at the first (``arrival``) and leaves from the
    last (``departure``). Nodes that return no relevance are booked as ``nothing``."""

    result: ClassVar[Literal["new", "moved", "shared"]] = "shared"
    """What the results may share memory with: nothing (``new``), each with a separate part of the
    relevance that came in (``moved``), or anything (``shared``)."""
    overwrites: bool = False
    """Whether no other node reads the relevance that comes in, so that it may be overwritten."""
    precision: torch.dtype | None = None
    """The dtype to which all operands are cast first; None for no cast."""

    def with_settings(
        self, *, precision: torch.dtype | None = None, overwrites: bool | None = None
    ) -> Self:
        """A copy of this node with another precision, or that may overwrite; None keeps a setting."""
        twin = copy(self)
        twin.precision = self.precision if precision is None else precision
        twin.overwrites = self.overwrites if overwrites is None else overwrites
        return twin

    def _may_overwrite(self) -> bool:
        """Whether the relevance that comes in may be overwritten in this call."""
        return self.overwrites and may_write()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run :meth:`forward` without the user's global module hooks."""
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
        """The operation and the rule, as far as the node has them."""
        packet, name = getattr(self, "packet", None), getattr(self, "name", "")
        known = (name if packet is None else packet.__name__, str(getattr(self, "rule", "")))
        return ", ".join(filter(None, known))

    def propagate(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the relevance of the inputs from that of the output and from the operands."""
        raise NotImplementedError

    def taken(self, *args: Any, **kwargs: Any) -> Taken:
        """The relevance that :meth:`propagate` keeps, by cause; nothing unless overridden.

        Subclasses derive it from the formula of the rule and not from the result of
        :meth:`propagate`, so that the two check each other.
        """
        return {}


class SharingRelevance(RelevanceNode):
    """A node that shares relevance out to several operands. What a constant would get, it keeps.

    Subclasses implement :meth:`shares`.

    Args:
        wanted: for each operand, whether its relevance is wanted.
    """

    def __init__(self, wanted: Sequence[bool]) -> None:
        super().__init__()
        self.wanted = tuple(wanted)

    def shares(self, *args: Any, **kwargs: Any) -> Sequence[Tensor]:
        """The relevance of every operand, given that of the output and the operands."""
        raise NotImplementedError

    def propagate(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """The relevance of each operand whose relevance is wanted, of its shape."""
        shares = zip(self.shares(*args, **kwargs), self.wanted, strict=True)
        return [share for share, wanted in shares if wanted]

    def taken(self, *args: Any, **kwargs: Any) -> Taken:
        """The relevance of the operands whose relevance is not wanted."""
        shares = zip(self.shares(*args, **kwargs), self.wanted, strict=True)
        return of_constants(share for share, wanted in shares if not wanted)


class EdgeRelevance(RelevanceNode):
    """A node that changes relevance before it enters the rule of an operation: ``R_in = f(R)``.

    Filters, hooks and masks are such nodes. The result has the shape of ``R``. The relevance that
    they remove is booked as ``filter``.
    """

    kind = "edge"
    """The name of this kind of node in the ledger."""


def _outside_autocast(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    device = _device_type((args, kwargs))
    # a meta tensor has no autocast, and to ask for it is an error
    if device in (None, "meta") or not torch.is_autocast_enabled(device):
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
        for each in value:  # older compilers cannot follow next() with a default
            found = _first_tensor(each)
            if found is not None:
                return found
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
