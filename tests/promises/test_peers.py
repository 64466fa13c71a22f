"""Agreement with zennit and Captum, rule for rule and layer kind for layer kind.

Where definitions differ (DESIGN, section 7) the presets of ``composites.compat`` reproduce theirs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
import zennit.composites
import zennit.core
import zennit.rules
from captum.attr import LRP
from captum.attr._utils import lrp_rules
from torch import Tensor, nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from lrp_fx import LRPFx, rules
from lrp_fx.composites import Composite, Uniform, compat, operation
from tests.helpers.closeness import assert_close
from tests.helpers.held import halves
from tests.helpers.models import seeded
from tests.helpers.numbers import numbers
from tests.helpers.twins import explain

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Of max |R|: some ten layers of the same sums in another order (rounding of 1e-7 and 1e-16 each),
with denominators of the fixed seeds that cancel by less than three digits. In which order a processor's
convolution adds up float32 moves its smallest sums by 3e-5."""

DEEP = 1e-7
"""The same for whole networks in float64: up to twenty layers, small denominators among them."""

dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


# zennit


def by_zennit(
    model: nn.Module, composite: zennit.core.Composite, x: Tensor, upper: Tensor
) -> Tensor:
    """Zennit's relevance of ``x``: its modified gradient with ``upper`` at the output."""
    x = x.clone().requires_grad_()
    with composite.context(model) as modified:
        (relevance,) = torch.autograd.grad(modified(x), x, upper)
    return relevance


def with_hook(hook: zennit.core.Hook) -> zennit.core.Composite:
    """The hook on the only layer of a sequence of one."""
    return zennit.composites.NameMapComposite([(["0"], hook)])


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(5, 4), (5,)),
    "Linear on tokens": (lambda: nn.Linear(5, 4), (3, 5)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1, stride=2), (2, 7)),
    "Conv2d": (lambda: nn.Conv2d(2, 4, 3, padding=1), (2, 5, 4)),
    "Conv2d grouped": (lambda: nn.Conv2d(4, 4, 2, groups=2, dilation=2), (4, 4, 5)),
    "Conv2d without bias": (lambda: nn.Conv2d(2, 3, 2, bias=False), (2, 4, 4)),
    "Conv3d": (lambda: nn.Conv3d(2, 2, 2, stride=(1, 2, 1)), (2, 3, 4, 3)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 3, 3, 2, output_padding=1), (2, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 4, 3, 2, 1, groups=2), (2, 3, 3)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 2, 2), (2, 2, 3, 2)),
}

ZENNIT_RULES: dict[str, tuple[rules.LinearRule, Callable[[], zennit.core.Hook]]] = {
    "epsilon": (rules.Epsilon(), zennit.rules.Epsilon),
    "epsilon 0.25": (rules.Epsilon(0.25), lambda: zennit.rules.Epsilon(0.25)),
    "z plus": (rules.ZPlus(), zennit.rules.ZPlus),
    "alpha 2 beta 1": (rules.AlphaBeta(2, 1), lambda: zennit.rules.AlphaBeta(2, 1)),
    "alpha 1 beta 0": (rules.AlphaBeta(1, 0), lambda: zennit.rules.AlphaBeta(1, 0)),
    "gamma": (rules.GeneralizedGamma(0.25), lambda: zennit.rules.Gamma(0.25)),
    "z box": (rules.ZBox(-3.0, 4.0), lambda: zennit.rules.ZBox(-3.0, 4.0)),
    "w square": (rules.WSquare(), zennit.rules.WSquare),
    "flat": (rules.Flat(), zennit.rules.Flat),
}


@dtypes
@pytest.mark.parametrize("rule", ZENNIT_RULES)
@pytest.mark.parametrize("layer", LAYERS)
def test_zennits_rules(layer: str, rule: str, dtype: torch.dtype) -> None:
    """On signed inputs, bias included."""
    make, shape = LAYERS[layer]
    model = nn.Sequential(seeded(make)).to(dtype)
    x = numbers(2, *shape).to(dtype)
    upper = numbers(*model(x).shape, seed=1).to(dtype)
    mine, theirs = ZENNIT_RULES[rule]
    expected = by_zennit(model, with_hook(theirs()), x, upper)
    assert_close(explain(model, x, upper, Uniform(mine)), expected, TOLERANCES[dtype])


