"""The plan shows everything before anything runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import Composite, LRPFx, rules
from lrp_fx.composites import (
    convolution,
)
from lrp_fx.errors import CaptureError, CompositeError
from tests.helpers.composites import X
from tests.helpers.models import cnn


def test_plan_shows_everything_before_anything_runs() -> None:
    """Each node's module, operation, rule and the line of the composite that chose it."""
    runs: list[int] = []
    model = cnn()
    model.register_forward_hook(lambda *_: runs.append(1))
    composite = Composite(
        [("conv1", rules.Flat()), (convolution, rules.ZPlus())],
        filters=[("hidden", 0.1)],
        name="mine",
    )
    lrp = LRPFx(model, composite)
    rows = [line.split("  ") for line in str(lrp.plan()).splitlines()]
    table = {cells[0]: [c.strip() for c in cells if c.strip()] for cells in rows}
    assert not runs
    assert table["conv1_conv2d"] == [
        "conv1_conv2d",
        "conv1",
        "conv2d",
        "Flat()",
        "mine[0]: path('conv1')",
    ]
    assert table["conv2_conv2d"] == [
        "conv2_conv2d",
        "conv2",
        "conv2d",
        "ZPlus()",
        "mine[1]: convolution",
    ]
    assert table["relu1_relu"] == ["relu1_relu", "relu1", "relu", "Pass()", "default"]
    assert table["hidden_linear"][-2:] == ["default", "0.1"]
    names = [row[0] for row in rows]
    assert (
        names.index("classifier_linear") < names.index("conv2_conv2d") < names.index("conv1_conv2d")
    )
    assert {"capture: symbolic", "composite: mine", "explained: classifier_linear"} <= set(names)


def test_plan_with_and_without_inputs_is_the_same() -> None:
    model = cnn()
    assert str(LRPFx(model).plan()) == str(LRPFx(model).plan(X))
    used = LRPFx(model)
    used.attribute(X, 1)
    assert str(used.plan()) == str(LRPFx(model).plan())


class DataDependent(nn.Module):
    """Wants to know the number of dimensions, which only example inputs tell."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() > 2:
            x = x.flatten(1)
        return self.linear(x)


def test_plan_says_when_it_needs_inputs() -> None:
    """And an earlier attribution has read the model already."""
    with pytest.raises(CaptureError, match=r"Pass example inputs: plan\(x\)"):
        LRPFx(DataDependent()).plan()
    with pytest.raises(CaptureError, match=r"needs example inputs: pass them to plan\(\)"):
        LRPFx(cnn(), capture="export").plan()
    lrp = LRPFx(DataDependent())
    assert "capture: symbolic" in str(lrp.plan(torch.ones(2, 4)))
    assert "capture: symbolic" in str(lrp.plan())


def test_plan_after_a_failure_fails_the_same_way() -> None:
    """Nothing of the failed call is left."""
    lrp = LRPFx(cnn(), Composite([("cnov1", rules.ZPlus())]))
    for _ in range(2):
        with pytest.raises(CompositeError, match="near misses"):
            lrp.attribute(X, 1)
        with pytest.raises(CompositeError, match="near misses"):
            lrp.plan()
