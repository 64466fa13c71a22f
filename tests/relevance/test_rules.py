"""What each rule promises whatever the numbers: conservation, signs, linearity; and its refusals.

Weights, inputs and biases are small integers, so a denominator is either exactly zero or far from it
and every sum is exact: no example fails for its conditioning.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from lrp_fx import Composite, LRPFx, rules
from lrp_fx.composites import compat
from lrp_fx.errors import OptionError
from lrp_fx.relevance.engines import ENGINES
from lrp_fx.relevance.linear.branches import simplified
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.rules import Stabilizer
from tests.helpers.twins import minus, plus

EXACT = 1e-12
"""Of Σ|R| or max |R| in float64: a few hundred additions of well-conditioned terms (1e-16 each)."""
EXAMPLES = settings(max_examples=20, deadline=None, derandomize=True)
"""The same examples in every run: a test that fails once in a while teaches nothing."""

NO_EPS = Stabilizer(0.0)
aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """A linear operation with an input and the relevance of its output."""

    packet: Any
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]
    x: Tensor
    relevance: Tensor

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.packet(x, weight, bias, **self.options)

    def shares(
        self,
        rule: rules.LinearRule,
        relevance: Tensor | None = None,
        *,
        nonnegative: bool = False,
        bias: Any = "absorb",
        engine: Any = "direct",
    ) -> Tensor:
        """The relevance of the input."""
        formula = Formula.of(self.packet, rule, nonnegative=nonnegative, bias=bias, engine=engine)
        box = isinstance(rule, rules.ZBox)
        bounds = [torch.full_like(self.x, v) for v in (rule.low, rule.high)] if box else []
        operands = formula.operands(
            self.x,
            self(self.x, self.weight, self.bias),
            formula.weights(self.weight),
            self.bias,
            *bounds,
            **self.options,
        )
        return formula.relevance(self.relevance if relevance is None else relevance, operands)


def whole(*shape: int, least: int = -3) -> st.SearchStrategy[Tensor]:
    """Tensors of small whole numbers."""
    numbers = arrays(np.int64, shape, elements=st.integers(least, 3))
    return numbers.map(lambda array: torch.from_numpy(array.copy()).double())


@st.composite
def layers(draw: st.DrawFn, *, bias: bool = False, least: int = -3, least_r: int = -3) -> Layer:
    """A linear layer or a convolution of any stride, padding, dilation and number of groups."""
    if draw(st.booleans()):
        inputs, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        packet, shape, options = aten.linear, (2, inputs), {}
        weight = draw(whole(outputs, inputs))
    else:
        groups, depth = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        outputs, kernel = groups * draw(st.integers(1, 2)), draw(st.integers(1, 3))
        packet, shape = aten.conv1d, (2, groups * depth, draw(st.integers(5, 6)))
        options = {
            "stride": [draw(st.integers(1, 3))],
            "padding": [draw(st.integers(0, kernel - 1))],
            "dilation": [draw(st.integers(1, 2)) if kernel < 3 else 1],
            "groups": groups,
        }
        weight = draw(whole(outputs, depth, kernel))
    x = draw(whole(*shape, least=least))
    b = draw(whole(outputs)) if bias else None
    output = packet(x, weight, b, **options)
    return Layer(packet, weight, b, options, x, draw(whole(*output.shape, least=least_r)))


def kept(layer: Layer, *groups: tuple[float, Tensor]) -> Tensor:
    """Σ over the outputs of ``R`` times the coefficients of their groups with z ≠ 0, per sample."""
    total = sum(c * torch.where(z != 0, layer.relevance, 0) for c, z in groups)
    return total.flatten(1).sum(1)


def contributions(layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """z, its positive and its negative contributions, bias included."""
    x, w, b = layer.x, layer.weight, layer.bias
    up, down = (None, None) if b is None else (plus(b), minus(b))
    positive = layer(plus(x), plus(w), up) + layer(minus(x), minus(w))
    negative = layer(plus(x), minus(w), down) + layer(minus(x), plus(w))
    return layer(x, w, b), positive, negative


Conserved = Callable[[Layer], Tensor]


def _all(layer: Layer) -> Tensor:
    return kept(layer, (1, contributions(layer)[0]))


def _positive(layer: Layer) -> Tensor:
    return kept(layer, (1, contributions(layer)[1]))


def _alpha_beta(layer: Layer) -> Tensor:
    _, positive, negative = contributions(layer)
    return kept(layer, (2, positive), (-1, negative))


def _gamma(layer: Layer) -> Tensor:
    b = layer.bias
    favoured = None if b is None else b + 0.25 * plus(b)
    return kept(layer, (1, layer(layer.x, layer.weight + 0.25 * plus(layer.weight), favoured)))


def _squares(layer: Layer) -> Tensor:
    b = None if layer.bias is None else layer.bias**2
    return kept(layer, (1, layer(torch.ones_like(layer.x), layer.weight**2, b)))


def _ones(part: Callable[[Tensor], Tensor]) -> Conserved:
    return lambda layer: kept(layer, (1, layer(torch.ones_like(layer.x), part(layer.weight))))


def _box(layer: Layer) -> Tensor:
    x, w = layer.x, layer.weight
    low, high = torch.full_like(x, -4), torch.full_like(x, 5)
    return kept(layer, (1, layer(x, w) - layer(low, plus(w)) - layer(high, minus(w))))


CONSERVING: dict[str, tuple[rules.LinearRule, Conserved]] = {
    "zero": (rules.Zero(), _all),
    "epsilon": (rules.Epsilon(stabilizer=NO_EPS), _all),
    "z plus": (rules.ZPlus(stabilizer=NO_EPS), _positive),
    "alpha 1 beta 0": (rules.AlphaBeta(1, 0, stabilizer=NO_EPS), _positive),
    "alpha 2 beta 1": (rules.AlphaBeta(2, 1, stabilizer=NO_EPS), _alpha_beta),
    "gamma": (rules.Gamma(0.25, stabilizer=NO_EPS), _gamma),
    "generalized gamma": (rules.GeneralizedGamma(0.25, stabilizer=NO_EPS), _all),
    "w square": (rules.WSquare(stabilizer=NO_EPS), _squares),
    "flat": (rules.Flat(stabilizer=NO_EPS), _ones(torch.ones_like)),
    "w plus": (rules.WPlus(stabilizer=NO_EPS), _ones(plus)),
    "z box": (rules.ZBox(-4.0, 5.0, stabilizer=NO_EPS), _box),
}
"""Each rule, and what of the relevance it keeps where nothing is lost to a bias or to ε."""
each_rule = pytest.mark.parametrize("name", CONSERVING)
each_engine = pytest.mark.parametrize("engine", ENGINES)


def assert_sums(layer: Layer, mine: Tensor, expected: Tensor) -> None:
    scale = float(mine.abs().sum() + layer.relevance.abs().sum())
    assert float((mine.flatten(1).sum(1) - expected).abs().max()) <= EXACT * scale


def assert_same(mine: Tensor, expected: Tensor) -> None:
    assert mine.shape == expected.shape
    assert float((mine - expected).abs().max()) <= EXACT * float(1 + expected.abs().max())


# Conservation


@each_engine
@each_rule
@EXAMPLES
@given(layer=layers())
def test_conservation_without_bias(name: str, engine: str, layer: Layer) -> None:
    """Of each output all the relevance goes on, where its denominator is not zero."""
    rule, expected = CONSERVING[name]
    assert_sums(layer, layer.shares(rule, engine=engine), expected(layer))


@each_engine
@each_rule
@EXAMPLES
@given(layer=layers(bias=True))
def test_conservation_with_a_distributed_bias(name: str, engine: str, layer: Layer) -> None:
    """The bias' share goes to the real inputs of the window, at padded borders too."""
    rule, expected = CONSERVING[name]
    mine = layer.shares(rule, bias="distribute", engine=engine)
    assert_sums(layer, mine, expected(layer))


