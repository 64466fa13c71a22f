"""Witnesses: the shapes with which a model's code is followed, without data.

While a model is traced, each value has one tensor without data for each witness. The first witness
has the shapes of the user's arguments. Each other one has another batch size, or another size in
one more place. A size that is the same for all witnesses is a plain number for the model's code. One
that differs becomes a value of the graph, so that the graph holds for other sizes. Where the code
asks a question, such as ``x.shape[1] > 100``, the first witness decides. A witness that answers
otherwise is dropped: from there on, the graph may hold for fewer sizes.

No witness proves that a graph holds for a shape. Each new shape is verified on the real input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import Packet, on_meta

_MOST = 4
"""Sizes that may vary, besides the batch size. Each costs the shapes of all values once more."""


class Witnesses:
    """The witnesses of one trace, numbered from 0, and which of them still agree with the first.

    Args:
        tensors: the user's tensors.
        varied: how many sizes may differ from those of the tensors; None for all.
            The batch size is the first.
    """

    def __init__(self, tensors: Sequence[Tensor], varied: int | None = None) -> None:
        rows = [_like(tensors, {})]
        rows += [_like(tensors, sizes) for sizes in _variations(tensors)[:varied]]
        self.inputs: list[list[Tensor]] = [list(column) for column in zip(*rows, strict=True)]
        """For each input its tensors without data, one for each witness."""
        self.live = list(range(len(rows)))
        """The witnesses that took part in all decisions so far; the first always does."""
        self.count = len(rows)
        self._meta: dict[int, tuple[Tensor, Tensor]] = {}

    def everywhere(self, value: Any) -> list[Any]:
        """The same value for all witnesses."""
        return [value] * self.count

    def is_same(self, values: Sequence[Any]) -> bool:
        """Whether a value is one object for all witnesses that are left."""
        return all(values[i] is values[0] for i in self.live)

    def agree(self, values: Sequence[Any]) -> bool:
        """Whether all witnesses that are left have an equal value."""
        return all(_equal(values[i], values[0]) for i in self.live)

    def decide(self, values: Sequence[Any]) -> Any:
        """The value of the first witness; those that have another are dropped."""
        self.live = [i for i in self.live if _equal(values[i], values[0])]
        return values[0]

    def results(
        self, function: Callable[..., Any], of: Callable[[int], tuple[Any, Any]], is_same: bool
    ) -> list[Any] | None:
        """What a function returns for each witness; None if it fails for the first.

        Args:
            function: an ATen operation.
            of: its positional and keyword arguments for a witness.
            is_same: they are the same for all witnesses.
        """
        try:
            first = self._result(function, *of(0))
        except Exception:
            return None
        if is_same:
            return self.everywhere(first)
        found, live = self.everywhere(None), []
        found[0] = first
        for i in self.live:
            if i:
                try:
                    found[i] = self._result(function, *of(i))
                except Exception:
                    continue
            if _kinds(found[i]) == _kinds(first):
                live.append(i)
        self.live = live
        return found

    def _result(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a function on real tensors if all are real, otherwise on tensors without data."""
        tensors = list(_tensors((args, kwargs)))
        with torch.no_grad():
            if not any(tensor.is_meta for tensor in tensors):
                return function(*args, **kwargs)
            args, kwargs = self._bare(args), {k: self._bare(v) for k, v in kwargs.items()}
            if isinstance(function, Packet):
                return on_meta(function, args, kwargs)
            return function(*args, **kwargs)

    def _bare(self, value: Any) -> Any:
        """An argument on the meta device."""
        if isinstance(value, Tensor):
            return self.bare(value)
        if isinstance(value, torch.device):
            return torch.device("meta")
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._bare, value))
        return value

    def bare(self, tensor: Tensor) -> Tensor:
        """A tensor without its data; made once for each tensor."""
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._meta:
            self._meta[id(tensor)] = tensor, tensor.detach().to("meta")
        return self._meta[id(tensor)][1]


def _variations(tensors: Sequence[Tensor]) -> list[dict[tuple[int, int], int]]:
    """For each witness but the first the sizes that it changes: the place of the tensor, the dimension.

    The first dimension of the first tensor is the batch dimension, and so is the first dimension of
    every tensor of the same size. Other dimensions of one size change together.
    """
    if not tensors or tensors[0].dim() == 0:
        return []
    batch = tensors[0].shape[0]
    whole = all(not tensor.is_floating_point() for tensor in tensors)
    together: dict[int, dict[tuple[int, int], int]] = {}
    batched: dict[tuple[int, int], int] = {}
    for place, tensor in enumerate(tensors):
        for dim, size in enumerate(tensor.shape):
            if dim == 0 and size == batch:
                batched[place, dim] = size + 1
            elif size > 1:
                # twice the size fits all that the size fits, but there may be no more positions
                new = size // 2 if whole and size > 3 else 2 * size
                together.setdefault(size, {})[place, dim] = new
    return [batched, *list(together.values())[:_MOST]]


def _like(tensors: Sequence[Tensor], sizes: dict[tuple[int, int], int]) -> list[Tensor]:
    """The tensors without data, some with other sizes."""
    return [_resized(tensor, place, sizes) for place, tensor in enumerate(tensors)]


def _resized(tensor: Tensor, place: int, sizes: dict[tuple[int, int], int]) -> Tensor:
    bare = tensor.detach().to("meta")
    if tensor.layout != torch.strided or all(at != place for at, _ in sizes):
        return bare
    shape = [sizes.get((place, dim), size) for dim, size in enumerate(tensor.shape)]
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return torch.empty_permuted(shape, order, dtype=tensor.dtype, device="meta")


def _tensors(value: Any) -> Any:
    """All tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return not one.is_meta and one.shape == other.shape and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _kinds(value: Any) -> Any:
    """What of a result has to be the same for all witnesses: all but sizes and values."""
    if isinstance(value, Tensor):
        return value.dim(), value.dtype, value.is_meta
    if isinstance(value, (list, tuple)):
        return tuple(map(_kinds, value))
    return type(value)
