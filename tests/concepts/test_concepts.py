"""Concept relevance: conditions, references, attribution graphs; against masks made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import ConceptLRPFx, LayerLRPFx, LRPFx, References
from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.plan.plan import Step
from tests.helpers.closeness import SAME_SUMS
from tests.helpers.models import unnamed_cnn
from tests.helpers.numbers import numbers

X = numbers(2, 3, 12, 12)


def by_hand(model: nn.Sequential, x: Tensor, target: int, conv: str, channels: list[int]) -> Tensor:
    """z⁺ below a masked convolution, ε above: written with autograd on x⁺W⁺ + x⁻W⁻ + b⁺."""
    relevance = LayerLRPFx(model, conv, "epsilon_plus").attribute(x, target)
    mask = torch.zeros(relevance.shape[1], 1, 1, dtype=x.dtype)
    mask[channels] = 1
    relevance = relevance * mask
    for i in range(int(conv), -1, -1):
        layer = model[i]
        if isinstance(layer, nn.Conv2d):
            value = model[:i](x).detach().requires_grad_()
            w, b = layer.weight.detach(), layer.bias.detach()
            z = torch.conv2d(value.clamp(min=0), w.clamp(min=0), b.clamp(min=0))
            z = z + torch.conv2d(value.clamp(max=0), w.clamp(max=0))
            (gradient,) = torch.autograd.grad(z, value, relevance / (z.detach() + 1e-6))
            relevance = (value * gradient).detach()
    return relevance


@pytest.mark.parametrize("channels", [[1], [0, 3], [-1]])
def test_a_condition_is_a_mask_of_channels(channels: list[int]) -> None:
    """Against the relevance pass by hand, from the masked layer down."""
    model = unnamed_cnn()
    found = ConceptLRPFx(model, "epsilon_plus").attribute_conditions(X, [{"2": channels}], 1)
    expected = by_hand(model, X, 1, "2", channels)
    assert found.shape == (1, *X.shape)
    assert torch.allclose(found[0], expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("propagation", ["direct", "gradient"])
def test_conditions_on_all_channels_sum_up(propagation: Any) -> None:
    """Relevance is linear in the relevance: the parts make the whole, at one layer and at two."""
    crp = ConceptLRPFx(unnamed_cnn(), propagation=propagation)
    whole = crp.attribute(X, 1)
    parts = crp.attribute_conditions(X, [{"2": [c]} for c in range(5)], 1)
    assert torch.allclose(parts.sum(0), whole, atol=SAME_SUMS)
    both = crp.attribute_conditions(X, [{"2": [1], "0": [c]} for c in range(4)], 1)
    assert torch.allclose(both.sum(0), parts[1], atol=SAME_SUMS)


def test_conditions_of_different_layers_and_targets_in_one_call() -> None:
    """A condition without a layer leaves it alone; y is a class for all samples."""
    model = unnamed_cnn()
    crp = ConceptLRPFx(model)
    conditions = [{"y": [2]}, {"2": [0], "y": 1}, {model[0]: [3]}]
    found = crp.attribute_conditions(X, conditions, [0, 1])
    assert torch.equal(found[0], LRPFx(model).attribute(X, 2))
    assert torch.equal(found[1], crp.attribute_conditions(X, [{"2": [0]}], 1)[0])
    assert torch.equal(found[2], crp.attribute_conditions(X, [{"0": [3]}], [0, 1])[0])
    as_tuple = crp.attribute_conditions((X,), conditions, [0, 1])
    assert isinstance(as_tuple, tuple)
    assert torch.equal(as_tuple[0], found)


def test_a_list_of_classes_is_explained_as_one() -> None:
    """Of all samples, where a target of a list of ints would be of one sample each."""
    model = unnamed_cnn()
    crp = ConceptLRPFx(model)
    found = crp.attribute_conditions(X, [{"y": [0, 2], "2": [1, 3]}, {"y": [1, 1]}])
    parts = crp.attribute_conditions(X, [{"y": 0, "2": [1, 3]}, {"y": 2, "2": [1, 3]}])
    assert torch.allclose(found[0], parts.sum(0), atol=SAME_SUMS)
    assert torch.equal(found[1], crp.attribute(X, 1))


class Branches(nn.Module):
    """A skip connection round two branches, of which one is given a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.left, self.inner = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.right, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor, more: Tensor) -> Tensor:
        x = self.stem(x).relu()
        left = self.inner(self.left(x).relu()).relu()
        right = self.norm(self.right(x + more)).relu()
        return self.head((x + left + right).mean((2, 3)))


def branches() -> nn.Module:
    torch.manual_seed(0)
    return Branches().double().eval()


BOTH = (X, numbers(2, 4, 10, 10, seed=1))


