"""The drop-ins of Captum's LRP: its signatures, its numbers, the rules on its modules."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import captum.attr
import pytest
import torch
from captum.attr._utils import lrp_rules
from torch import Tensor, nn

from lrp_fx.adapters import LRP, LayerLRP
from lrp_fx.errors import CompositeError
from tests.helpers.closeness import assert_close

ROUNDING = 1e-10
"""Of max |R|: float64, a few layers, sums in another order."""

MERGED = 1e-6
"""Captum adds ε = 1e-9 at the convolution and at the batch norm; merged, they have one. The smallest
denominators of the fixed seed are near 1e-2."""

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.Tanh()),
            *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)),
        )
        .eval()
        .double()
    )


class Flat(nn.Module):
    """The network for Captum, which has no rule for nn.Flatten."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer for layer in layers if not isinstance(layer, nn.Flatten))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
        return x


def with_rules(rules: dict[int, Callable[[], Any]]) -> nn.Module:
    model = Flat(network())
    for place, make in rules.items():
        model.layers[place].rule = make()
    return model


RULES: dict[str, dict[int, Callable[[], Any]]] = {
    "none": {},
    "epsilon": {0: lambda: lrp_rules.EpsilonRule(0.1), 8: lambda: lrp_rules.EpsilonRule(0.5)},
    "gamma": {0: lrp_rules.GammaRule, 3: lambda: lrp_rules.GammaRule(0.5, set_bias_to_zero=True)},
    "alpha1 beta0": {
        0: lrp_rules.Alpha1_Beta0_Rule,
        6: lambda: lrp_rules.Alpha1_Beta0_Rule(set_bias_to_zero=True),
    },
    "on pooling": {2: lambda: lrp_rules.EpsilonRule(0.2), 5: lrp_rules.GammaRule},
    "on activations": {1: lrp_rules.IdentityRule},
    "mixed": {
        0: lrp_rules.GammaRule,
        3: lrp_rules.Alpha1_Beta0_Rule,
        6: lambda: lrp_rules.EpsilonRule(0.1),
    },
}


@pytest.mark.parametrize("name", RULES)
def test_the_rules_of_modules_give_captums_numbers(name: str) -> None:
    expected, left = captum.attr.LRP(with_rules(RULES[name])).attribute(
        X.clone(), 2, return_convergence_delta=True
    )
    mine, delta = LRP(with_rules(RULES[name])).attribute(X, 2, return_convergence_delta=True)
    assert_close(mine, expected.detach(), ROUNDING)
    assert_close(delta, left.detach(), ROUNDING)
    assert mine.shape == X.shape


def test_identity_on_a_linear_layer_of_equal_sizes() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double()
        model[0].rule = lrp_rules.IdentityRule()
        return model

    x = torch.rand(2, 4, dtype=torch.float64)
    expected = captum.attr.LRP(make()).attribute(x.clone(), 1)
    assert_close(LRP(make()).attribute(x, 1), expected.detach(), ROUNDING)


def test_rules_are_read_before_each_call_and_stay() -> None:
    model = with_rules({})
    lrp, plain = LRP(model), LRP(with_rules({})).attribute(X, 2)
    assert torch.equal(lrp.attribute(X, 2), plain)
    model.layers[0].rule = lrp_rules.GammaRule(0.5)  # type: ignore[union-attr, assignment]
    changed = lrp.attribute(X, 2)
    assert not torch.allclose(changed, plain)
    assert torch.equal(lrp.attribute(X, 2), changed)
    del model.layers[0].rule  # type: ignore[union-attr]
    assert torch.equal(lrp.attribute(X, 2), plain)


@pytest.mark.parametrize("place", [0, 2, 3])
@pytest.mark.parametrize("of_input", [False, True])
def test_layers(place: int, of_input: bool) -> None:
    theirs = with_rules(RULES["mixed"])
    expected = captum.attr.LayerLRP(theirs, theirs.layers[place]).attribute(
        X.clone(), 2, attribute_to_layer_input=of_input
    )
    expected = expected[0] if isinstance(expected, tuple) else expected
    model = with_rules(RULES["mixed"])
    mine = LayerLRP(model, model.layers[place]).attribute(X, 2, attribute_to_layer_input=of_input)  # type: ignore[index, arg-type]
    assert isinstance(mine, Tensor)
    assert_close(mine, expected.detach(), ROUNDING)


