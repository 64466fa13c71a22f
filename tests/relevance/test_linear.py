"""Rules of linear operations against slow twins in explicit matrix form (``helpers/twins.py``)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx, rules
from lrp_fx.composites import Composite, Uniform, compat, operation
from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.relevance.engines import ENGINES
from lrp_fx.relevance.handling import BIAS_POLICIES
from lrp_fx.rules import Stabilizer
from tests.helpers import twins
from tests.helpers.closeness import assert_close
from tests.helpers.models import seeded
from tests.helpers.numbers import numbers
from tests.helpers.twins import EPS, explain

# PyTorch says so of padding="same" with an even kernel, in the model's own forward
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


class ConstantMatmul(nn.Module):
    """``x @ W``: a linear layer that is no module."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


LINEAR: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "linear on tokens": (lambda: nn.Linear(5, 4), (3, 5)),
    "matmul": (lambda: ConstantMatmul(5, 4), (3, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 6)),
    "conv1d grouped": (lambda: nn.Conv1d(4, 6, 3, 2, 2, dilation=2, groups=2), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 4, 4)),
    "conv2d grouped": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), dilation=(1, 2), groups=2),
        (4, 5, 5),
    ),
    "conv2d depthwise": (lambda: nn.Conv2d(3, 3, 2, groups=3), (3, 4, 3)),
    "conv2d same": (lambda: nn.Conv2d(2, 3, 3, padding="same", dilation=2), (2, 4, 4)),
    "conv2d same, even kernel": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same"), (2, 4, 4)),
    "conv2d without bias": (lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 4, 4)),
    "conv3d": (
        lambda: nn.Conv3d(2, 4, 2, stride=(1, 2, 1), padding=(1, 0, 1), groups=2),
        (2, 3, 4, 3),
    ),
    "conv3d dilated": (lambda: nn.Conv3d(1, 2, 2, dilation=(1, 2, 1)), (1, 3, 4, 3)),
    "conv_transpose1d": (
        lambda: nn.ConvTranspose1d(4, 6, 3, 3, padding=1, output_padding=1, groups=2),
        (4, 4),
    ),
    "conv_transpose1d with gaps": (
        lambda: nn.ConvTranspose1d(2, 3, 2, stride=4, output_padding=1),
        (2, 3),
    ),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(
            *(2, 3, (3, 2), (2, 3), (1, 0)), output_padding=(1, 2), dilation=(1, 2)
        ),
        (2, 3, 3),
    ),
    "conv_transpose3d": (
        lambda: nn.ConvTranspose3d(2, 4, 2, stride=2, output_padding=1, groups=2),
        (2, 2, 2, 2),
    ),
}


