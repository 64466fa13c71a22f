"""Equal content has equal digests, other content has others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

import numpy
import pytest
import torch
from torch import nn

from lrp_fx._common import digest, digest_of_metric
from lrp_fx.errors import OptionError


class Side(Enum):
    LEFT = 1
    RIGHT = 2


class Plain:
    def __init__(self, value: object) -> None:
        self.value = value

    def read(self) -> object:
        return self.value


@dataclass(frozen=True, eq=False)
class Settings:
    hidden: object = field(repr=False)
    calls: list[int] = field(default_factory=list, compare=False)


def network(stride: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv1d(1, 1, 2, stride=stride), nn.ReLU())


def held(value: object) -> Callable[[], object]:
    return lambda: value


MAKERS: list[Callable[[int], object]] = [
    lambda n: n,
    lambda n: torch.tensor([0.5, n]),
    lambda n: torch.tensor([n]).bfloat16(),
    lambda n: torch.zeros(n),
    lambda n: numpy.array([0, n]),
    lambda n: numpy.array(["a", n], dtype=object),
    lambda n: numpy.float32(n),
    lambda n: {"a": [n, (1, 2)]},
    lambda n: {"a", "b", n},
    lambda n: list(Side)[n - 1],
    lambda n: Plain(Plain(torch.tensor(n))),
    lambda n: Settings(torch.tensor(n)),
    lambda n: network(n),
    lambda n: held(torch.tensor(n)),
    lambda n: partial(max, n),
    lambda n: Plain(n).read,
    lambda n: (lambda x: x + 1) if n == 1 else (lambda x: x + 2),
    lambda n: max if n == 1 else min,
    lambda n: nn.Linear if n == 1 else nn.Conv2d,
]


@pytest.mark.parametrize("make", MAKERS)
def test_content_counts(make: Callable[[int], object]) -> None:
    first = make(1)
    assert digest(first) == digest(make(1)) != digest(make(2))
    assert digest(Settings(first)) == digest(Settings(make(1))) != digest(Settings(make(2)))


def test_what_does_not_compare_does_not_count() -> None:
    assert digest(Settings(1, [1])) == digest(Settings(1, [2]))


def test_what_holds_itself_ends() -> None:
    one, other = Plain(1), Plain(2)
    one.value, other.value = [one], [other]
    assert digest(one) == digest(other)


def test_what_says_nothing_is_an_error() -> None:
    with pytest.raises(OptionError, match="must say what it holds"):
        digest_of_metric(Settings(object()))