@pytest.mark.parametrize("name", [name for name in CONSERVING if name != "generalized gamma"])
@EXAMPLES
@given(layer=layers(bias=True))
def test_an_ignored_bias_is_no_bias(name: str, layer: Layer) -> None:
    """Save for the generalized γ, whose mask is the sign of the true output."""
    rule, _ = CONSERVING[name]
    without = replace(layer, bias=None)
    assert_same(layer.shares(rule, bias="ignore"), without.shares(rule))


# Signs

POSITIVE = ["z plus", "alpha 1 beta 0", "w square", "flat", "w plus", "z box"]


@pytest.mark.parametrize("bias", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("name", POSITIVE)
@EXAMPLES
@given(layer=layers(bias=True, least_r=0))
def test_positive_relevance_stays_positive(name: str, bias: str, layer: Layer) -> None:
    """Of the rules that keep positive contributions only."""
    lower = layer.shares(CONSERVING[name][0], bias=bias)
    assert float(lower.min()) >= -EXACT * float(lower.abs().max())


@each_engine
@each_rule
@EXAMPLES
@given(layer=layers(bias=True, least=0))
def test_knowing_that_the_input_is_nonnegative_changes_nothing(
    name: str, engine: str, layer: Layer
) -> None:
    rule, _ = CONSERVING[name]
    fewer = layer.shares(rule, nonnegative=True, engine=engine)
    assert_same(fewer, layer.shares(rule, engine=engine))


@pytest.mark.parametrize(
    ("rule", "branches"),
    [
        (rules.ZPlus(), (2, 1)),
        (rules.AlphaBeta(1, 0), (2, 1)),
        (rules.AlphaBeta(2, 1), (4, 2)),
        (rules.GeneralizedGamma(), (4, 2)),
        (rules.Epsilon(), (1, 1)),
        (rules.ZBox(), (3, 3)),
    ],
    ids=str,
)
def test_nonnegative_inputs_cost_less(rule: rules.LinearRule, branches: tuple[int, int]) -> None:
    """The branches in x⁻ vanish when the graph is written: half the work of z⁺."""
    for nonnegative, count in zip((False, True), branches, strict=True):
        table = simplified(rule.table(), nonnegative=nonnegative)
        assert sum(len(group.branches) for group in table) == count


def test_z_plus_on_nonnegative_inputs_needs_no_copy_of_the_input() -> None:
    """x⁺ = x there, so the part of the input that the branch takes is the input itself."""
    ((group,), x) = simplified(rules.ZPlus().table(), nonnegative=True), torch.ones(3)
    assert group.branches[0].input.of(x) is x


# Linearity and invariance


@each_engine
@each_rule
@EXAMPLES
@given(data=st.data(), layer=layers(bias=True))
def test_rules_are_linear_in_the_relevance(
    name: str, engine: str, data: st.DataObject, layer: Layer
) -> None:
    """What lets the relevance of several readers be added up before a rule is applied."""
    rule, _ = CONSERVING[name]
    other = data.draw(whole(*layer.relevance.shape))
    total = layer.shares(rule, layer.relevance - 2 * other, engine=engine)
    parts = layer.shares(rule, engine=engine), layer.shares(rule, other, engine=engine)
    assert_same(total, parts[0] - 2 * parts[1])


@each_rule
@EXAMPLES
@given(layer=layers(bias=True), factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_the_scale_of_a_layer_does_not_matter(name: str, layer: Layer, factor: float) -> None:
    """Weights and bias times a positive constant: the same shares (ε = 0; powers of 2 are exact).

    w² takes the squares of both, so it holds there too.
    """
    rule, _ = CONSERVING[name]
    assert layer.bias is not None
    scaled = replace(layer, weight=factor * layer.weight, bias=factor * layer.bias)
    assert_same(scaled.shares(rule), layer.shares(rule))


@each_rule
@EXAMPLES
@given(layer=layers(bias=True))
def test_samples_do_not_see_each_other(name: str, layer: Layer) -> None:
    rule, _ = CONSERVING[name]
    both = layer.shares(rule)
    for n in range(2):
        alone = replace(layer, x=layer.x[n : n + 1], relevance=layer.relevance[n : n + 1])
        assert_same(both[n : n + 1], alone.shares(rule))


@st.composite
def convolutions(draw: st.DrawFn) -> Layer:
    """Plain and transposed convolutions of 1 to 3 dimensions, options per dimension."""
    dims, transposed = draw(st.integers(1, 3)), draw(st.booleans())
    sizes = st.integers(1, 2) if dims == 3 else st.integers(1, 3)
    each = st.lists(sizes, min_size=dims, max_size=dims)
    kernel, stride, dilation = draw(each), draw(each), draw(each)
    groups = draw(st.integers(1, 2))
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    options["padding"] = [draw(st.integers(0, k - 1)) for k in kernel]
    if transposed:
        limits = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = [draw(st.integers(0, limit)) for limit in limits]
    packet = getattr(aten, f"conv{'_transpose' if transposed else ''}{dims}d")
    x = draw(whole(1, groups, *[7 if dims < 3 else 4] * dims))
    weight = draw(whole(groups, 1, *kernel))
    output = packet(x, weight, None, **options)
    return Layer(packet, weight, None, options, x, torch.ones_like(output))


@pytest.mark.parametrize("name", ["epsilon", "z plus", "flat"])
@EXAMPLES
@given(layer=convolutions())
def test_both_engines_agree_on_any_convolution(name: str, layer: Layer) -> None:
    """The adjoint with its computed output padding, against autograd."""
    rule, _ = CONSERVING[name]
    assert_same(layer.shares(rule, engine="direct"), layer.shares(rule, engine="gradient"))


# The stabilizer

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_sign_of_zero_is_plus(zero: float, dtype: torch.dtype) -> None:
    """Of either zero: two dead units must not differ by the sign of a rounding."""
    s = Stabilizer(0.25).apply(torch.tensor([zero], dtype=dtype))
    assert s.dtype == dtype
    assert s.item() == 0.25


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("signed", [True, False])
def test_eps_is_raised_to_what_the_dtype_can_hold(signed: bool, dtype: torch.dtype) -> None:
    """1e-50 is 0 in float16 and float32: a division by zero, unless raised."""
    zero = torch.zeros(1, dtype=dtype)
    s = Stabilizer(1e-50, signed=signed).apply(zero)
    assert s.item() >= torch.finfo(dtype).tiny or dtype == torch.float64
    assert torch.isfinite(Stabilizer(1e-50, signed=signed).quotient(zero, zero)).all()


def test_eps_is_as_exact_as_the_dtype() -> None:
    """0.1 in float64 is not 0.1 rounded to float32."""
    z = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert Stabilizer(0.1).apply(z).tolist() == [1.1, -1.1]


@EXAMPLES
@given(z=st.floats(-1e6, 1e6), eps=st.floats(1e-9, 1.0))
def test_a_signed_stabilizer_moves_away_from_zero(z: float, eps: float) -> None:
    s = Stabilizer(eps).apply(torch.tensor([z], dtype=torch.float64)).item()
    assert abs(s) >= abs(z)
    assert abs(s) >= eps
    assert s == z + math.copysign(eps, 1 if z == 0 else z)


def test_an_unsigned_stabilizer_has_a_pole() -> None:
    """At z = −ε, where the quotient is zero; on both sides of it the sign turns."""
    stabilizer = Stabilizer(0.25, signed=False)
    z = torch.tensor([0.0, -0.25, -0.5, -0.125])
    assert stabilizer.apply(z).tolist() == [0.25, 0.0, -0.25, 0.125]
    assert stabilizer.quotient(torch.ones(4), z).tolist() == [4.0, 0.0, -4.0, 8.0]


@pytest.mark.parametrize("signed", [True, False])
def test_zero_denominators_give_zero(signed: bool) -> None:
    """Not NaN, and not infinity: that relevance is dead. A zero relevance stays zero."""
    z = torch.tensor([0.0, -0.0, 2.0, 0.0])
    relevance = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert Stabilizer(0.0, signed=signed).quotient(relevance, z).tolist() == [0, 0, 0.5, 0]


def test_without_eps_a_denominator_is_left_as_it_is() -> None:
    z = torch.tensor([1e-30, -2.0])
    assert Stabilizer(0.0).apply(z) is z


# Refusals and defaults


@pytest.mark.parametrize("half", [np.float64(0.5), np.float32(0.5), Fraction(1, 2)])
def test_numbers_of_other_kinds_become_those_of_python(half: Any) -> None:
    """They would stand in generated code, which does not know NumPy."""
    made: tuple[tuple[rules.LinearRule, rules.LinearRule], ...] = (
        (rules.GeneralizedGamma(half), rules.GeneralizedGamma(0.5)),
        (rules.Gamma(half), rules.Gamma(0.5)),
        (rules.AlphaBeta(1 + half, half), rules.AlphaBeta(1.5, 0.5)),
        (rules.ZBox(-half, half), rules.ZBox(-0.5, 0.5)),
        (rules.Epsilon(half), rules.Epsilon(0.5)),
        (rules.Zero(stabilizer=Stabilizer(half)), rules.Zero(stabilizer=Stabilizer(0.5))),
    )
    for rule, plain in made:
        assert repr(rule) == repr(plain)
    part = rules.Part(half, half)
    assert repr(part) == "Part(positive=0.5, negative=0.5, power=1)"
    assert type(rules.Group((), half).coefficient) is float
    assert type(rules.Branch(part, part, part, sign=half).sign) is float
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    x = torch.linspace(-1, 1, 8).reshape(2, 4)
    maps = [
        LRPFx(model, Composite([("*", rule)])).attribute(x, target=1)
        for rule in (rules.GeneralizedGamma(half), rules.GeneralizedGamma(0.5))
    ]
    assert torch.equal(*maps)


@pytest.mark.parametrize("eps", [-1e-6, math.nan])
def test_a_stabilizer_refuses(eps: float) -> None:
    with pytest.raises(ValueError, match="eps >= 0"):
        Stabilizer(eps)


@pytest.mark.parametrize(
    ("alpha", "beta"), [(2, 0), (1, 1), (0.5, -0.5), (-1, -2), (math.nan, math.nan)]
)
def test_alpha_beta_refuses(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match="alpha - beta = 1"):
        rules.AlphaBeta(alpha, beta)


@pytest.mark.parametrize(("alpha", "beta"), [(1.1, 0.1), (1, 0), (3, 2)])
def test_alpha_beta_accepts(alpha: float, beta: float) -> None:
    """1.1 − 0.1 is not 1 in binary."""
    assert rules.AlphaBeta(alpha, beta).table()[0].coefficient == alpha


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1.0, 0.0),
        (torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])),
        (torch.tensor([0.0, 2.0]), 1.0),
        (math.nan, 1.0),
    ],
)
def test_z_box_refuses(low: Any, high: Any) -> None:
    with pytest.raises(ValueError, match="low <= high"):
        rules.ZBox(low, high)