def unsplit_z_plus(with_bias: bool) -> twins.LinearTwin:
    def twin(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[twins.Units]:
        return [twins.Units(twins.plus(w) * x, b if with_bias else torch.zeros_like(b))]

    return twin


def plain_bias_gamma(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[twins.Units]:
    return [twins.Units((w + 0.25 * twins.plus(w)) * x, b)]


UNSIGNED = Stabilizer(EPS, signed=False)
_SMALL = {"stabilizer": Stabilizer(EPS)}
RULES: dict[str, tuple[rules.LinearRule, twins.LinearTwin]] = {
    "zero": (rules.Zero(), twins.epsilon),
    "epsilon": (rules.Epsilon(EPS), twins.epsilon),
    "epsilon unsigned": (rules.Epsilon(stabilizer=UNSIGNED), twins.epsilon),
    "z plus": (rules.ZPlus(**_SMALL), twins.z_plus),
    "alpha 1 beta 0": (rules.AlphaBeta(1, 0, **_SMALL), twins.alpha_beta(1, 0)),
    "alpha 2 beta 1": (rules.AlphaBeta(2, 1, **_SMALL), twins.alpha_beta(2, 1)),
    "gamma": (rules.Gamma(0.3, **_SMALL), twins.gamma(0.3)),
    "generalized gamma": (rules.GeneralizedGamma(0.3, **_SMALL), twins.generalized_gamma(0.3)),
    "w square": (rules.WSquare(**_SMALL), twins.w_square),
    "flat": (rules.Flat(**_SMALL), twins.flat),
    "w plus": (rules.WPlus(**_SMALL), twins.w_plus),
    "captum's alpha 1 beta 0": (compat.UnsplitZPlus(**_SMALL), unsplit_z_plus(True)),
    "the blog's z plus": (
        compat.UnsplitZPlus(bias=False, stabilizer=UNSIGNED),
        unsplit_z_plus(False),
    ),
    "captum's gamma": (compat.PlainBiasGamma(**_SMALL), plain_bias_gamma),
}


@cache
def linear_case(name: str) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The layer, its matrix, its bias and an input."""
    make, shape = LINEAR[name]
    layer = seeded(make)
    weight, _ = twins.matrix(twins.without_bias(layer), torch.Size(shape))
    _, bias = twins.matrix(layer, torch.Size(shape))
    return layer, weight, bias, numbers(2, *shape, seed=1)


def check_linear(
    name: str,
    rule: rules.LinearRule,
    twin: twins.LinearTwin,
    model: nn.Module,
    inputs: Tensor,
    x: Tensor,
) -> None:
    """Under each bias policy and by each engine: the relevance of the layer's input ``x``.

    ``model`` is the layer, or passes relevance unchanged from the layer's input to ``inputs``.
    """
    layer, weight, bias, _ = linear_case(name)
    upper = numbers(*layer(x).shape, seed=2)
    stabilizer = rule.stabilizer
    for policy in BIAS_POLICIES:
        options = {"eps": stabilizer.eps, "signed": stabilizer.signed, "policy": policy}
        expected = twins.linear_twin(twin, weight, bias, x, upper, **options)
        for engine in ENGINES:
            options = {"bias": policy, "propagation": engine}
            mine = explain(model, inputs, upper, Uniform(rule), **options)
            assert_close(mine, expected, case=f"{policy}, {engine}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", LINEAR)
def test_rules_on_signed_inputs(name: str, rule: str) -> None:
    layer, *_, x = linear_case(name)
    check_linear(name, *RULES[rule], layer, x, x)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", LINEAR)
def test_rules_on_inputs_known_to_be_nonnegative(name: str, rule: str) -> None:
    """After a ReLU the branches in x⁻ are left out: the result stays that of the whole table."""
    layer, *_, x = linear_case(name)
    check_linear(name, *RULES[rule], nn.Sequential(nn.ReLU(), layer), x, x.relu())


@pytest.mark.parametrize("top_k", [1.0, 0.2])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_of_one_sample_without_a_batch(transposed: bool, top_k: float) -> None:
    """What torch's adjoint kernels do not know: relevance is that of a batch of one."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 5, 3) if transposed else nn.Conv2d(3, 5, 3, padding=1)
    layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), layer, nn.ReLU()).double()

    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layers(x[0]).mean((1, 2))[None]

    class Batch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layers(x).mean((2, 3))

    x = numbers(1, 3, 6, 6)
    for engine in ENGINES:
        options = {"top_k": top_k, "propagation": engine}
        mine, expected = (
            LRPFx(model, "epsilon_plus", **options).attribute(x, 2) for model in (Single(), Batch())
        )
        assert_close(mine, expected, case=engine)


@pytest.mark.parametrize("kind", ["number", "channel", "entry"])
@pytest.mark.parametrize("name", LINEAR)
def test_z_box(name: str, kind: str) -> None:
    """Bounds as a number, per channel and per entry."""
    layer, *_, x = linear_case(name)
    shape = {"number": (), "channel": (x.shape[1], *[1] * (x.dim() - 2)), "entry": x.shape[1:]}
    low = -3 - numbers(*shape[kind], seed=3).abs()
    high = 3 + numbers(*shape[kind], seed=4).abs()
    bounds = (float(low), float(high)) if kind == "number" else (low, high)
    flat = [bound.expand(x.shape[1:]).flatten() for bound in (low, high)]
    rule = rules.ZBox(*bounds, stabilizer=Stabilizer(EPS))
    check_linear(name, rule, twins.z_box(*flat), layer, x, x)