@pytest.mark.parametrize("layer", ["left", "inner", "right", "stem"])
def test_relevance_goes_through_the_layer_and_not_round_it(layer: str) -> None:
    """All of a layer's channels have the map less the one in which the layer lets nothing pass."""
    model = branches()
    crp = ConceptLRPFx(model)
    parts = crp.attribute_conditions(BOTH, [{layer: [c]} for c in range(4)], 1)
    blocked = LRPFx(model)
    blocked.register_relevance_hook(layer, lambda relevance, step: torch.zeros_like(relevance))
    whole, round_it = crp.attribute(BOTH, 1), blocked.attribute(BOTH, 1)
    for part, all_ways, others in zip(parts, whole, round_it, strict=True):
        expected = all_ways - others
        assert torch.allclose(part.sum(0), expected, atol=SAME_SUMS)
    assert parts[0].any()
    assert bool(parts[1].any()) == (layer == "right")  # the second input goes there alone


def test_parallel_ways_may_be_left_open() -> None:
    """Then a condition is nothing but a mask, as a hook can write it."""
    model = branches()
    crp, hooked = ConceptLRPFx(model), LRPFx(model)
    mask = torch.tensor([0.0, 1, 0, 1], dtype=torch.float64).reshape(4, 1, 1)
    hooked.register_relevance_hook("left", lambda relevance, step: relevance * mask)
    found = crp.attribute_conditions(BOTH, [{"left": [1, 3]}], 1, exclude_parallel=False)
    for mine, expected in zip(found, hooked.attribute(BOTH, 1), strict=True):
        assert torch.equal(mine[0], expected)


def test_layers_of_one_condition_lie_one_behind_the_other() -> None:
    """Through both; side by side no relevance goes through both; a folded norm is no layer beside."""
    crp = ConceptLRPFx(branches())
    parts, _ = crp.attribute_conditions(BOTH, [{"inner": [2], "left": [c]} for c in range(4)], 1)
    (whole,), _ = crp.attribute_conditions(BOTH, [{"inner": [2]}], 1)
    assert torch.allclose(parts.sum(0), whole, atol=SAME_SUMS)
    beside = [{"left": [1], "right": [1]}]
    with pytest.raises(InputError, match="both 'left' and 'right', which lie side by side"):
        crp.attribute_conditions(BOTH, beside, 1)
    both, _ = crp.attribute_conditions(BOTH, [{"left": [1]}, {"right": [1]}], 1)
    assert both.flatten(1).any(1).all()
    assert crp.attribute_conditions(BOTH, beside, 1, exclude_parallel=False)[0].any()
    with pytest.raises(InputError, match="'norm' and 'right' are one node, 'right_conv2d'"):
        crp.attribute_conditions(BOTH, [{"right": [1], "norm": [1]}], 1)


def test_channels_of_tokens() -> None:
    """channel_dim=-1 for values of (N, T, D)."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.up(x).relu()).mean(1)

    torch.manual_seed(0)
    model, x = Tokens().double(), numbers(2, 5, 4)
    crp = ConceptLRPFx(model, channel_dim=-1)
    parts = crp.attribute_conditions(x, [{"up": [c]} for c in range(6)], 1)
    assert torch.allclose(parts.sum(0), crp.attribute(x, 1), atol=SAME_SUMS)
    (channels,) = crp.channel_relevance(x, ["up"], 1)
    assert torch.allclose(channels, LayerLRPFx(model, "up").attribute(x, 1).sum(1), atol=SAME_SUMS)


def test_channel_relevance_is_the_layers_relevance_by_channel() -> None:
    model = unnamed_cnn()
    first, last = ConceptLRPFx(model).channel_relevance(X, ["0", model[5]], [0, 2])
    expected = LayerLRPFx(model, "0").attribute(X, [0, 2]).sum((2, 3))
    assert torch.allclose(first, expected, atol=SAME_SUMS)
    assert torch.equal(last, LayerLRPFx(model, "5").attribute(X, [0, 2]))


def test_an_attribution_graph_adds_up() -> None:
    """With all channels shown, what enters a channel from above is its relevance; and it is drawn."""
    crp = ConceptLRPFx(unnamed_cnn())
    graph = crp.attribution_graph(X[:1], 1, ["2", "0"], width=9)
    assert [c.layer for c in graph.concepts] == ["2"] * 5 + ["0"] * 4
    assert len(graph.edges) == 5 * 4
    for concept in graph.concepts:
        if concept.layer == "0":
            arriving = sum(edge.relevance for edge in graph.edges if edge.lower is concept)
            assert arriving == pytest.approx(concept.relevance, abs=SAME_SUMS)
    small = crp.attribution_graph(X[:1], 1, ["2", "0"], width=2)
    assert small.concepts[:2] == graph.concepts[:2]
    figure = small.plot()
    assert len(figure.axes[0].lines) == 4
    with pytest.raises(InputError, match="one sample"):
        crp.attribution_graph(X, 1, ["2", "0"])
    with pytest.raises(InputError, match="'0' does not depend on '2'"):
        crp.attribution_graph(X[:1], 1, ["0", "2"])


def test_edges_of_an_attribution_graph_do_not_go_round_their_channel() -> None:
    """Of a branch beside a skip connection: what arrives below sums up to the branch's channel."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return (x + self.branch(x)).mean((2, 3))

    torch.manual_seed(0)
    crp = ConceptLRPFx(Skip().double(), "zero")
    graph = crp.attribution_graph(X[:1], 1, ["branch", "stem"], width=4)
    for concept in graph.concepts[:4]:
        arriving = sum(edge.relevance for edge in graph.edges if edge.upper is concept)
        assert arriving == pytest.approx(concept.relevance, abs=1e-10)


