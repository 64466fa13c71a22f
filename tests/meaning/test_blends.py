"""Blends by masks and by rounded gates: each spelling has the map of a choice between two values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import QUOTIENTS, STABILIZED, assert_close
from tests.helpers.numbers import numbers

CHOSEN = torch.tensor([True, False, False, True, True, False])
X = numbers(3, 4)
Blend = Callable[[Tensor, Tensor, Tensor], Tensor]
Mask = Callable[[Tensor], Tensor]


class Network(nn.Module):
    """Two layers blended by a mask, which may depend on a third."""

    def __init__(self, mask: Mask, blend: Blend) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other, self.score = (nn.Linear(4, 6) for _ in range(3))
        self.last, self.mask, self.blend = nn.Linear(6, 3), mask, blend
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        blended = self.blend(self.mask(self.score(x)), self.one(x).relu(), self.other(x))
        return self.last(blended)  # type: ignore[no-any-return]


def choice(m: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(m > 0, a, b)


def straight_through(z: Tensor) -> Tensor:
    """A rounded gate whose gradient is that of the gate."""
    gate = z.sigmoid()
    return gate + (gate.round() - gate).detach()


def straight_through_compared(z: Tensor) -> Tensor:
    gate = z.sigmoid()
    return (gate > 0.5).to(gate) - gate.detach() + gate


MASKS: dict[str, Mask] = {
    "constant": lambda z: CHOSEN.to(z),
    "compared": lambda z: (z > 0).to(z),
    "chosen numbers": lambda z: torch.where(z > 0, 1.0, 0.0).to(z),
    "step": lambda z: torch.heaviside(z, z.new_zeros(())),
    "sign": lambda z: (z.sign() + 1) / 2,
    "rounded gate": lambda z: z.sigmoid().round(),
    "straight through": straight_through,
    "straight through, compared": straight_through_compared,
}
BLENDS: dict[str, Blend] = {
    "both": lambda m, a, b: m * a + (1 - m) * b,
    "other first": lambda m, a, b: (1 - m) * b + m * a,
    "difference": lambda m, a, b: b + m * (a - b),
    "difference, the other way": lambda m, a, b: a - (1 - m) * (a - b),
    "lerp": lambda m, a, b: torch.lerp(b, a, m),
    "addcmul": lambda m, a, b: torch.addcmul(b, m, a - b),
    "filled": lambda m, a, b: a.masked_fill(m == 0, 0) + b.masked_fill(m > 0, 0),
}


def found(mask: str, blend: Blend, composite: str) -> Tensor:
    return LRPFx(Network(MASKS[mask], blend), composite).attribute(X, 1)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("mask", MASKS)
def test_a_blend_by_a_mask_is_a_choice(mask: str, blend: str) -> None:
    assert_close(found(mask, BLENDS[blend], "zero"), found(mask, choice, "zero"), QUOTIENTS)


@pytest.mark.parametrize("mask", MASKS)
def test_all_blends_have_one_map(mask: str) -> None:
    """Under z⁺ a sum gives nothing to negative terms, and a choice does."""
    expected, *others = (found(mask, each, "z_plus") for each in BLENDS.values())
    for each in others:
        assert_close(each, expected, STABILIZED)


def test_masks_in_other_words_have_one_map() -> None:
    expected, *others = (found(mask, choice, "zero") for mask in MASKS if mask != "constant")
    for each in others:
        assert_close(each, expected, QUOTIENTS)


def test_a_quantized_value_is_what_it_becomes() -> None:
    """``a + (q - a)`` with a detached difference, as vector quantization writes it, is ``q``."""

    def quantized(m: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return a + (b * m - a).detach()

    for composite in ("zero", "z_plus"):
        expected = found("constant", lambda m, a, b: b * m, composite)
        assert_close(found("constant", quantized, composite), expected, QUOTIENTS)