@pytest.mark.parametrize("rule", [name for name in ZENNIT_RULES if name not in ("gamma",)])
def test_zennits_rules_without_bias(rule: str) -> None:
    """Its ``zero_params="bias"`` is our ``bias="ignore"``."""
    model, x, upper = nn.Sequential(seeded(lambda: nn.Linear(5, 4))), numbers(2, 5), numbers(2, 4)
    mine, theirs = ZENNIT_RULES[rule]
    arguments = {"epsilon 0.25": {"epsilon": 0.25}, "z box": {"low": -3.0, "high": 4.0}}
    arguments["alpha 1 beta 0"] = {"alpha": 1, "beta": 0}
    hook = type(theirs())(**arguments.get(rule, {}), zero_params="bias")
    expected = by_zennit(model, with_hook(hook), x, upper)
    composite = Uniform(mine)
    assert_close(explain(model, x, upper, composite, bias="ignore"), expected, TOLERANCES[x.dtype])


@dtypes
@pytest.mark.parametrize("gamma", [0.0, 0.25, 10.0])
def test_the_two_gamma_rules_are_one_on_nonnegative_inputs(
    gamma: float, dtype: torch.dtype
) -> None:
    """Montavon's rule is zennit's where x ≥ 0 and the output is positive."""
    model = nn.Sequential(seeded(lambda: nn.Linear(5, 4))).to(dtype)
    x = numbers(3, 5).abs().to(dtype)
    upper = model(x).detach().relu()
    expected = by_zennit(model, with_hook(zennit.rules.Gamma(gamma)), x, upper)
    mine = explain(model, x, upper, Uniform(rules.Gamma(gamma)))
    assert_close(mine, expected, TOLERANCES[dtype])


def test_z_box_with_bounds_per_channel() -> None:
    """Zennit wants a batch dimension in its bounds, this library does not."""
    model = nn.Sequential(seeded(lambda: nn.Conv2d(3, 4, 3, padding=1)))
    x, upper = numbers(2, 3, 5, 5), numbers(2, 4, 5, 5, seed=1)
    low, high = -4 - numbers(3, 1, 1).abs(), 4 + numbers(3, 1, 1, seed=2).abs()
    hook = zennit.rules.ZBox(low[None], high[None])
    expected = by_zennit(model, with_hook(hook), x, upper)
    assert_close(explain(model, x, upper, Uniform(rules.ZBox(low, high))), expected)


AVERAGES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), (2, 7)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 5, 4)),
    "AvgPool2d ceil": (lambda: nn.AvgPool2d(3, 2, 1, True, False), (2, 6, 4)),
    "AvgPool3d": (lambda: nn.AvgPool3d((1, 2, 2)), (1, 2, 4, 4)),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (2, 7)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 5, 4)),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d(1), (2, 2, 3, 2)),
}


@dtypes
@pytest.mark.parametrize("layer", AVERAGES)
def test_zennits_norm_rule_on_averages(layer: str, dtype: torch.dtype) -> None:
    make, shape = AVERAGES[layer]
    model, x = nn.Sequential(make()), numbers(2, *shape).to(dtype)
    upper = numbers(*model(x).shape, seed=1).to(dtype)
    expected = by_zennit(model, with_hook(zennit.rules.Norm()), x, upper)
    assert_close(explain(model, x, upper), expected, TOLERANCES[dtype])


