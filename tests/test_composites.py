"""Which operation gets which rule: presets, matchers, strictness, the plan and the LRP graph."""

from __future__ import annotations

import dataclasses
import weakref
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lrp_fx import Composite, LayerLRPFx, LRPFx, composites, rules
from lrp_fx.composites import (
    PRESETS,
    anything,
    convolution,
    dense,
    first,
    last,
    module_type,
    operation,
    path,
)
from lrp_fx.errors import CaptureError, CompositeError, LRPError, OptionError
from lrp_fx.relevance.linear.steps import Share
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import LinearRule
from lrp_fx.stabilizer import Stabilizer

BOUNDS = (-2.0, 3.0)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def cnn() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 4, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 5, 3),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            hidden=nn.Linear(5, 6),
            relu3=nn.ReLU(),
            classifier=nn.Linear(6, 4),
        )
    ).double()


X = numbers(2, 2, 8, 8)


def rules_of(model: nn.Module, composite: Any, *example: Any, **options: Any) -> dict[str, str]:
    """The rule's class of each linear operation, by module path."""
    plan = LRPFx(model, composite, **options).plan(*example)
    return {
        step.path: type(step.rule).__name__
        for step in plan.steps
        if isinstance(step.rule, LinearRule) and step.operation is not None
    }


def chosen(model: nn.Module, matcher: Any, *example: Any) -> set[str]:
    """The linear operations that a matcher picks, by module path."""
    marked = rules_of(model, Composite([(matcher, rules.Flat())], strict=False), *example)
    return {name for name, rule in marked.items() if rule == "Flat"}


# Presets

EXPECTED = {
    "zero": ("Zero", "Zero", "Zero", "Zero"),
    "epsilon": ("Epsilon", "Epsilon", "Epsilon", "Epsilon"),
    "z_plus": ("ZPlus", "ZPlus", "ZPlus", "ZPlus"),
    "epsilon_plus": ("ZPlus", "ZPlus", "Epsilon", "Epsilon"),
    "epsilon_plus_flat": ("Flat", "ZPlus", "Epsilon", "Epsilon"),
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


def test_default_is_epsilon_plus() -> None:
    assert str(LRPFx(cnn()).plan()) == str(LRPFx(cnn(), "epsilon_plus").plan())


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
            return self.head((h * h.sigmoid()).sum(1) + torch.special.i0(h.mean(1)))

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


# Position, by the flow of data


class Reversed(nn.Module):
    """Registers its layers in the reverse of the order in which data passes them."""

    def __init__(self) -> None:
        super().__init__()
        self.d = nn.Linear(4, 2)
        self.c = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.b(self.a(x).relu()).relu()).relu())


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        (first(), "a"),
        (first(2), "ab"),
        (first(10), "abcd"),
        (last(), "d"),
        (last(3), "bcd"),
        (first() | last(), "ad"),
        (~first(), "bcd"),
        (first(3) & last(3), "bc"),
    ],
    ids=lambda value: value.text if hasattr(value, "text") else "",
)
def test_position_follows_data(matcher: Any, expected: str) -> None:
    assert chosen(Reversed(), matcher) == set(expected)


class Branches(nn.Module):
    """Two inputs, a short and a long branch, and a skip connection of the first input."""

    def __init__(self) -> None:
        super().__init__()
        self.left1, self.left2, self.left3 = (nn.Linear(4, 4) for _ in range(3))
        self.right = nn.Linear(3, 4)
        self.skip = nn.Linear(8, 4)
        self.main, self.aux = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        left = self.left3(self.left2(self.left1(x).relu()).relu())
        joined = self.skip(torch.cat([left + self.right(y), x], 1)).relu()
        return self.main(joined) + self.aux(left)


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        (first(), {"left1", "right"}),
        (first(2), {"left1", "right", "left2"}),
        (last(), {"main", "aux"}),
        (last(2), {"main", "aux", "skip"}),
    ],
    ids=["first", "first two", "last", "last two"],
)
def test_position_in_branches(matcher: Any, expected: set[str]) -> None:
    """First is what no other linear operation precedes on any way, last what none follows."""
    assert chosen(Branches(), matcher) == expected


