"""What moves values, against slow twins in explicit matrix form (``helpers/twins.py``)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx.relevance import ROUTING
from tests.helpers import twins
from tests.helpers.closeness import assert_close
from tests.helpers.models import Apply, seeded
from tests.helpers.numbers import numbers
from tests.helpers.twins import explain, ways

MIXED = 1e-5
"""Of max |R| where a part of the model runs in float32 (1e-7 per operation, a few operations)."""
ORDER = torch.tensor([2, 0, 0])
MASK = torch.tensor([True, False, True])
PLACES = torch.tensor([[[0, 1, 1], [2, 0, 2]]])


def channels_last_flat(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def overwritten_slice(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :1] = x[:, 1:2]
    return y


def unread_pieces(x: Tensor) -> Tensor:
    first, _, last = x.split([1, 2, 1], 1)
    return torch.cat([last, first, last], 1)


def last_of_three(x: Tensor) -> Tensor:
    return x.chunk(3, 1)[2]


def some_unbound(x: Tensor) -> Tensor:
    pieces = x.unbind(1)
    return torch.stack([pieces[2], pieces[0], pieces[2]], -1)


def pieces_from_the_end(x: Tensor) -> Tensor:
    pieces = x.chunk(3, 1)
    return torch.cat([pieces[-1], pieces[0], pieces[2], pieces[-1]], 1)


def overwritten_by_constant(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:] = 0.5
    return y


def overwritten_entry(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = x[:, 2]
    return y


ROUTES: dict[str, tuple[twins.Function, tuple[int, ...]]] = {
    "reshape": (lambda x: x.reshape(x.shape[0], -1), (2, 3, 2)),
    "view": (lambda x: x.view(x.size(0), 3, 4), (2, 3, 2)),
    "flatten": (lambda x: torch.flatten(x, 1), (2, 3, 2)),
    "unflatten": (lambda x: x.unflatten(1, (2, 3)), (6, 2)),
    "squeeze": (lambda x: x.squeeze(2), (2, 1, 3)),
    "unsqueeze": (lambda x: x.unsqueeze(-2), (2, 3)),
    "new axis": (lambda x: x[:, None], (2, 3)),
    "permute": (lambda x: x.permute(0, 3, 1, 2), (2, 3, 4)),
    "transpose": (lambda x: x.transpose(1, -1), (2, 3, 4)),
    "swapaxes": (lambda x: x.swapaxes(1, 2), (2, 3)),
    "mT": (lambda x: x.mT, (2, 3)),
    "movedim": (lambda x: x.movedim(1, -1), (2, 3, 4)),
    "movedims": (lambda x: torch.movedim(x, (1, 2), (3, 1)), (2, 3, 4)),
    "tokens": (channels_last_flat, (2, 3, 4)),
    "expand": (lambda x: x.expand(-1, 3, -1), (1, 4)),
    "expand, new dimension": (lambda x: x[:, None].expand(-1, 3, -1, -1), (2, 2)),
    "expand_as": (lambda x: x[:, :1].expand_as(x), (3, 2)),
    "repeat": (lambda x: x.repeat(1, 2, 3), (2, 2)),
    "tile": (lambda x: x.tile(1, 2, 1), (2, 2)),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, dim=1), (2, 3)),
    "repeat_interleave, last": (lambda x: x.repeat_interleave(2, -1), (2, 3)),
    "repeat_interleave, last but one": (lambda x: x.repeat_interleave(2, -2), (2, 3)),
    "select": (lambda x: x[:, -1], (2, 3)),
    "slice": (lambda x: x[:, 1:, ::2], (3, 5)),
    "slice from the end": (lambda x: x[..., -2:], (3, 5)),
    "slice to the end": (lambda x: x[:, :-1, 1:-1], (3, 5)),
    "narrow": (lambda x: x.narrow(1, 1, 2), (4, 2)),
    "narrow from the end": (lambda x: x.narrow(1, -2, 2), (4, 2)),
    "index": (lambda x: x[:, ORDER], (3, 2)),
    "index by mask": (lambda x: x[:, MASK], (3, 2)),
    "index by list": (lambda x: x[:, [2, 0, 0]], (3, 2)),
    "index_select": (lambda x: x.index_select(2, ORDER), (2, 3)),
    "gather": (lambda x: x.gather(2, PLACES.expand(x.shape[0], -1, -1)), (2, 3)),
    "flip": (lambda x: x.flip(1, -1), (2, 3)),
    "roll": (lambda x: torch.roll(x, (1, -2), (1, 2)), (3, 4)),
    "roll one": (lambda x: x.roll(2, -1), (3, 4)),
    "pad": (lambda x: F.pad(x, (1, 0, 2, 1)), (2, 3, 2)),
    "pad with a value": (lambda x: F.pad(x, (1, 2), value=3.0), (2, 3)),
    "pad less than nothing": (lambda x: F.pad(x, (-1, 1, 0, -2)), (3, 4)),
    "reflect1d": (lambda x: F.pad(x, (2, 1), mode="reflect"), (2, 4)),
    "reflect2d": (nn.ReflectionPad2d((1, 2, 0, 1)), (1, 3, 4)),
    "reflect3d": (lambda x: F.pad(x, (1, 0, 1, 1, 0, 1), mode="reflect"), (1, 2, 3, 2)),
    "replicate1d": (lambda x: F.pad(x, (2, 3), mode="replicate"), (2, 2)),
    "replicate2d": (nn.ReplicationPad2d((0, 2, 1, 1)), (1, 3, 2)),
    "replicate3d": (nn.ReplicationPad3d(1), (1, 2, 2, 1)),
    "circular1d": (lambda x: F.pad(x, (2, 1), mode="circular"), (2, 3)),
    "circular2d": (nn.CircularPad2d((1, 2, 0, 1)), (1, 3, 4)),
    "circular3d": (lambda x: F.pad(x, (1, 0, 1, 1, 2, 1), mode="circular"), (1, 2, 3, 2)),
    "zero pad": (nn.ZeroPad2d((0, 1, 2, 0)), (1, 2, 2)),
    "pixel_shuffle": (nn.PixelShuffle(2), (8, 2, 3)),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), (2, 4, 2)),
    "channel_shuffle": (nn.ChannelShuffle(2), (6, 1, 2)),
    "unfold to columns": (nn.Unfold((2, 3), padding=1, stride=2, dilation=1), (2, 4, 5)),
    "unfold": (lambda x: x.unfold(2, 3, 2), (2, 7)),
    "cat": (lambda x: torch.cat([x, x[:, :1]], 1), (3, 2)),
    "stack": (lambda x: torch.stack([x, x.flip(1)], 2), (3, 2)),
    "split": (lambda x: x.split(2, 1)[1], (5, 2)),
    "split in sizes, one unread": (unread_pieces, (4, 2)),
    "chunk, two unread": (last_of_three, (5, 2)),
    "unbind, one unread": (some_unbound, (3, 2)),
    "chunk, from the end": (pieces_from_the_end, (5, 2)),
    "split, a slice of the pieces": (lambda x: torch.cat(x.split(2, 1)[1:], 1), (5, 2)),
    "tensor_split": (lambda x: torch.tensor_split(x, 3, 1)[1], (5, 2)),
    "where": (lambda x: torch.where(MASK, x, x.flip(1)), (2, 3)),
    "where else a number": (lambda x: torch.where(MASK, x, -1.5), (2, 3)),
    "masked_fill": (lambda x: x.masked_fill(MASK, -2.0), (2, 3)),
    "overwritten slice": (overwritten_slice, (3, 2)),
    "overwritten entry": (overwritten_entry, (3, 2)),
    "overwritten by one number for all": (overwritten_by_constant, (3, 2)),
    "double": (lambda x: x.double(), (3,)),
}


@ways
@pytest.mark.parametrize("name", ROUTES)
def test_routing(name: str, options: dict[str, Any]) -> None:
    """Each input gets the relevance of the places to which its value went; padding keeps its own."""
    function, shape = ROUTES[name]
    x = numbers(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    assert_close(explain(function, x, upper, **options), twins.routed(function, x, upper))


def test_relevance_follows_a_change_of_dtype() -> None:
    """Layers of two precisions in one model: relevance is cast as the values were."""
    model = Apply(lambda x: model.second(model.first(x.float()).double()))
    both = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    model.first, model.second = copy.deepcopy(both[0]).float(), both[1]
    x, upper = numbers(2, 4), numbers(2, 2, seed=1)
    expected = explain(both, x, upper, "epsilon")
    assert_close(explain(model, x, upper, "epsilon"), expected, MIXED)


def test_the_adjoint_of_a_slice_keeps_the_layout() -> None:
    """In another layout the kernels of the layers below would rearrange it in every call."""
    q = numbers(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        whole = ROUTING["slice"](q, torch.Size([2, 3, 6, 5]), -2, -5, -1, 1)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(whole[:, :, 1:5], q)
    assert whole.abs().sum() == q.abs().sum()