@dtypes
@pytest.mark.parametrize("layer", [nn.MaxPool1d(3, 2, 1), nn.MaxPool2d(2), nn.MaxPool3d(2, 1)])
def test_max_pooling_as_the_gradient_does(layer: nn.Module, dtype: torch.dtype) -> None:
    """Zennit leaves max pooling to autograd: the winner takes all."""
    dims = int(type(layer).__name__[-2])
    model, x = nn.Sequential(layer), numbers(2, 2, *[5] * dims).to(dtype)
    upper = numbers(*model(x).shape, seed=1).to(dtype)
    expected = by_zennit(model, zennit.composites.EpsilonPlus(), x, upper)
    assert_close(explain(model, x, upper), expected, TOLERANCES[dtype])


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.SiLU()),
        *(nn.Softplus(), nn.Hardswish(), nn.ReLU6(), nn.Hardtanh(), nn.PReLU(dtype=torch.float64)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_zennits_pass_rule_on_activations(layer: nn.Module) -> None:
    x, upper = numbers(2, 3, 4), numbers(2, 3, 4, seed=1)
    expected = by_zennit(nn.Sequential(layer), with_hook(zennit.rules.Pass()), x, upper)
    assert torch.equal(explain(layer, x, upper), expected)


def plain_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 2), nn.Tanh()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Dropout()),
        nn.Linear(8, 5),
    )


def dense_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 7), nn.ReLU(), nn.Linear(7, 5))


def normalized_cnn() -> nn.Module:
    """Batch norm that merges, and batch norm that does not: behind a ReLU, before padding.

    With next to no eps: what zennit leaves of a merged batch norm still divides by sqrt(1 + eps).
    """
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-30), nn.ReLU()),
        *(nn.BatchNorm2d(4, eps=1e-30), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(54, 8), nn.BatchNorm1d(8, eps=1e-30), nn.ReLU(), nn.Linear(8, 5)),
    )


def with_statistics(model: nn.Module) -> nn.Module:
    """Batch norms with the statistics of some data, as after training."""
    for layer in model.modules():
        if hasattr(layer, "momentum"):
            layer.momentum = None  # the plain average
    model.train()
    with torch.no_grad():
        for seed in range(3):
            model(0.5 + numbers(16, 3, 6, 6, seed=seed))
    return model.eval()


MODELS = {"plain": plain_cnn, "dense": dense_net, "normalized": normalized_cnn}
ZENNIT_COMPOSITES: dict[str, Callable[..., zennit.core.Composite]] = {
    "epsilon_plus": zennit.composites.EpsilonPlus,
    "epsilon_plus_flat": zennit.composites.EpsilonPlusFlat,
    "epsilon_gamma_box": lambda **more: zennit.composites.EpsilonGammaBox(-5.0, 5.0, **more),
    "epsilon_alpha2_beta1": zennit.composites.EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": zennit.composites.EpsilonAlpha2Beta1Flat,
}


@dtypes
@pytest.mark.parametrize("composite", ZENNIT_COMPOSITES)
@pytest.mark.parametrize("model", MODELS)
def test_zennits_composites(model: str, composite: str, dtype: torch.dtype) -> None:
    """``compat.zennit`` on whole networks, batch norm merged by its canonizer."""
    network = with_statistics(seeded(MODELS[model])).to(dtype)
    x = numbers(2, 3, 6, 6, seed=3).to(dtype)
    upper = network(x).detach()
    theirs = ZENNIT_COMPOSITES[composite](canonizers=[SequentialMergeBatchNorm()])
    expected = by_zennit(network, theirs, x, upper)
    mine = explain(network, x, upper, compat.zennit(composite, -5.0, 5.0))
    assert_close(mine, expected, TOLERANCES[dtype])


@cache
def small(name: str) -> nn.Module:
    """A whole network of torchvision with five classes, its large classifier made small."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, num_classes=5)
    if hasattr(model, "classifier"):
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        width = next(
            m.out_channels for m in reversed(list(model.features)) if hasattr(m, "out_channels")
        )
        model.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(width, 16), nn.ReLU(inplace=True), nn.Linear(16, 5))
        )
    return model.double()


def seen(model: nn.Module, x: Tensor) -> nn.Module:
    """With the batch norms' statistics of a batch, and an eps that zennit's merging does not notice."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum, layer.eps = None, 1e-30
    model.train()
    with torch.no_grad():
        model(x)
    return model.eval()