def test_epsilon_by_number_or_by_stabilizer() -> None:
    """ε is kept once: a number takes the place of the stabilizer's own, whichever that is."""
    assert rules.Epsilon(0.25).stabilizer == Stabilizer(0.25)
    unsigned = rules.Epsilon(0.25, stabilizer=Stabilizer(0.5, signed=False))
    assert (unsigned.eps, unsigned.stabilizer) == (0.25, Stabilizer(0.25, signed=False))
    assert rules.Epsilon(0.25, stabilizer=Stabilizer()).eps == 0.25
    assert rules.Epsilon(stabilizer=Stabilizer(0.5)) == rules.Epsilon(0.5)
    assert replace(rules.Epsilon(0.25), eps=0.5) == rules.Epsilon(0.5)
    assert replace(unsigned, eps=0.5).stabilizer == Stabilizer(0.5, signed=False)
    assert replace(rules.Epsilon(0.25), stabilizer=Stabilizer(0.5)).eps == 0.5
    assert rules.Zero().stabilizer.eps == 0
    assert [str(rule) for rule in (rules.Epsilon(), rules.Epsilon(0.25), rules.ZPlus())] == [
        "Epsilon(eps=1e-06)",
        "Epsilon(eps=0.25)",
        "ZPlus()",
    ]


