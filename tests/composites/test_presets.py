"""Presets: their rules, their bounds, their options."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from lrp_fx import Composite, LayerLRPFx, LRPFx, composites, rules
from lrp_fx.composites import (
    PRESETS,
)
from lrp_fx.errors import CompositeError, LRPError, OptionError
from lrp_fx.rules import Stabilizer
from tests.helpers.composites import BOUNDS, X, rules_of
from tests.helpers.models import cnn
from tests.helpers.numbers import numbers

# Presets

EXPECTED = {
    "zero": ("Zero", "Zero", "Zero", "Zero"),
    "epsilon": ("Epsilon", "Epsilon", "Epsilon", "Epsilon"),
    "z_plus": ("ZPlus", "ZPlus", "ZPlus", "ZPlus"),
    "epsilon_plus": ("ZPlus", "ZPlus", "Epsilon", "Epsilon"),
    "epsilon_plus_flat": ("Flat", "ZPlus", "Epsilon", "Epsilon"),
    "epsilon_gamma": ("GeneralizedGamma", "GeneralizedGamma", "Epsilon", "Epsilon"),
    "epsilon_gamma_box": ("ZBox", "GeneralizedGamma", "Epsilon", "Epsilon"),
    "epsilon_alpha2_beta1": ("AlphaBeta", "AlphaBeta", "Epsilon", "Epsilon"),
    "epsilon_alpha2_beta1_flat": ("Flat", "AlphaBeta", "Epsilon", "Epsilon"),
    "attn_lrp": ("ZPlus", "ZPlus", "Epsilon", "Epsilon"),
    "cp_lrp": ("ZPlus", "ZPlus", "Epsilon", "Epsilon"),
}
"""Rules of the first convolution, the second, the hidden and the last dense layer (DESIGN 4)."""


def test_every_preset_is_tested() -> None:
    assert set(EXPECTED) == set(PRESETS)


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items())
def test_presets(name: str, expected: tuple[str, ...]) -> None:
    composite = PRESETS[name](*BOUNDS) if name == "epsilon_gamma_box" else PRESETS[name]()
    found = rules_of(cnn(), composite)
    assert found == dict(zip(("conv1", "conv2", "hidden", "classifier"), expected, strict=True))


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"epsilon_gamma_box"}))
def test_presets_by_name_and_by_class_are_the_same(name: str) -> None:
    model, by_class = cnn(), PRESETS[name]()
    assert by_class.strict is False
    for composite in (name, by_class):
        assert f"composite: {by_class.name}" in str(LRPFx(model, composite).plan())
    assert str(LRPFx(model, name).plan()) == str(LRPFx(model, by_class).plan())
    assert torch.equal(LRPFx(model, name).attribute(X, 1), LRPFx(model, by_class).attribute(X, 1))


def test_the_default_without_attention_is_epsilon_gamma() -> None:
    """And the plan says why."""
    mine, named = LRPFx(cnn()).plan(), LRPFx(cnn(), "epsilon_gamma").plan()
    assert [step.rule for step in mine.steps] == [step.rule for step in named.steps]
    assert "composite: EpsilonGamma (the default for models without attention)" in mine.notes
    assert "composite: EpsilonGamma" in named.notes


def test_uniform_is_one_rule_everywhere() -> None:
    found = rules_of(cnn(), composites.Uniform(rules.WSquare()))
    assert set(found.values()) == {"WSquare"}
    assert len(found) == 4


def stabilizers(rule: rules.Rule) -> list[Stabilizer]:
    """Of a rule, and of the rules of its parts."""
    values = [getattr(rule, each.name) for each in dataclasses.fields(rule)]
    parts = [
        each for value in values if isinstance(value, rules.Rule) for each in stabilizers(value)
    ]
    return [value for value in values if isinstance(value, Stabilizer)] + parts


def test_zero_has_no_stabilizer_anywhere() -> None:
    """In sums, norms, products of activations, recurrences and operations without a rule too."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
            self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
            self.gru, self.lstm = nn.GRU(2, 2, batch_first=True), nn.LSTM(2, 2, batch_first=True)
            self.layer_norm, self.head = nn.LayerNorm(2), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = F.interpolate(self.norm((x + self.conv(x)).relu()), 6)
            h = F.max_pool2d(F.avg_pool2d(h, 2), 1).flatten(2).transpose(1, 2)
            h = self.attention(h, h, h)[0] + torch.matmul(h @ h.transpose(1, 2), h)
            h = self.lstm(self.gru(self.layer_norm(h))[0])[0]
            return self.head((h * h.sigmoid()).sum(1) + torch.lgamma(h.mean(1)))

    plan = LRPFx(Net(), "zero", unknown="vjp").plan(numbers(1, 2, 4, 4).float())
    left = {
        step.node.name: str(step.rule)
        for step in plan.steps
        if step.rule is not None and any(each.eps > 0 for each in stabilizers(step.rule))
    }
    assert left == {}
    kinds = {step.operation.kind for step in plan.steps if step.operation is not None}
    assert kinds >= {
        *("convolution", "dense", "normalization", "bilinear", "recurrent", "unknown"),
        *("addition", "sum", "average pooling", "max pooling", "interpolation", "softmax"),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("epsilon_plsu", "did you mean epsilon_plus"),
        ("EpsilonPlus", "did you mean|known: zero, epsilon"),
        ("", "known: zero, epsilon, z_plus"),
        ("epsilon_gamma_box", r"needs the bounds .*EpsilonGammaBox\(low, high\)"),
    ],
)
def test_names_that_are_no_presets(name: str, words: str) -> None:
    with pytest.raises(CompositeError, match=words):
        LRPFx(cnn(), name)


