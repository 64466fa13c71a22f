"""What is overwritten keeps its dtype."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.graph import ACTIVATIONS, in_place_form
from lrp_fx.optimize.in_place import PROMOTING

COUNTS: dict[str, Callable[[Tensor], Tensor]] = {
    "a clamp": lambda count: count.clamp(min=1e-9),
    "a clamp at both ends": lambda count: count.clamp(0.5, 3.5),
    "a tensor as bound": lambda count: torch.clamp(count, min=torch.tensor(0.5)),
    "sigmoid": lambda count: count.sigmoid(),
    "tanh": lambda count: count.tanh(),
}


@pytest.mark.parametrize("name", COUNTS)
def test_no_activation_overwrites_a_value_of_another_dtype(name: str) -> None:
    """A count of words is an integer, and its clamp or its tanh is not."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, words: Tensor) -> Tensor:
            count = (words != 0).sum(1, keepdim=True)
            return self.head(self.table(words).sum(1) / COUNTS[name](count))

    model, words = Counting().eval(), torch.tensor([[1, 5, 5], [0, 8, 2]])
    maps = [LRPFx(model, optimize=each).attribute(words, target=1) for each in (True, False)]
    torch.testing.assert_close(maps[0], maps[1])


ARGUMENTS: dict[str, tuple[float, ...]] = {
    "hardtanh": (0.5, 1.5),
    "threshold": (0.5, 0.5),
    "leaky_relu": (0.5,),
    **dict.fromkeys(["clamp", "clamp_min", "clamp_max"], (0.5,)),
}


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if in_place_form(n) is not None])
def test_activations_that_overwrite_keep_the_dtype(name: str) -> None:
    count = torch.tensor([1, 2])
    try:
        found = getattr(torch.ops.aten, name)(count, *ARGUMENTS.get(name, ())).dtype
    except (NotImplementedError, RuntimeError):  # there is none for integers
        found = count.dtype
    assert (found != count.dtype) == (name in PROMOTING)
