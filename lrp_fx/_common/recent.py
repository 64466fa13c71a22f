"""Memories of bounded size, which forget the least recently used value first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SHAPES = 256
"""For how many shapes of the inputs something is remembered, such as sentences of each length."""


class Recent(Generic[K, V]):
    """Values by key, of which at most ``size`` are kept. Safe to use from several threads.

    Args:
        size: the largest number of values.
    """

    def __init__(self, size: int = SHAPES) -> None:
        self.size = size
        self._values: dict[K, V] = {}  # in the order of their last use

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key; it is made if it is not known."""
        try:
            value = self._values[key] = self._values.pop(key)
        except KeyError:
            value = make()
            self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember a value as the one that was used last."""
        self._values.pop(key, None)
        self._values[key] = value
        while len(self._values) > self.size:
            self._values.pop(next(iter(self._values)), None)

    def values(self) -> list[V]:
        """The values, that which was used last at the end."""
        return list(self._values.values())

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()

    def copy(self, change: Callable[[V], V] = lambda value: value) -> Recent[K, V]:
        """A memory of its own with the same values, each changed by a function."""
        twin: Recent[K, V] = Recent(self.size)
        twin._values = {key: change(value) for key, value in self._values.items()}
        return twin