@pytest.mark.parametrize("composite", [rules.Epsilon(), PRESETS["epsilon"], 1, [("conv1", 1)]])
def test_things_that_are_no_composites(composite: Any) -> None:
    with pytest.raises(OptionError, match="composite must be a Composite or the name of a preset"):
        LRPFx(cnn(), composite)


# zᴮ and its bounds


@pytest.mark.parametrize(
    "bounds",
    [BOUNDS, (torch.tensor([-2.0, -1.0]).reshape(2, 1, 1), torch.full((2, 1, 1), 3.0))],
    ids=["numbers", "per channel"],
)
def test_epsilon_gamma_box_carries_its_bounds(bounds: tuple[Any, Any]) -> None:
    """They are the input's; at the first layer the relevance is ``x − l`` or ``h − x`` by weight."""
    low, high = bounds
    composite = composites.EpsilonGammaBox(low, high)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.Flatten(), nn.Linear(27, 2)).double()
    x = numbers(1, 2, 5, 5).clamp(-2, 3)
    arrived = LayerLRPFx(model, "0", composite).attribute(x, 1)
    assert isinstance(arrived, Tensor)
    x.requires_grad_()
    weight = model[0].weight.detach()
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    low, high = (torch.as_tensor(b).double().expand(1, 2, 5, 5).clone() for b in bounds)
    low.requires_grad_()
    high.requires_grad_()
    z = F.conv2d(x, weight) - F.conv2d(low, up) - F.conv2d(high, down)
    quotient = arrived / (z + torch.where(z < 0, -1e-6, 1e-6).double())
    parts = torch.autograd.grad(z, (x, low, high), quotient.detach())
    expected = sum(v.detach() * g for v, g in zip((x, low, high), parts, strict=True))
    mine = LRPFx(model, composite).attribute(x.detach(), 1)
    torch.testing.assert_close(mine, expected)


def test_box_is_for_first_layers() -> None:
    composite = Composite([("conv2", rules.ZBox(*BOUNDS))])
    with pytest.raises(
        CompositeError, match=r"ZBox is for first layers: the input of 'conv2_conv2d'"
    ):
        LRPFx(cnn(), composite).attribute(X, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rules.ZBox(1.0, 0.0),
        lambda: rules.ZBox(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])),
        lambda: composites.EpsilonGammaBox(1.0, 0.0),
        lambda: rules.AlphaBeta(2, 0),
        lambda: rules.AlphaBeta(0.5, -0.5),
        lambda: rules.Epsilon(-1.0),
        lambda: rules.Epsilon(float("nan")),
        lambda: rules.Stabilizer(-1e-6),
    ],
)
def test_impossible_rules(make: Any) -> None:
    """At once where they are written, as errors of this library that are ValueErrors too."""
    with pytest.raises(LRPError, match=r"low <= high|alpha - beta = 1|eps >= 0") as caught:
        make()
    assert isinstance(caught.value, ValueError)