SIDE = 64
CANONIZERS = {"resnet18": ResNetCanonizer, "vgg11_bn": VGGCanonizer}


@pytest.mark.parametrize("composite", ["epsilon_gamma_box", "epsilon_alpha2_beta1_flat"])
@pytest.mark.parametrize("name", CANONIZERS)
def test_zennits_composites_on_torchvision(name: str, composite: str) -> None:
    """Whole networks, which zennit needs a canonizer written for each family for."""
    x = numbers(2, 3, SIDE, SIDE, seed=3).clamp(-4, 4)
    network = seen(copy.deepcopy(small(name)), torch.cat([x, numbers(6, 3, SIDE, SIDE, seed=4)]))
    upper = network(x).detach()
    mine = explain(network, x, upper, compat.zennit(composite, -5.0, 5.0))
    theirs = ZENNIT_COMPOSITES[composite](canonizers=[CANONIZERS[name]()])
    assert_close(mine, by_zennit(network, theirs, x, upper), DEEP)


# Captum

CAPTUM_RULES = {
    "epsilon": lrp_rules.EpsilonRule,
    "gamma": lrp_rules.GammaRule,
    "alpha1_beta0": lrp_rules.Alpha1_Beta0_Rule,
}


def by_captum(model: nn.Module, rule: str, x: Tensor, target: int, **options: bool) -> Tensor:
    """Captum's relevance, with the rule on each layer with weights (attribute() removes it)."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.rule = CAPTUM_RULES[rule](**options)
    relevance: Tensor = LRP(model).attribute(x, target=target)
    return relevance.detach()


class Network(nn.Module):
    """Features, flattened by a function (Captum has no rule for ``nn.Flatten``), and a classifier."""

    def __init__(self, features: list[nn.Module], classifier: list[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def captum_cnn() -> nn.Module:
    return Network(
        [
            *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        ],
        [nn.Linear(6, 8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 5)],
    )


def captum_dense() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 5))


def captum_adaptive() -> nn.Module:
    features = [nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2)]
    return Network(features, [nn.Linear(16, 5)])


CAPTUM_MODELS = {
    "cnn": (captum_cnn, (3, 6, 6)),
    "dense": (captum_dense, (6,)),
    "adaptive": (captum_adaptive, (3, 6, 6)),
}


@dtypes
@pytest.mark.parametrize("rule", CAPTUM_RULES)
@pytest.mark.parametrize("model", CAPTUM_MODELS)
def test_captums_rules(model: str, rule: str, dtype: torch.dtype) -> None:
    make, shape = CAPTUM_MODELS[model]
    network, x = seeded(make).to(dtype), numbers(2, *shape, seed=3).to(dtype)
    expected = by_captum(network, rule, x, 2)
    mine = LRPFx(network, compat.captum(rule)).attribute(x, target=2)
    assert_close(mine, expected, TOLERANCES[dtype])


@pytest.mark.parametrize("rule", CAPTUM_RULES)
@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_captums_rules_on_torchvision(name: str, rule: str) -> None:
    """Whole networks, of the kind that Captum can explain: no batch norm, no additions."""
    network, x = copy.deepcopy(small(name)).eval(), numbers(2, 3, SIDE, SIDE, seed=3)
    mine = LRPFx(network, compat.captum(rule)).attribute(x, target=2)
    assert_close(mine, by_captum(network, rule, x, 2), DEEP)


@pytest.mark.parametrize("rule", ["gamma", "alpha1_beta0"])
def test_captums_rules_without_bias(rule: str) -> None:
    """Its ``set_bias_to_zero`` is our ``bias="ignore"``."""
    network, x = seeded(captum_cnn), numbers(2, 3, 6, 6, seed=3)
    expected = by_captum(network, rule, x, 2, set_bias_to_zero=True)
    mine = LRPFx(network, compat.captum(rule), bias="ignore").attribute(x, target=2)
    assert_close(mine, expected, TOLERANCES[x.dtype])


def test_captums_max_pooling_is_by_value() -> None:
    """Where the winner is zero Captum gives nothing, the winner rule all: they do differ."""
    model, x = nn.Sequential(nn.MaxPool1d(2)), torch.tensor([[[0.0, -1.0, 2.0, 1.0]]])
    upper = torch.ones(1, 1, 2)
    assert explain(model, x, upper).tolist() == [[[1.0, 0.0, 1.0, 0.0]]]
    assert explain(model, x, upper, compat.captum()).tolist() == [[[0.0, 0.0, 1.0, 0.0]]]


def test_the_definitions_differ_where_the_design_says_so() -> None:
    """A guard of the tests above: with our own definitions these two would not agree."""
    network, x = seeded(captum_cnn), numbers(2, 3, 6, 6, seed=3)
    for rule, own in (("gamma", rules.Gamma(0.25)), ("alpha1_beta0", rules.ZPlus())):
        theirs = by_captum(network, rule, x, 2)
        mine = LRPFx(network, Uniform(own)).attribute(x, target=2)
        assert float((mine - theirs).abs().max()) > 0.01 * float(theirs.abs().max())


def test_captum_and_this_library_on_the_default_rule() -> None:
    """Without any rule set, Captum's LRP is ε = 1e-9 everywhere."""
    network, x = seeded(captum_cnn), numbers(2, 3, 6, 6, seed=3)
    expected = LRP(network).attribute(x, target=1).detach()
    mine = LRPFx(network, compat.captum()).attribute(x, target=1)
    assert_close(mine, expected, TOLERANCES[x.dtype])
    lines = [(operation("dense", "convolution"), rules.Epsilon(1e-9))]
    assert_close(LRPFx(network, Composite(lines)).attribute(x, target=1), expected, 1e-4)


