"""NaN and infinity: an error that names where they were made, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import Composite, LayerLRPFx, LRPFx, rules
from lrp_fx.composites import anything
from lrp_fx.errors import InputError, LRPError, NonFiniteError
from lrp_fx.rules import FULL, Branch, Group, LinearRule, Part, Table
from tests.helpers.modes import engines


@dataclass(frozen=True)
class Exploding(LinearRule):
    """A user's rule with a mistake."""

    def table(self) -> Table:
        return (Group((Branch(FULL, Part(float("inf"), 1), FULL),)),)


def cancelling() -> nn.Sequential:
    """The first layer's output is 1e-7 times its terms: under ε = 0 relevance grows by 1e7 there."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0 + 1e-7]]))
        model[2].weight.fill_(1.0)
    return model


def huge(output: Tensor) -> Tensor:
    return torch.full_like(output, 1e33)


OVERFLOW: dict[str, Any] = {
    "composite": Composite([("2", rules.Flat()), (anything(), rules.Zero())]),
    "start": huge,
}
NON_FINITE: dict[str, tuple[nn.Module, dict[str, Any], Tensor, str]] = {
    "overflow": (
        cancelling(),
        OVERFLOW,
        torch.ones(1, 2),
        r"'_0_linear_(quotient|relevance)' \(module '0'\): .*Zero\(\).* larger ε",
    ),
    "wrong rule": (
        nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)),
        {"composite": Composite([("2", Exploding()), (anything(), rules.Epsilon())])},
        torch.ones(1, 2),
        r"'_2_linear_(denominators|quotient|relevance)' \(module '2'\): .*Exploding",
    ),
}


@pytest.mark.parametrize(
    ("model", "options", "x", "words"), NON_FINITE.values(), ids=NON_FINITE.keys()
)
@engines
def test_non_finite_relevance_is_an_error_that_names_the_node(
    model: nn.Module, options: dict[str, Any], x: Tensor, words: str, engine: Any
) -> None:
    lrp = LRPFx(model, propagation=engine, **options)
    for _ in range(2):
        with pytest.raises(NonFiniteError, match=words) as caught:
            lrp.attribute(x)
        assert isinstance(caught.value, LRPError)
        assert isinstance(caught.value, ArithmeticError)


def test_one_bad_sample_is_enough() -> None:
    """It must not hide in a batch, nor in one of several inputs."""
    x = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    model = cancelling()
    LRPFx(model, **OVERFLOW).attribute(x[:1])
    with pytest.raises(NonFiniteError, match="_0_linear"):
        LRPFx(model, **OVERFLOW).attribute(x)


def test_layers_above_the_bad_node_can_be_explained() -> None:
    """And a layer below it cannot."""
    x = torch.ones(1, 2)
    relevance = LayerLRPFx(cancelling(), "1", **OVERFLOW).attribute(x)
    assert bool(torch.isfinite(relevance).all())
    with pytest.raises(NonFiniteError, match="_0_linear"):
        LayerLRPFx(cancelling(), "0", **OVERFLOW).attribute(x, None, None, False, True)


class Masked(nn.Module):
    """−∞ is an ordinary value of masked logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.tensor([True, False, False, False])
        weights = self.first(x).masked_fill(mask, -float("inf")).softmax(1)
        return self.last(weights * x)


def test_infinity_in_a_mask_is_no_error_and_is_not_blamed() -> None:
    x = torch.randn(2, 4)
    assert bool(torch.isfinite(LRPFx(Masked()).attribute(x, 1)).all())
    bad = Composite([("last", Exploding()), (anything(), rules.Epsilon())])
    with pytest.raises(NonFiniteError, match="'last_linear_denominators'"):
        LRPFx(Masked(), bad).attribute(x, 1)


def test_a_forward_pass_that_overflows_is_said_to_be_the_models() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.fill_(3e38)
        model[0].bias.fill_(3e38)
    with pytest.raises(InputError, match=r"own forward pass yields NaN or infinity in '_1_linear'"):
        LRPFx(model).attribute(torch.ones(1, 2), 0)


def test_a_start_that_is_not_finite_is_said_to_be_the_start() -> None:
    with pytest.raises(InputError, match="what the relevance starts with holds NaN or infinity"):
        LRPFx(nn.Linear(2, 2), start=lambda output: output / 0).attribute(torch.ones(1, 2))
