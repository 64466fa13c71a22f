"""Packed sequences whose lengths are known, as in a recorded call: each is read at its own length.

A recurrent layer on packed sequences runs on each sequence alone. So relevance finds layers that it
knows, and padding gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import RECURRENT

Listed = Callable[[Tensor], Any]
"""The values of a tensor as nested lists."""


def packed_form(function: Any, args: tuple[Any, ...], listed: Listed) -> Any:
    """What a call for packed sequences returns; None for every other call.

    Args:
        function: a function of torch.
        args: its arguments.
        listed: reads the values of a tensor.
    """
    name = getattr(function, "__name__", "")
    if name == "_pack_padded_sequence":
        return _pack(*args, listed=listed)
    if name == "_pad_packed_sequence":
        return _pad(*args, listed=listed)
    if name in RECURRENT and not isinstance(args[3], bool):  # without packing: has it biases?
        return _layer(function, *args, listed=listed)
    return None


def _places(sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The time and the sequence of each packed entry, from how many sequences last at each time."""
    times = [time for time, size in enumerate(sizes) for _ in range(size)]
    return times, [sequence for size in sizes for sequence in range(size)]


def _pack(
    x: Tensor, lengths: Tensor, batch_first: bool, *, listed: Listed
) -> tuple[Tensor, Tensor]:
    longest = listed(lengths)
    sizes = [sum(length > time for length in longest) for time in range(longest[0])]
    times, sequences = (torch.tensor(each, device=x.device) for each in _places(sizes))
    data = x[sequences, times] if batch_first else x[times, sequences]
    return data, torch.tensor(sizes)


def _pad(
    data: Tensor,
    batch_sizes: Tensor,
    batch_first: bool,
    value: float,
    total: int | None = None,
    *,
    listed: Listed,
) -> tuple[Tensor, Tensor]:
    sizes = listed(batch_sizes)
    times, sequences = (torch.tensor(each, device=data.device) for each in _places(sizes))
    longest = len(sizes) if total is None or total <= 0 else total
    padded = data.new_full((longest, sizes[0], *data.shape[1:]), value)
    padded = padded.index_put((times, sequences), data)
    lengths = [sum(size > sequence for size in sizes) for sequence in range(sizes[0])]
    return padded.transpose(0, 1) if batch_first else padded, torch.tensor(lengths)


def _layer(
    function: Any, data: Tensor, batch_sizes: Tensor, states: Any, *options: Any, listed: Listed
) -> tuple[Tensor, ...]:
    """The layer on each sequence alone: the packed outputs, and the last states of all sequences."""
    sizes = listed(batch_sizes)
    _, sequences = _places(sizes)
    order: list[int] = []
    results = []
    for sequence in range(sizes[0]):
        own = [place for place, of in enumerate(sequences) if of == sequence]
        order += own
        steps = data[torch.tensor(own, device=data.device)].unsqueeze(1)
        begin = _of_sequence(states, sequence)
        results.append(function(steps, begin, *options, False))  # time first
    outputs, *ends = zip(*results, strict=True)
    back = torch.tensor(order).argsort().to(data.device)
    packed = torch.cat([output.squeeze(1) for output in outputs])[back]
    return (packed, *(torch.cat(end, 1) for end in ends))


def _of_sequence(states: Any, sequence: int) -> Any:
    """The first states of one sequence; an LSTM has two."""
    if isinstance(states, Tensor):
        return states[:, sequence : sequence + 1]
    return [_of_sequence(state, sequence) for state in states]