def test_position_counts_only_what_carries_relevance() -> None:
    """A gate's layers are on no way of the relevance; additional inputs are no inputs here."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.signal, self.head = (nn.Linear(3, 3) for _ in range(3))
            self.context = nn.Linear(3, 3)

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            x = torch.sigmoid(self.gate(x)) * self.signal(x)
            return self.head(x + self.context(context))

    lrp = LRPFx(Gated(), Composite([(first(), rules.Flat())]))
    x = torch.ones(1, 3)
    lrp.attribute(x, 1, (x,))
    plan = lrp.plan()
    found = {step.path for step in plan.steps if isinstance(step.rule, rules.Flat)}
    assert found == {"signal"}
    assert "context" not in {step.path for step in plan.steps}


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


# Matchers by name and kind


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(3, 3, 1), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x).relu())


def nested() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            stage1=nn.Sequential(Block(), Block()),
            stage10=Block(),
            head=nn.Sequential(nn.Flatten(), nn.Linear(15, 2)),
        )
    )


S1 = {"stage1.0.conv", "stage1.0.out", "stage1.1.conv", "stage1.1.out"}
S10 = {"stage10.conv", "stage10.out"}
HEAD = {"head.1"}


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        ("stage1", S1),
        (path("stage1*"), S1 | S10),
        ("stage1.*", S1),
        ("stage1.1", {"stage1.1.conv", "stage1.1.out"}),
        ("*.conv", {"stage1.0.conv", "stage1.1.conv", "stage10.conv"}),
        ("stage[1]", S1),
        ("stage1?", S10),
        ("*", S1 | S10 | HEAD),
        (nn.Conv1d, {"stage1.0.conv", "stage1.1.conv", "stage10.conv"}),
        (Block, set()),
        (module_type(nn.Conv1d, nn.Conv2d), {"stage1.0.conv", "stage1.1.conv", "stage10.conv"}),
        (operation("linear"), {"stage1.0.out", "stage1.1.out", "stage10.out", "head.1"}),
        (operation("convolution", "linear"), S1 | S10 | HEAD),
        (convolution, {"stage1.0.conv", "stage1.1.conv", "stage10.conv"}),
        (dense & path("stage1"), {"stage1.0.out", "stage1.1.out"}),
        (dense & ~path("stage1*"), HEAD),
        (path("stage1") & convolution | path("head"), {"stage1.0.conv", "stage1.1.conv", "head.1"}),
        (~(path("stage1*") | dense), set()),
        (anything(), S1 | S10 | HEAD),
        (~anything(), set()),
    ],
    ids=lambda value: getattr(value, "text", value) if not isinstance(value, set) else "",
)
def test_matchers(matcher: Any, expected: set[str]) -> None:
    assert chosen(nested(), matcher) == expected


def test_matchers_say_what_they_look_for() -> None:
    both = path("a.*") & ~(first() | operation("conv2d"))
    assert both.text == "path('a.*') & ~(first() | operation('conv2d'))"
    assert module_type(nn.ReLU, nn.GELU).text == "module_type(ReLU, GELU)"


def test_functional_calls_are_matched_by_where_they_stand() -> None:
    """A matcher of module types is about calls that the module itself makes."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.linear(x, self.weight).relu())

    assert chosen(Functional(), Functional) == {""}
    assert chosen(Functional(), nn.Linear) == {"head"}
    assert chosen(Functional(), path("")) == {"", "head"}


def test_reused_module_is_matched_at_every_call() -> None:
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.linear(x).relu())

    composite = Composite([("linear", rules.Flat())])
    plan = LRPFx(Reused(), composite).plan()
    assert [type(s.rule) for s in plan.steps if s.path == "linear"] == [rules.Flat] * 2


@pytest.mark.parametrize("matcher", ["a", "b", "many.0", "many.*"])
def test_module_is_matched_under_each_of_its_names(matcher: str) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b, self.many = self.a, nn.ModuleList([self.a])

        def forward(self, x: Tensor) -> Tensor:
            return self.many[0](x)

    assert chosen(Shared(), matcher) == {"a"}


def test_folded_batch_norm_is_matched_by_its_path() -> None:
    """The norm is part of the convolution then; a line about it is about that."""
    model = nn.Sequential(OrderedDict(conv=nn.Conv1d(2, 3, 1), norm=nn.BatchNorm1d(3)))
    assert chosen(model, "norm") == {"conv"}


def test_first_line_that_fits_wins() -> None:
    composite = Composite(
        [("conv1", rules.Flat()), (convolution, rules.ZPlus()), (anything(), rules.Epsilon())]
    )
    found = rules_of(cnn(), composite)
    assert list(found.values()) == ["Epsilon", "Epsilon", "ZPlus", "Flat"]


def test_a_rule_passes_over_operations_that_do_not_take_it() -> None:
    """``("*", ZPlus())`` leaves pooling and activations alone, and the next line may be about them."""
    composite = Composite([("*", rules.ZPlus()), ("*", rules.Uniform())])
    plan = LRPFx(cnn(), composite).plan()
    by_path = {step.path: type(step.rule).__name__ for step in plan.steps}
    assert by_path["conv1"] == by_path["classifier"] == "ZPlus"
    assert by_path["pool1"] == by_path["pool2"] == "Uniform"
    assert by_path["relu1"] == "Pass"


# Strictness