def squeezed() -> nn.Sequential:
    """Like SqueezeNet: the classifier is a 1×1 convolution before the pooling."""
    return nn.Sequential(
        OrderedDict(
            features=nn.Conv2d(2, 4, 3),
            relu=nn.ReLU(),
            classifier=nn.Conv2d(4, 3, 1),
            relu2=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
    )


FAMILY = sorted(name for name in PRESETS if name.startswith("epsilon_") and "box" not in name)


@pytest.mark.parametrize("composite", [*FAMILY, composites.EpsilonGammaBox(*BOUNDS)], ids=str)
def test_a_convolution_that_classifies_gets_epsilon(composite: Any) -> None:
    """z⁺ on it loses the class: all logits would have the same map."""
    assert rules_of(squeezed(), composite)["classifier"] == "Epsilon"
    lrp = LRPFx(squeezed().double(), composite)
    maps = [lrp.attribute(X, target).flatten() for target in range(3)]
    assert not torch.allclose(maps[0] * maps[1].norm(), maps[1] * maps[0].norm())


def test_squeezenet() -> None:
    found = rules_of(torchvision.models.squeezenet1_1(weights=None), "epsilon_plus")
    assert found.pop("classifier.1") == "Epsilon"
    assert set(found.values()) == {"ZPlus"}
    assert len(found) == 25


def test_compat_zennit_goes_by_type_alone() -> None:
    assert rules_of(squeezed(), composites.compat.zennit())["classifier"] == "ZPlus"
    flat = rules_of(cnn(), composites.compat.zennit("epsilon_plus_flat"))
    assert flat["conv1"] == "Flat"
    box = rules_of(cnn(), composites.compat.zennit("epsilon_gamma_box", *BOUNDS))
    assert (box["conv1"], box["conv2"]) == ("ZBox", "GeneralizedGamma")
    with pytest.raises(CompositeError, match=r"compat\.zennit knows epsilon_plus, "):
        composites.compat.zennit("zero")


# Bias and other options


def test_bias_of_the_composite_and_of_the_option() -> None:
    """The option wins over the composite; both are checked."""
    model = cnn()
    maps = {
        bias: LRPFx(model, "epsilon_plus", bias=bias).attribute(X, 1)
        for bias in ("absorb", "ignore", "distribute")
    }
    assert not torch.equal(maps["absorb"], maps["ignore"])
    assert not torch.equal(maps["absorb"], maps["distribute"])
    lines = composites.EpsilonPlus().assignments
    ignoring = Composite(lines, bias="ignore", strict=False)
    assert torch.equal(LRPFx(model, ignoring).attribute(X, 1), maps["ignore"])
    assert torch.equal(LRPFx(model, ignoring, bias="absorb").attribute(X, 1), maps["absorb"])
    with pytest.raises(OptionError, match="bias must be one of 'absorb', 'ignore', 'distribute'"):
        Composite(lines, bias="keep")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"propagation": "fast"}, "propagation must be one of 'direct', 'gradient', got 'fast'"),
        ({"bias": "keep"}, "bias must be one of None, 'absorb', 'ignore', 'distribute'"),
        ({"capture": "trace"}, "capture must be one of 'auto', 'symbolic', 'export'"),
        ({"unknown": "skip"}, "unknown must be one of 'error', 'vjp'"),
        ({"verify": "never"}, "verify must be one of 'auto', 'always', 'first'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_cannot_be(option: dict[str, Any], words: str) -> None:
    for make in (LRPFx, lambda model, **o: LayerLRPFx(model, "conv1", **o)):
        with pytest.raises(OptionError, match=words):
            make(cnn(), **option)
