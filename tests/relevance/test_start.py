"""Where the relevance starts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx, against_rest
from lrp_fx.errors import InputError, OptionError, TargetError
from tests.helpers.closeness import assert_close
from tests.helpers.models import cnn
from tests.helpers.numbers import numbers


def started(model: nn.Module, layer: str, x: Tensor, target: Any = None, **options: Any) -> Tensor:
    """The relevance that the propagation starts with: that of the explained layer."""
    relevance = LayerLRPFx(model, layer, **options).attribute(x, target)
    assert isinstance(relevance, Tensor)
    return relevance


# Start


def test_logit_starts_with_the_output_at_the_target() -> None:
    model, x = cnn(12), numbers(3, 2, 12, 12)
    output = model(x).detach()
    expected = torch.zeros_like(output)
    for sample, target in enumerate([1, 3, 0]):
        expected[sample, target] = output[sample, target]
    assert torch.equal(started(model, "classifier", x, [1, 3, 0]), expected)


def test_one_hot_starts_with_one() -> None:
    """So the map does not depend on the size of the logit, and is not turned by its sign."""
    model, x = cnn(12), numbers(3, 2, 12, 12)
    expected = F.one_hot(torch.tensor([1, 3, 0]), 4).double()
    assert torch.equal(started(model, "classifier", x, [1, 3, 0], start="one_hot"), expected)
    logits = model(x).detach()[torch.arange(3), torch.tensor([1, 3, 0])]
    by_logit = LRPFx(model).attribute(x, [1, 3, 0])
    by_one = LRPFx(model, start="one_hot").attribute(x, [1, 3, 0])
    assert_close(by_one * logits.reshape(3, 1, 1, 1), by_logit)


def test_softmax_starts_with_all_classes() -> None:
    """The unsupervised mode: the classes' maps, weighted with their probabilities."""
    model, x = cnn(12), numbers(3, 2, 12, 12)
    probabilities = model(x).detach().softmax(1)
    assert_close(started(model, "classifier", x, start="softmax"), probabilities)
    one_hot = LRPFx(model, start="one_hot")
    expected = sum(
        one_hot.attribute(x, target) * probabilities[:, target].reshape(3, 1, 1, 1)
        for target in range(4)
    )
    assert isinstance(expected, Tensor)
    assert_close(LRPFx(model, start="softmax").attribute(x), expected)


def test_softmax_of_a_segmentation_is_over_the_classes() -> None:
    model, x = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3))).double(), numbers(2, 2, 5, 5)
    relevance = started(model, "conv", x, start="softmax")
    assert_close(relevance.sum(1), torch.ones(2, 3, 3, dtype=torch.float64))


def test_softmax_takes_no_target_and_needs_classes() -> None:
    lrp = LRPFx(cnn(12), start="softmax")
    with pytest.raises(TargetError, match="all classes at once: pass no target"):
        lrp.attribute(numbers(1, 2, 12, 12), 1)
    flat = LRPFx(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double(), start="softmax")
    with pytest.raises(InputError, match=r"needs an output of \(N, classes"):
        flat.attribute(numbers(2, 3))


def test_against_rest_is_the_gradient_of_the_log_odds_times_the_output() -> None:
    """``R = y ⊙ ∂f/∂y`` of ``f = y_t − log Σ_{j≠t} exp y_j``, by autograd."""
    model, x, targets = cnn(12), numbers(3, 2, 12, 12), [1, 3, 0]
    y = model(x).detach().requires_grad_()
    odds = [
        row[t] - row[[j for j in range(4) if j != t]].logsumexp(0)
        for row, t in zip(y, targets, strict=True)
    ]
    (gradient,) = torch.autograd.grad(torch.stack(odds).sum(), y)
    expected = (y * gradient).detach()
    assert_close(started(model, "classifier", x, targets, start="against_rest"), expected)


def test_against_rest_keeps_the_rest_where_the_model_is_sure() -> None:
    """The softmax over all classes would be one at the target, and only the target would be left."""
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([100.0, 2.0, 2.0])))
    model = nn.Sequential(OrderedDict(layer=layer))
    relevance = started(model, "layer", torch.ones(1, 3), 0, start="against_rest")
    assert torch.equal(relevance, torch.tensor([[100.0, -1.0, -1.0]]))