@pytest.mark.parametrize(
    ("matcher", "words"),
    [
        ("cnov1", r"path\('cnov1'\) matches nothing.*near misses: .*'conv1'"),
        ("conv1.weight", "near misses: .*'conv1'"),
        (path("zzz"), "near misses: 'classifier'"),
        (
            nn.Conv3d,
            r"module_type\(Conv3d\) matches nothing.*operations .*conv2d.*modules .*Conv2d",
        ),
        (operation("conv3d"), r"operation\('conv3d'\) matches nothing.*has operations .*conv2d"),
        (convolution & path("hidden"), "matches nothing"),
        ("dropout", "matches nothing"),
    ],
    ids=lambda value: getattr(value, "text", value),
)
def test_a_matcher_that_matches_nothing(matcher: Any, words: str) -> None:
    """A misspelt path would else silently leave the defaults."""
    lines = [(matcher, rules.ZPlus()), (anything(), rules.Epsilon())]
    with pytest.raises(CompositeError, match=words):
        LRPFx(cnn(), Composite(lines)).attribute(X, 1)
    with pytest.raises(CompositeError, match=words):
        LRPFx(cnn(), Composite([], filters=[(matcher, 0.5)])).plan()
    relaxed = Composite(lines, filters=[(matcher, 0.5)], strict=False)
    assert torch.equal(
        LRPFx(cnn(), relaxed).attribute(X, 1).isfinite(), torch.ones_like(X, dtype=torch.bool)
    )


@pytest.mark.parametrize(
    ("matcher", "rule", "words"),
    [
        (
            "relu1",
            rules.ZPlus(),
            r"path\('relu1'\) matches only operations that do not take ZPlus.*: relu",
        ),
        (convolution, rules.Winner(), "matches only operations that do not take Winner.*: conv2d"),
        (nn.MaxPool2d, rules.Half(), "matches only operations that do not take Half"),
    ],
)
def test_a_rule_that_fits_nothing_that_is_matched(matcher: Any, rule: Any, words: str) -> None:
    """Another mistake than a misspelt path, and said so."""
    with pytest.raises(CompositeError, match=words):
        LRPFx(cnn(), Composite([(matcher, rule)])).plan()


@pytest.mark.parametrize(
    "assignments",
    [
        [("conv1", "zplus")],
        [("conv1", rules.ZPlus)],
        [("conv1",)],
        ["conv1"],
        [rules.ZPlus()],
        [(3, rules.ZPlus())],
        [(lambda place: True, rules.ZPlus())],
        [(int, rules.ZPlus())],
    ],
    ids=["name", "class", "no rule", "no pair", "no matcher", "number", "function", "type"],
)
def test_assignments_of_a_wrong_form(assignments: Any) -> None:
    with pytest.raises(
        CompositeError, match=r"is a pair \(matcher, rule\)|a matcher is a path glob"
    ):
        Composite(assignments)


def test_strictness_sees_the_whole_model_from_a_layer() -> None:
    """A composite that fits the model fits it also where only an upper part of it is run."""
    composite = Composite([("conv1", rules.ZBox(*BOUNDS)), (anything(), rules.Epsilon())])
    assert LayerLRPFx(cnn(), "hidden", composite).attribute(X, 1).shape == (2, 6)