@pytest.mark.parametrize("name", ["LRP", "LayerLRP"])
def test_the_signatures_are_captums(name: str) -> None:
    theirs, mine = getattr(captum.attr, name), {"LRP": LRP, "LayerLRP": LayerLRP}[name]
    assert list(inspect.signature(mine).parameters) == list(inspect.signature(theirs).parameters)
    expected = inspect.signature(theirs.attribute).parameters
    found = inspect.signature(mine.attribute).parameters
    assert list(found)[: len(expected)] == list(expected)
    for key, parameter in expected.items():
        assert found[key].default == parameter.default
    assert issubclass(mine, captum.attr.Attribution)


def test_verbose_says_which_rule_each_layer_has(capsys: pytest.CaptureFixture[str]) -> None:
    LRP(with_rules(RULES["gamma"])).attribute(X, 2, verbose=True)
    assert "PlainBiasGamma" in capsys.readouterr().out


def test_captums_tools_take_it() -> None:
    tunnel = captum.attr.NoiseTunnel(LRP(with_rules({})))
    assert tunnel.attribute(X, nt_samples=2, stdevs=0.1, target=1).shape == X.shape


class OwnRule(lrp_rules.EpsilonRule):
    """What no reader can know."""


def test_rules_that_cannot_be_followed() -> None:
    model = with_rules({0: OwnRule})
    with pytest.raises(
        CompositeError, match=r"OwnRule of module 'layers.0' is not one of Captum's"
    ):
        LRP(model)
    for wrong in ("epsilon", 3):
        other = with_rules({0: lambda wrong=wrong: wrong})  # type: ignore[misc]
        with pytest.raises(CompositeError, match="must be a rule of Captum"):
            LRP(other)
    model = with_rules({})
    model.layers.rule = lrp_rules.EpsilonRule()  # type: ignore[assignment]
    with pytest.raises(CompositeError, match="'layers' has a rule and children"):
        LRP(model)
    model = with_rules({})
    lrp = LRP(model)
    model.layers[3].rule = OwnRule()  # type: ignore[union-attr, assignment]
    with pytest.raises(CompositeError, match="OwnRule"):
        lrp.attribute(X, 2)


def test_batch_norms_follow_epsilon_alone() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        model = nn.Sequential(*layers).double()
        with torch.no_grad():
            model[1].running_mean.normal_()
            model[1].running_var.uniform_(0.5, 2)
        return model.eval()

    expected = captum.attr.LRP(make()).attribute(X.clone(), (1, 0, 0))
    assert_close(LRP(make()).attribute(X, (1, 0, 0)), expected.detach(), MERGED)
    wrong = (
        (0, lrp_rules.GammaRule()),
        (1, lrp_rules.IdentityRule()),
        (0, lrp_rules.EpsilonRule(0.1)),
    )
    for place, rule in wrong:
        model = make()
        model[place].rule = rule
        with pytest.raises(CompositeError, match="'1' is a batch norm"):
            LRP(model)


def test_the_model_is_left_as_it_was() -> None:
    model = with_rules(RULES["mixed"])
    before = copy.deepcopy(model.state_dict())
    LRP(model).attribute(X, 2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model.layers[0].rule, lrp_rules.GammaRule)  # type: ignore[union-attr]


def test_what_captum_refuses_is_explained() -> None:
    """A layer without a rule of Captum, and a module that is called twice."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act, self.head = nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.layer(self.act(self.layer(x)))) + x)

    torch.manual_seed(0)
    model, x = Twice(), torch.rand(2, 4)
    with pytest.raises((TypeError, RuntimeError)):
        captum.attr.LRP(copy.deepcopy(model)).attribute(x, 1)
    assert LRP(model).attribute(x, 1).shape == x.shape
