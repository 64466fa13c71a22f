"""Matchers: position in the flow of data, name and kind; what matches nothing is an error."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import Composite, LayerLRPFx, LRPFx, rules
from lrp_fx.composites import (
    anything,
    convolution,
    dense,
    first,
    last,
    module_type,
    operation,
    path,
)
from lrp_fx.errors import CompositeError
from tests.helpers.composites import BOUNDS, X, chosen, rules_of
from tests.helpers.models import cnn


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
    assert LayerLRPFx(cnn(), "hidden", composite).attribute(X, 1).shape == (2, 10)


def test_composite_prints_its_lines() -> None:
    composite = Composite([("conv1", rules.ZPlus())], filters=[("conv2", 0.1)], name="mine")
    text = str(composite)
    for part in ("mine", "bias: absorb", "path('conv1')", "ZPlus()", "path('conv2')", "top_k=0.1"):
        assert part in text