def test_against_rest_of_a_segmentation_is_per_place() -> None:
    """Each chosen place has a contrast of its own, over the classes; the others get nothing."""
    model, x = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3))).double(), numbers(2, 2, 5, 5)
    y = model(x).detach()
    found = started(model, "conv", x, (1, slice(None), 2), start="against_rest")
    expected = torch.zeros_like(y)
    column = y[..., 2]
    expected[:, 1, :, 2] = column[:, 1]
    for other, rest in ((0, 2), (2, 0)):
        share = column[:, other].exp() / (column[:, other].exp() + column[:, rest].exp())
        expected[:, other, :, 2] = -column[:, other] * share
    assert_close(found, expected)


class Words(nn.Module):
    """Words at places: (N, T, 6) to (N, T, vocabulary)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_against_rest_of_words() -> None:
    """The mode cannot know that the words stand last; the function is told."""
    model, x = Words().double(), numbers(2, 4, 6)
    with pytest.raises(InputError, match=r"use start=lrp_fx\.against_rest"):
        LRPFx(model, start="against_rest").attribute(x, (3, 1))
    y = model(x).detach()
    rest = y[:, 3].clone()
    rest[:, 1] = -torch.inf
    expected = torch.zeros_like(y)
    expected[:, 3] = -y[:, 3] * rest.softmax(1)
    expected[:, 3, 1] = y[:, 3, 1]
    assert_close(started(model, "layer", x, start=against_rest((3, 1), dim=2)), expected)
    for dim in (0, 1.0, "2"):
        with pytest.raises(OptionError, match="dim must be a dimension after"):
            against_rest(1, dim=dim)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no dimension 3 of classes"):
        started(model, "layer", x, start=against_rest((3, 1), dim=3))


class Masked(nn.Module):
    """Excludes a class by a logit of −∞."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("excluded", torch.tensor([False, True, False, False]))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).masked_fill(self.excluded, -torch.inf)


def test_against_rest_leaves_excluded_classes_out() -> None:
    model, x = Masked().double(), numbers(2, 3)
    plain = nn.Linear(3, 3).double()
    keep = [0, 2, 3]
    with torch.no_grad():
        plain.weight.copy_(model.layer.weight[keep])
        plain.bias.copy_(model.layer.bias[keep])
    mine = LRPFx(model, start="against_rest").attribute(x, 2)
    assert_close(mine, LRPFx(plain, start="against_rest").attribute(x, 1))


def test_against_rest_needs_other_classes() -> None:
    one = LRPFx(nn.Linear(3, 1).double(), start="against_rest")
    with pytest.raises(InputError, match="contrasts a class with the other ones"):
        one.attribute(numbers(2, 3))
    model = nn.Sequential(OrderedDict(layer=nn.Linear(3, 4))).double()
    neuron = LRPFx(model, start="against_rest")
    with pytest.raises(TargetError, match="out of range"):
        neuron.attribute(numbers(2, 3), 4)


@pytest.mark.parametrize("targets", [[1, 3], torch.tensor([[1, 3], [0, 2]])], ids=["common", "own"])
def test_against_rest_for_many_targets(targets: Any) -> None:
    """As for one target after the other."""
    model, x = cnn(12), numbers(2, 2, 12, 12)
    lrp = LRPFx(model, start="against_rest")
    many = lrp.attribute_many(x, targets)
    for found, target in zip(many, targets, strict=True):
        assert_close(found, lrp.attribute(x, target))


def test_callable_starts_with_what_it_returns() -> None:
    """One class against another, which no target can say."""
    model, x, seen = cnn(12), numbers(3, 2, 12, 12), []

    def first_against_second(output: Tensor) -> Tensor:
        seen.append(output)
        return output * torch.tensor([1.0, -1.0, 0.0, 0.0])

    relevance, delta = LRPFx(model, start=first_against_second).attribute(
        x, return_convergence_delta=True
    )
    (output,) = seen
    assert_close(output, model(x).detach())
    lrp = LRPFx(model)
    assert_close(relevance, lrp.attribute(x, 0) - lrp.attribute(x, 1))
    assert_close(delta, output[:, 0] - output[:, 1] - relevance.sum((1, 2, 3)))


def doubled(y: Tensor) -> Tensor:
    y *= 2
    return y


def centred(y: Tensor) -> Tensor:
    y -= y.mean(1, keepdim=True)
    return y


def overwritten(y: Tensor) -> Tensor:
    start = y.clone()
    y.zero_()
    return start


WRITING: dict[str, tuple[Any, Any]] = {
    "doubled": (doubled, lambda y: y * 2),
    "centred": (centred, lambda y: y - y.mean(1, keepdim=True)),
    "overwritten": (overwritten, lambda y: y),
}