EVERY_RULE = [
    each
    for each in [*vars(rules).values(), compat.UnsplitZPlus, compat.PlainBiasGamma]
    if isinstance(each, type)
    and issubclass(each, rules.Rule)
    and each not in (rules.Rule, rules.LinearRule)
]
CHANGED: dict[str, st.SearchStrategy[Any]] = {
    "stabilizer": st.builds(Stabilizer, st.floats(0, 1), signed=st.booleans()),
    "eps": st.floats(0, 1),
    "gamma": st.floats(0, 1),
    "low": st.floats(-2, 0),
    "high": st.floats(1, 2),
    "bias": st.booleans(),
    "input": st.sampled_from([rules.ZPlus(), rules.Flat()]),
    "hidden": st.sampled_from([rules.ZPlus(), rules.Flat()]),
    "addition": st.sampled_from([rules.Half(), rules.ByMagnitude()]),
}


@pytest.mark.parametrize("kind", EVERY_RULE, ids=lambda kind: kind.__name__)
@EXAMPLES
@given(data=st.data())
def test_every_argument_of_a_rule_can_be_replaced(kind: type[rules.Rule], data: Any) -> None:
    """After ``replace`` the argument has its new value, and the other fields have their old ones."""
    rule = kind()
    names = [name for name in inspect.signature(kind).parameters if name in CHANGED]
    for name in names:
        value = data.draw(CHANGED[name])
        changed = replace(rule, **{name: value})
        assert getattr(changed, name) == value
        for other in fields(kind):
            if other.name != name and name != "eps":
                assert getattr(changed, other.name) == getattr(rule, other.name)
        assert replace(changed, **{name: getattr(rule, name)}) == rule
        rule = changed
    if kind is rules.AlphaBeta:
        assert replace(rules.AlphaBeta(), alpha=1.5, beta=0.5) == rules.AlphaBeta(1.5, 0.5)
    else:
        assert set(inspect.signature(kind).parameters) == set(names)


