"""A ReLU that stands in for a mask of zeros: where it may, and where it may not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, composites, rules
from lrp_fx.relevance.linear.steps import Share
from tests.helpers.optimized import assert_same


def stood_in(model: nn.Module, composite: Any, **options: Any) -> set[str]:
    """The linear nodes whose denominator is known not to be negative: a ReLU stands in for it."""
    lrp = LRPFx(model, composite, **options)
    modules = lrp._program().lrp.module.named_modules()
    return {
        name.removeprefix("relevance.")
        for name, module in modules
        if isinstance(module, Share) and module.formula.nonnegative_output
    }


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten()),
        nn.Linear(32, 2),
    )


def test_a_relu_stands_in_behind_rules_that_multiply_by_the_input() -> None:
    assert stood_in(chain(), "epsilon") == {"_0_conv2d", "_2_conv2d"}
    assert stood_in(chain(), "epsilon", optimize=False) == set()


@pytest.mark.parametrize(
    ("rectifier", "one_sided"),
    [
        (nn.ReLU(), True),
        (nn.ReLU6(), True),
        (nn.Hardtanh(0.0, 4.0), True),
        (nn.Hardtanh(-0.5, 4.0), False),
        (nn.Hardtanh(0.5, 4.0), False),
        (nn.LeakyReLU(), False),
        (nn.Hardswish(), False),
    ],
    ids=str,
)
def test_behind_a_rectifier_negative_outputs_get_nothing(
    rectifier: nn.Module, one_sided: bool
) -> None:
    """The generalized γ rule then needs its positive group alone."""
    model = chain()
    model[1] = rectifier
    mine = composites.EpsilonGamma(0.3)
    lrp = LRPFx(model, mine)
    modules = dict(lrp._program().lrp.module.named_modules())
    assert modules["relevance._0_conv2d"].formula.positive is one_sided
    x = torch.randn(2, 1, 8, 8)
    assert_same(lrp.attribute(x, 1), LRPFx(model, mine, optimize=False).attribute(x, 1))


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (rules.Flat(), {}),
        (rules.WSquare(), {}),
        (rules.Epsilon(), {"bias": "distribute"}),
    ],
)
def test_no_relu_stands_in_where_relevance_may_come_to_zeros(rule: Any, options: Any) -> None:
    """Behind Flat and its like a dead unit gets relevance, which the true z has to divide."""
    mine = composites.Composite(
        [("2", rule), ("5", rule), ("0", rules.Epsilon(0.01))], bias=options.get("bias", "absorb")
    )
    assert "_0_conv2d" not in stood_in(chain(), mine)
    x = torch.randn(2, 1, 8, 8)
    assert_same(
        LRPFx(chain(), mine).attribute(x, 1), LRPFx(chain(), mine, optimize=False).attribute(x, 1)
    )


def test_no_relu_stands_in_behind_a_hook() -> None:
    """A hook may put relevance anywhere."""
    model, x = chain(), torch.randn(2, 1, 8, 8)
    results = []
    for optimize in (True, False):
        lrp = LRPFx(model, composites.Epsilon(0.01), optimize=optimize)
        lrp.register_relevance_hook("3", lambda r, step: torch.ones_like(r))
        results.append(lrp.attribute(x, 1))
    assert_same(*results)


def test_no_relu_stands_in_for_what_others_read() -> None:
    """A skip that starts in front of the ReLU reads the negative values too."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            z = self.first(x)
            return self.second(torch.relu(z) + z)

    torch.manual_seed(0)
    assert stood_in(Skip(), "epsilon") == set()


@pytest.mark.parametrize("start", ["one_hot", "softmax"])
def test_no_relu_at_the_output_stands_in_unless_the_start_vanishes_with_it(start: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert stood_in(model, "epsilon", start=start) == set()
    assert stood_in(model, "epsilon", start="logit") == {"_0_linear"}
