"""The emitter, by which lowerings record ATen calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lrp_fx.graph import Packet

Lowering = Callable[..., Any]


class NotLowered(Exception):
    """A call has no ATen form that is independent of shapes; another capture has to be used."""


@dataclass(frozen=True)
class Emitter:
    """Records ATen calls.

    Args:
        call: ``call(packet, args, kwargs)`` records a call and returns a proxy for its value.
        call_inplace: likewise, for an operation that overwrites its first argument.
        is_tensor: whether a value is a tensor or a proxy for one, as opposed to a size or a number.
    """

    call: Callable[[Packet, tuple[Any, ...], dict[str, Any]], Any]
    call_inplace: Callable[[Packet, tuple[Any, ...], dict[str, Any]], Any]
    is_tensor: Callable[[Any], bool]

    def __call__(self, packet: Packet, *args: Any, **kwargs: Any) -> Any:
        """Record a call of ``packet`` with these arguments."""
        return self.call(packet, args, kwargs)