@pytest.mark.parametrize("kind", EVERY_RULE, ids=lambda kind: kind.__name__)
def test_a_stabilizer_is_one(kind: type[rules.Rule]) -> None:
    """Protects from a number that is taken for a stabilizer and fails deep inside."""
    if "stabilizer" in inspect.signature(kind).parameters:
        with pytest.raises(OptionError, match="must be a Stabilizer, got"):
            kind(stabilizer=0.5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "rule",
    [rule for rule, _ in CONSERVING.values()]
    + [compat.UnsplitZPlus(), compat.PlainBiasGamma(), rules.Winner(), rules.Half()],
    ids=str,
)
def test_rules_are_values(rule: rules.Rule) -> None:
    """Frozen, equal by their parameters, usable as keys."""
    assert rule == replace(rule)
    assert hash(rule) == hash(replace(rule))
    with pytest.raises(AttributeError):
        rule.stabilizer = Stabilizer(1.0)  # type: ignore[attr-defined]


def test_a_rule_of_ones_own() -> None:
    """The module docstring's promise: a table is all that a rule needs."""

    @dataclass(frozen=True)
    class OnlyPositiveInputs(rules.LinearRule):
        def table(self) -> rules.Table:
            return (rules.Group((rules.Branch(rules.PLUS, rules.FULL, rules.ZERO),)),)

    x, w = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[2.0, 1.0, -1.0]])
    layer = Layer(aten.linear, w, None, {}, x, torch.ones(1, 1))
    shares = layer.shares(OnlyPositiveInputs(stabilizer=NO_EPS))
    assert shares.tolist() == [[-2.0, 0.0, 3.0]]
    assert torch.equal(shares.sum(), F.linear(x, w).new_ones(()))