def held(function: Any, x: Tensor) -> Tensor:
    """An activation as a constant factor of its input."""
    return x * (function(x) / x).detach()


class Block(nn.Module):
    """A transformer block with a gated and a plain half, in two forms.

    With ``held`` it computes the same, but its input × gradient is AttnLRP.
    """

    def __init__(self, hold: bool = False) -> None:
        super().__init__()
        self.hold = hold
        self.norm, self.rms = nn.LayerNorm(6), nn.RMSNorm(6)
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)
        self.up, self.gate, self.down = nn.Linear(6, 9), nn.Linear(6, 9), nn.Linear(9, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.hold:
            q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
            x = x + self.out((q @ k.mT / 6**0.5).softmax(-1) @ v)
            y = self.rms(x)
            x = x + self.down(F.gelu(self.up(y)) * self.gate(y))
            return self.head(x).mean(1)
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + self.norm.eps).sqrt().detach()
        q, k, v = self.qkv(centred / spread * self.norm.weight + self.norm.bias).chunk(3, -1)
        x = x + self.out(
            halves(torch.matmul, (halves(torch.matmul, q, k.mT) / 6**0.5).softmax(-1), v)
        )
        size = (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt().detach()
        y = x / size * self.rms.weight
        signal, gate = held(F.gelu, self.up(y)), self.gate(y)
        x = x + self.down((signal * gate.detach() + signal.detach() * gate) / 2)
        return self.head(x).mean(1)


@pytest.mark.parametrize("capture", ["symbolic", "export"])
def test_compat_attnlrp_is_input_times_a_gradient_with_parts_held(capture: str) -> None:
    """The efficient form of AttnLRP, whose derivation shares nothing with the rules of this library."""
    torch.manual_seed(0)
    model, reference = Block().double(), Block(hold=True).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    reference.load_state_dict(model.state_dict())
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    logit = reference(leaf)[:, 1]
    assert torch.allclose(logit, model(x)[:, 1], rtol=1e-10)
    (gradient,) = torch.autograd.grad(logit.sum(), leaf)
    mine = LRPFx(model, compat.attnlrp(), capture=capture).attribute(x, 1)
    expected = x * gradient
    assert (mine - expected).abs().max() <= 1e-9 * expected.abs().max()