# What a layer is not


def convolved_with_itself(x: Tensor) -> Tensor:
    return F.conv1d(x, x[:1, :, :2])


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: F.linear(x, x.mean(0)), "the weight of 'linear'"),
        (lambda x: F.linear(x, torch.ones(2, 4).double(), x[0, 0, :2]), "the bias of 'linear'"),
        (convolved_with_itself, "the weight of 'conv1d'"),
    ],
)
def test_weights_computed_from_the_input_are_refused(function: twins.Function, named: str) -> None:
    """They would get no relevance, without a word."""
    with pytest.raises(UnsupportedOperationError, match=named):
        explain(function, numbers(2, 3, 4), None)


@pytest.mark.parametrize("function", [torch.maximum, torch.max, torch.minimum])
def test_of_two_tensors_the_chosen_entries_get_all(function: Callable[..., Tensor]) -> None:
    """It must not be taken for the maximum of a dimension."""
    a, b, upper = numbers(2, 3), numbers(2, 3, seed=1), numbers(2, 3, seed=2)
    mine = explain(lambda a, b: function(a, b), (a, b), upper)
    is_first = function(a, b) == a
    assert_close(mine[0], upper * is_first)
    assert_close(mine[1], upper * ~is_first)


def test_a_rule_that_the_composite_chose_leads_on() -> None:
    """With Half on a gate, relevance reaches what lies behind the gate, and unknown operations there."""

    def gated(x: Tensor) -> Tensor:
        return x * torch.special.bessel_j1(x).sigmoid()

    composite = Composite([(operation("product"), rules.Half())])
    with pytest.raises(UnsupportedOperationError, match="bessel_j1"):
        explain(gated, numbers(2, 3), None, composite)
    explain(gated, numbers(2, 3), numbers(2, 3))


LOW_PRECISION = 0.05
"""Of max |R| against float64: bfloat16 keeps 8 bits, and inputs and weights are rounded to it."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", ["z plus", "alpha 2 beta 1", "generalized gamma", "w square"])
def test_half_precision(rule: str, dtype: torch.dtype, engine: str) -> None:
    """Rules run in the model's own dtype, and do not overflow or lose their ε there."""
    layer, *_, x = linear_case("conv2d")
    upper = numbers(*layer(x).shape, seed=2)
    composite = Uniform(RULES[rule][0])
    low = copy.deepcopy(layer).to(dtype)
    mine = explain(low, x.to(dtype), upper.to(dtype), composite, propagation=engine)
    assert mine.dtype == dtype
    assert_close(mine.double(), explain(layer, x, upper, composite), LOW_PRECISION)


class Promoted(nn.Module):
    """A layer in single precision, whose values meet a constant in double precision."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(3, 2).double()
        self.register_buffer("least", torch.full((3,), -0.1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h = h[0] if isinstance(h, tuple) else h
        return self.head(torch.maximum(h.mean(1), self.least))  # type: ignore[no-any-return]


class Gram(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x.mT[..., :3]


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        (nn.Conv1d(2, 2, 4), "epsilon"),
        (nn.Conv1d(2, 2, 4), "z_plus"),
        (nn.LSTM(6, 3, batch_first=True), "epsilon"),
        (nn.Sequential(nn.Conv1d(2, 3, 1), Gram()), "epsilon"),
    ],
    ids=["convolution", "convolution, z_plus", "recurrent", "product"],
)
def test_a_layer_computes_in_its_own_dtype(layer: nn.Module, rule: str) -> None:
    torch.manual_seed(0)
    model, x = Promoted(layer), torch.randn(2, 2, 6)
    relevance = LRPFx(model, rule).attribute(x, 1)
    assert relevance.dtype == torch.float32
    expected = LRPFx(copy.deepcopy(model).double(), rule).attribute(x.double(), 1)
    torch.testing.assert_close(
        relevance.double(), expected, rtol=1e-4, atol=1e-6
    )  # single precision
