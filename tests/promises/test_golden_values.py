"""The golden table: one linear layer by hand, in every definition that this library offers."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, rules
from lrp_fx.composites import Composite, Uniform, compat
from lrp_fx.relevance.engines import ENGINES
from lrp_fx.rules import Stabilizer

FOUR_DIGITS = 0.5001e-4
"""The table gives four decimals: half a unit of the last one, and a little for ε = 1e-6 and 1e-5."""

X = [1.0, -2.0]
OUTPUT = [1.5, -6.0]
"""z of the layer; the propagation starts with R = z."""

SECTION_3 = {
    "epsilon 1e-9": (Uniform(rules.Epsilon(1e-9)), [2, -6]),
    "epsilon 0.25": (Uniform(rules.Epsilon(0.25)), [1.6114, -5.5543]),
    "z plus": (Uniform(rules.ZPlus()), [1.2857, 0]),
    "gamma": (Uniform(rules.Gamma(0.25)), [2.1429, -6.2857]),
    "generalized gamma": (Uniform(rules.GeneralizedGamma(0.25)), [1.3684, -5.2632]),
    "alpha 2 beta 1": (Uniform(rules.AlphaBeta(2, 1)), [3.5714, 2.5]),
    "z box": (Uniform(rules.ZBox(-3.0, 3.0)), [-1.6154, -2.8846]),
    "w square": (Uniform(rules.WSquare()), [0.3171, -3.8537]),
    "flat": (Uniform(rules.Flat()), [-2.25, -2.25]),
    "w plus": (Uniform(rules.WPlus()), [1.125, -5.625]),
}
BIAS_IGNORED = {
    "z plus": (Uniform(rules.ZPlus()), [1.5, 0]),
    "gamma": (Uniform(rules.Gamma(0.25)), [3.5, -8]),
    "generalized gamma": (Uniform(rules.GeneralizedGamma(0.25)), [2.0143, -6.5143]),
    "z box": (Uniform(rules.ZBox(-3.0, 3.0)), [-1.6154, -2.8846]),
    "w square": (Uniform(rules.WSquare()), [0.15, -4.65]),
}
CAPTUM = {
    "epsilon 1e-9": (compat.captum("epsilon"), [2, -6]),
    "z plus": (compat.captum("alpha1_beta0"), [3, -6.8]),
    "gamma": (compat.captum("gamma"), [2.3571, -6.4286]),
}
CAPTUM_NO_BIAS = {
    "z plus": (compat.captum("alpha1_beta0"), [4.5, -9]),
    "gamma": (compat.captum("gamma"), [3.5, -8]),
}

NO_EPS = Stabilizer(0.0)
DISTRIBUTED = {
    # z = (1.5, -6), so q = (1, 1), and b q = (0.5, -1) goes half to each of the two inputs
    "epsilon": (rules.Epsilon(stabilizer=NO_EPS), [2 + 0.25 - 0.5, -6 + 0.25 - 0.5]),
    # z = (3 + 0.5, 0), so q = (3 / 7, 0): the second output has no positive contribution
    "z plus": (rules.ZPlus(stabilizer=NO_EPS), [3 * 3 / 7 + 0.25 * 3 / 7, 0.25 * 3 / 7]),
    # z = (9 + 1 + 0.25, 1 + 4 + 1), so q = (6 / 41, -1)
    "w square": (
        rules.WSquare(stabilizer=NO_EPS),
        [9 * 6 / 41 - 1 + 0.125 * 6 / 41 - 0.5, 6 / 41 - 4 + 0.125 * 6 / 41 - 0.5],
    ),
}
"""The bias distributed, by hand from eq. 4 of the blog post; not in the design's table."""


def golden_layer() -> nn.Linear:
    layer = nn.Linear(2, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 1.0], [-1.0, 2.0]]))
        assert layer.bias is not None
        layer.bias.copy_(torch.tensor([0.5, -1.0]))
    return layer


def relevance_of(composite: Composite, engine: str, bias: str | None = None) -> Tensor:
    x = torch.tensor([X], dtype=torch.float64)
    lrp = LRPFx(golden_layer(), composite, start=lambda z: z, bias=bias, propagation=engine)
    return lrp.attribute(x)


def assert_golden(relevance: Tensor, expected: list[float]) -> None:
    difference = (relevance - torch.tensor([expected], dtype=relevance.dtype)).abs().max()
    assert difference < FOUR_DIGITS, f"{relevance.tolist()} instead of {expected}"


def test_the_layer_is_the_one_of_the_table() -> None:
    z = golden_layer()(torch.tensor([X], dtype=torch.float64))
    assert z.tolist() == [OUTPUT]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", SECTION_3)
def test_published_formulas(rule: str, engine: str) -> None:
    """The column of section 3, which zennit shares wherever it has the rule."""
    composite, expected = SECTION_3[rule]
    assert_golden(relevance_of(composite, engine), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", BIAS_IGNORED)
def test_bias_ignored(rule: str, engine: str) -> None:
    composite, expected = BIAS_IGNORED[rule]
    assert_golden(relevance_of(composite, engine, "ignore"), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", CAPTUM)
def test_captums_definitions(rule: str, engine: str) -> None:
    composite, expected = CAPTUM[rule]
    assert_golden(relevance_of(composite, engine), expected)


def test_epsilon_of_a_quarter_is_captums_too() -> None:
    """Captum's ε rule differs by its default ε alone."""
    x = torch.tensor([X], dtype=torch.float64)
    model = nn.Sequential(golden_layer())
    theirs = torch.zeros_like(x)
    for target in (0, 1):
        model[0].rule = EpsilonRule(0.25)  # attribute() takes the rule off again
        theirs += LRP(model).attribute(x, target=target).detach()
    assert_golden(theirs, SECTION_3["epsilon 0.25"][1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", CAPTUM_NO_BIAS)
def test_captums_definitions_without_bias(rule: str, engine: str) -> None:
    composite, expected = CAPTUM_NO_BIAS[rule]
    assert_golden(relevance_of(composite, engine, "ignore"), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_blog_post_above_the_first_layer(engine: str) -> None:
    """x W⁺ without bias, ε = 1e-5 unsigned: the layer is the second of two, the first an identity."""
    first = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        first.weight.copy_(torch.eye(2))
    model = nn.Sequential(first, golden_layer())
    x = torch.tensor([X], dtype=torch.float64)
    lrp = LayerLRPFx(model, "0", compat.blog(), start=lambda z: z, propagation=engine)
    assert_golden(lrp.attribute(x), [4.5, -9])


@pytest.mark.parametrize("engine", ENGINES)
def test_blog_post_at_the_first_layer(engine: str) -> None:
    """The image replaced by ones: the row w⁺."""
    assert_golden(relevance_of(compat.blog(), engine), SECTION_3["w plus"][1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", DISTRIBUTED)
def test_bias_distributed(rule: str, engine: str) -> None:
    it, expected = DISTRIBUTED[rule]
    assert_golden(relevance_of(Uniform(it), engine, "distribute"), expected)