def test_composite_prints_its_lines() -> None:
    composite = Composite([("conv1", rules.ZPlus())], filters=[("conv2", 0.1)], name="mine")
    text = str(composite)
    for part in ("mine", "bias: absorb", "path('conv1')", "ZPlus()", "path('conv2')", "top_k=0.1"):
        assert part in text


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
        ({"memory": None}, "memory must be one of 'keep'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_cannot_be(option: dict[str, Any], words: str) -> None:
    for make in (LRPFx, lambda model, **o: LayerLRPFx(model, "conv1", **o)):
        with pytest.raises(OptionError, match=words):
            make(cnn(), **option)


# The plan


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
    """Wants to know the number of dimensions, which symbolic tracing does not."""

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
    assert "capture: export" in str(lrp.plan(torch.ones(2, 4)))
    assert "capture: export" in str(lrp.plan())


def test_plan_after_a_failure_fails_the_same_way() -> None:
    """Nothing of the failed call is left."""
    lrp = LRPFx(cnn(), Composite([("cnov1", rules.ZPlus())]))
    for _ in range(2):
        with pytest.raises(CompositeError, match="near misses"):
            lrp.attribute(X, 1)
        with pytest.raises(CompositeError, match="near misses"):
            lrp.plan()


# The LRP graph


def lrp_module(lrp: LRPFx) -> fx.GraphModule:
    module = lrp.graph.owning_module
    assert isinstance(module, fx.GraphModule)
    return module


def test_graph_prints_its_relevance_nodes_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    lrp = LRPFx(cnn())
    text, code = str(lrp.graph), lrp.print_readable()
    assert capsys.readouterr().out.strip() == code.strip()
    for layer in ("conv1_conv2d", "relu1_relu", "pool1_max_pool2d", "classifier_linear"):
        assert f"{layer}" in text
    for layer in ("conv1_conv2d", "relu1_relu", "conv2_conv2d", "classifier_linear"):
        assert f"%{layer}_relevance" in text
        assert f"{layer}_relevance = self.relevance.{layer}(" in code
    order = [node.name for node in lrp.graph.nodes]
    assert order.index("classifier_linear") < order.index("start")
    assert order.index("start") < order.index("classifier_linear_relevance")
    assert order.index("conv2_conv2d_relevance") < order.index("conv1_conv2d_relevance")


def test_relevance_nodes_are_modules_and_modified_weights_are_buffers() -> None:
    """So the graph can be printed, moved, hooked and saved like any other module."""
    model = cnn()
    lrp = LRPFx(model, "epsilon_alpha2_beta1")
    lrp.attribute(X, 1)
    module = lrp_module(lrp)
    called = [node for node in module.graph.nodes if node.op == "call_module"]
    assert all(isinstance(module.get_submodule(str(n.target)), RelevanceNode) for n in called)
    conv = module.get_submodule("relevance.conv1_conv2d")
    assert isinstance(conv, Share)
    assert "conv2d, AlphaBeta" in repr(conv)
    buffers = [buffer for name, buffer in module.named_buffers() if "constants." in name]
    weight = model.conv1.weight.detach()
    for wanted in (weight.clamp(min=0), weight.clamp(max=0)):
        assert any(torch.equal(buffer, wanted) for buffer in buffers)
    assert not any(buffer.requires_grad for buffer in buffers)
    assert not list(conv.parameters())
    assert not list(conv.buffers())


def test_graph_runs_as_the_module_that_it_is() -> None:
    """The graph needs nothing of the library around it: tensors and a target in, relevance out."""
    model = cnn()
    lrp = LRPFx(model)
    expected = lrp.attribute(X, 1)
    (relevance,), output, start = lrp_module(lrp)(X, 1)
    assert torch.equal(relevance, expected)
    torch.testing.assert_close(output, model(X))
    assert torch.equal(start[:, 1], output[:, 1])
    interpreted = fx.Interpreter(lrp_module(lrp)).run(X, 1)
    assert torch.equal(interpreted[0][0], expected)


def test_names_that_modules_have_already() -> None:
    """A node called ``to`` must not be looked up as ``nn.Module.to``."""

    class Casts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.double().float().double()

    relevance = LRPFx(Casts()).attribute(torch.ones(2, 1))
    assert torch.equal(relevance, torch.ones(2, 1))


# Memory


class Live(TorchDispatchMode):
    """Counts, at each operation, the tensors of at least ``size`` entries that are alive."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.alive, self.counts = size, 0, list[int]()

    def _gone(self) -> None:
        self.alive -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        makes_views = any(r.alias_info is not None for r in func._schema.returns)
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and tensor.numel() >= self.size and not makes_views:
                self.alive += 1
                weakref.finalize(tensor, self._gone)
        self.counts.append(self.alive)
        return result


def deep(layers: int) -> nn.Sequential:
    blocks = [each for _ in range(layers) for each in (nn.Conv1d(4, 4, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * 256, 2))


@pytest.mark.parametrize("engine", ["direct", "gradient"])
def test_activations_are_freed_on_the_way_back(engine: Any) -> None:
    """What the relevance has passed is gone: at the end as little is alive as in a shallow net,
    and the peak is that of the forward pass.
    """
    x, last_counts, peaks = torch.randn(1, 4, 256), {}, {}
    for layers in (10, 40):
        lrp = LRPFx(deep(layers), "epsilon", propagation=engine)
        lrp.attribute(x, 1)
        with Live(x.numel()) as live:
            lrp.attribute(x, 1)
        last_counts[layers], peaks[layers] = live.counts[-1], max(live.counts)
        # an input and an output for each convolution, and what the one at work needs
        assert peaks[layers] <= 2 * layers + 10
    assert peaks[40] > 40
    assert last_counts[40] == last_counts[10] <= 3


def test_generated_code_drops_values_after_their_last_use() -> None:
    """What makes the freeing: an activation goes with its relevance node, or at once if z⁺ does not
    read it.
    """
    code = dict(
        line.split(" = ", 1)
        for line in map(str.strip, lrp_module(LRPFx(cnn())).code.splitlines())
        if " = " in line
    )
    for made, dropped in (
        ("relu1_relu", "conv1_conv2d"),
        ("conv2_conv2d_relevance", "pool1_getitem"),
        ("conv1_conv2d_relevance", "preferred_layout"),
    ):
        assert f"{dropped} = " in code[made].partition(";")[2]