def batches(count: int) -> list[tuple[Tensor, list[int]]]:
    """A data set in batches of 3."""
    data = numbers(3 * count, 3, 12, 12, seed=5)
    return [(data[3 * i : 3 * i + 3], [0, 1, 2]) for i in range(count)]


def test_references_are_the_samples_of_largest_relevance(tmp_path: Path) -> None:
    """Against all relevances sorted; in one run, or in two with the state on disk between them."""
    model = unnamed_cnn()
    crp = ConceptLRPFx(model)
    whole = References(crp, ["2", model[0]], tmp_path / "whole.pt", count=4)
    whole.update(batches(5))
    halves = References(crp, ["2", "0"], tmp_path / "halves.pt", count=4)
    halves.update(batches(2))
    again = References(crp, ["2", "0"], tmp_path / "halves.pt", count=4)
    assert again.seen == 6
    again.update(batches(5))
    relevance = torch.cat([crp.channel_relevance(x, ["2"], y)[0] for x, y in batches(5)])
    relevance = (relevance / relevance.abs().sum(1, keepdim=True)).float()
    for channel in range(5):
        expected = relevance[:, channel].topk(4)
        for found in (whole, again):
            places, values = found.top("2", channel)
            assert places == expected.indices.tolist()
            assert values == pytest.approx(expected.values.tolist())
    assert whole.top("0", 3) == again.top(model[0], 3)


def test_a_run_that_broke_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What was seen before is on disk, is not computed again, and the end is that of one run."""
    crp, path = ConceptLRPFx(unnamed_cnn()), tmp_path / "broken.pt"

    def broken() -> Iterator[tuple[Tensor, list[int]]]:
        yield from batches(3)
        raise ConnectionError("the data set is gone")

    with pytest.raises(ConnectionError):
        References(crp, ["2", "0"], path, count=4).update(broken())
    calls = 0

    def counted(relevance: Tensor, step: Step) -> None:
        nonlocal calls
        calls += 1

    crp.register_relevance_hook("2", counted)
    again = References(crp, ["2", "0"], path, count=4)
    again.update(batches(5))
    assert (again.seen, calls) == (15, 2)
    whole = References(ConceptLRPFx(unnamed_cnn()), ["2", "0"], tmp_path / "whole.pt", count=4)
    whole.update(batches(5))
    for channel in range(4):
        for layer in ("2", "0"):
            assert again.top(layer, channel) == whole.top(layer, channel)


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    crp = ConceptLRPFx(unnamed_cnn())
    References(crp, ["2"], tmp_path / "state.pt", count=4).update(batches(1))
    with pytest.raises(OptionError, match="holds references for 4 samples of 2"):
        References(crp, ["2"], tmp_path / "state.pt", count=5)
    with pytest.raises(InputError, match="ends within a batch"):
        References(crp, ["2"], tmp_path / "state.pt", count=4).update(
            [(numbers(2, 3, 12, 12), [0, 1]), (numbers(2, 3, 12, 12), [0, 1])]
        )
    with pytest.raises(InputError, match="nothing is known of '0'"):
        References(crp, ["2"], tmp_path / "state.pt", count=4).top("0", 1)


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ([], InputError, "non-empty list"),
        ([3], InputError, "a condition is a mapping"),
        ([{"2": [9]}], InputError, "5 channels, but no channel 9"),
        ([{"2": []}], InputError, "list of ints"),
        ([{"2": [0.5]}], InputError, "list of ints"),
        ([{"nowhere": [1]}], InputError, "no module or node 'nowhere'"),
        ([{"2": 0.5}], InputError, "list of ints"),
        ([{3: [1]}], InputError, "a layer is a module, its path"),
        ([{"y": []}], TargetError, "empty"),
        ([{"y": [0, 7]}], TargetError, "out of range"),
    ],
)
def test_conditions_that_do_not_fit(conditions: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ConceptLRPFx(unnamed_cnn()).attribute_conditions(X, conditions, 0)
    with pytest.raises(OptionError, match="channel_dim"):
        ConceptLRPFx(unnamed_cnn(), channel_dim=0)
