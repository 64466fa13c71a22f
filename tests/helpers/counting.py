"""Counts of the operations that a call executes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Called(TorchDispatchMode):
    """Counts the calls of operations, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def called(call: Callable[[], object]) -> Counter[str]:
    """What a call executes, once everything is made."""
    call()
    with Called() as mode:
        call()
    return mode.counts


def convolutions(call: Callable[[], object]) -> int:
    """How many convolutions a call executes, forward and adjoint, once everything is made."""
    return sum(count for name, count in called(call).items() if "conv" in name)