@pytest.mark.parametrize(("writes", "pure"), WRITING.values(), ids=WRITING.keys())
def test_a_callable_may_write_to_the_output_that_it_gets(writes: Any, pure: Any) -> None:
    """Denominators are those of the model's output, also in an exported program."""
    model, x = cnn(12), numbers(3, 2, 12, 12)
    lrp, expected = LRPFx(model, start=writes), LRPFx(model, start=pure).attribute(x)
    assert_close(lrp.attribute(x), expected)
    output, relevance = lrp.export(x).module()(x)
    assert_close(output, model(x).detach())
    assert_close(relevance, expected)


def test_a_callable_that_writes_is_differentiated() -> None:
    model, x = cnn(12), numbers(3, 2, 12, 12)
    weights, found = list(model.parameters()), []
    for start in WRITING["doubled"]:
        mine = LRPFx(model, start=start).attribute(x, create_graph=True)
        loss = mine.square().sum()
        found.append(torch.autograd.grad(loss, weights, materialize_grads=True, allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert_close(one, other)


def test_a_selector_may_write_to_the_output_that_it_gets() -> None:
    model, x = cnn(12), numbers(3, 2, 12, 12)

    def writes(y: Tensor) -> Tensor:
        y *= 2
        return y[:, :3].sum(1)

    neuron = NeuronLRPFx(model, "classifier")
    assert_close(neuron.attribute(x, writes), neuron.attribute(x, lambda y: 2 * y[:, :3].sum(1)))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (lambda output: output[:, 0], r"output's shape \(2, 4\), got .*\[2\]"),
        (lambda output: output.sum(), r"output's shape \(2, 4\), got .*\[\]"),
        (lambda output: 1.0, r"output's shape \(2, 4\), got .*float"),
        (lambda output: None, r"output's shape \(2, 4\), got .*NoneType"),
    ],
    ids=["column", "number", "float", "nothing"],
)
def test_callable_must_return_the_outputs_shape(start: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        LRPFx(cnn(12), start=start).attribute(numbers(2, 2, 12, 12))


def test_callable_takes_no_target() -> None:
    with pytest.raises(TargetError, match=r"callable start decides .* pass no target"):
        LRPFx(cnn(12), start=torch.ones_like).attribute(numbers(2, 2, 12, 12), 1)


@pytest.mark.parametrize("start", ["probability", "", None, 1])
def test_unknown_starts(start: Any) -> None:
    with pytest.raises(OptionError, match=r"start must be one of logit, .*softmax or a call"):
        LRPFx(cnn(12), start=start)


class Functional(nn.Module):
    """A final activation that is no module, and one before it that is none either."""

    def __init__(self, final: Any) -> None:
        super().__init__()
        self.linear, self.final = nn.Linear(3, 4), final

    def forward(self, x: Tensor) -> Any:
        return self.final(self.linear(x))


FINAL: dict[str, tuple[Any, str]] = {
    "softmax": (nn.Softmax(1), "softmax"),
    "log_softmax": (nn.LogSoftmax(1), "log_softmax"),
    "sigmoid": (nn.Sigmoid(), "sigmoid"),
    "logsigmoid": (nn.LogSigmoid(), "log_sigmoid"),
    "functional": (lambda y: F.softmax(y, dim=-1), "softmax"),
    "method": (lambda y: y.sigmoid(), "sigmoid"),
    "two": (lambda y: torch.log_softmax(torch.sigmoid(y), 1), "log_softmax, sigmoid"),
    "then dropout": (nn.Sequential(nn.Softmax(1), nn.Dropout()), "softmax"),
    "in a dict": (lambda y: {"p": torch.softmax(y, 1)}, "softmax"),
}


@pytest.mark.parametrize(("final", "name"), FINAL.values(), ids=FINAL.keys())
@pytest.mark.parametrize("start", ["logit", "softmax"])
def test_final_activation_is_explained_at_its_input(final: Any, name: str, start: Any) -> None:
    """A probability's relevance would be the class's against all others; and the plan says so."""
    model, x = Functional(final).double().eval(), numbers(2, 3)
    lrp, bare = LRPFx(model, start=start), LRPFx(model.linear, start=start)
    target = 1 if start == "logit" else None
    assert torch.equal(lrp.attribute(x, target), bare.attribute(x, target))
    note = f"explained: linear_linear, the input of the model's last operation ({name})"
    assert note in str(lrp.plan())


def test_softmax_inside_the_model_stays() -> None:
    """Only the last operation is left out."""
    model = Functional(lambda y: y.softmax(1).sum(1, keepdim=True) * y).double()
    plan = str(LRPFx(model).plan(numbers(2, 3)))
    assert "explained: mul\n" in plan
    assert "last operation" not in plan
