"""What a map should change with, and what not: weights, the class, noise; and how sparse it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate import (
    CascadingRandomisation,
    ClassCorrelation,
    Explainer,
    IndependentRandomisation,
    MaxSensitivity,
    Patches,
    Sparseness,
    explain_with,
)
from lrp_fx.evaluate.correlation import rank_correlation
from lrp_fx.evaluate.randomisation import randomised
from lrp_fx.evaluate.sparseness import gini
from tests.evaluate.helpers import images, small_network

TARGETS = torch.tensor([0, 3, 1])
GRID = Patches(6)


class Same:
    """A method that looks at the input alone."""

    def __call__(self, x: Tensor, targets: Tensor) -> Tensor:
        return x

    def on(self, model: nn.Module) -> Same:
        return self


@pytest.mark.parametrize("draw", ["permute", "reset"])
def test_randomisation_tells_methods_apart(draw) -> None:
    """A map of the input alone stays; that of LRP changes. The model is the same bit by bit."""
    model, x = small_network(), images()
    before = copy.deepcopy(model.state_dict())
    for kind in (CascadingRandomisation, IndependentRandomisation):
        metric = kind(model=model, regions=GRID, draw=draw)
        torch.testing.assert_close(
            metric(model, Same(), x, TARGETS), torch.ones(3, dtype=torch.float64)
        )
        assert float(metric(model, Explainer(LRPFx, model), x, TARGETS).mean()) < 0.9
    assert all(
        torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True)
    )


def test_a_reversed_map_is_not_new() -> None:
    """The logit of a random model may be negative, and then all signs of a map change."""

    class Reversed(Same):
        def on(self, model: nn.Module) -> Same:
            return negative

    class Negative(Same):
        def __call__(self, x: Tensor, targets: Tensor) -> Tensor:
            return -x

    negative = Negative()
    score = CascadingRandomisation(model=small_network(), regions=GRID)(
        None, Reversed(), images(), TARGETS
    )
    torch.testing.assert_close(score, torch.ones(3, dtype=torch.float64))


def test_layers_are_randomised_from_the_last() -> None:
    """Cascading leaves earlier stages random, independent stages put them back."""
    for cascade in (True, False):
        model = small_network()
        true = copy.deepcopy(model.state_dict())
        states = []
        for randomise in randomised(model, None, "permute", 0, cascade=cascade):
            randomise()
            state = model.state_dict()
            changed = {k.split(".")[0] for k in true if not torch.equal(true[k], state[k])}
            states.append(sorted(changed))
            assert all(
                torch.equal(true[k].flatten().sort()[0], state[k].flatten().sort()[0]) for k in true
            )
        expected = [["5"], ["2", "5"], ["0", "2", "5"]] if cascade else [["5"], ["2"], ["0"]]
        assert states == expected
    stages = randomised(small_network(), 2, "permute", 0, cascade=True)
    assert len(list(stages)) == 2


def test_mean_over_stages_is_not_the_last() -> None:
    model, x = small_network(), images()
    explain = Explainer(LRPFx, model)
    last = CascadingRandomisation(model=model, regions=GRID)
    mean = CascadingRandomisation(model=model, regions=GRID, summary="mean")
    curve = last.correlations(explain, x, TARGETS, cascade=True, last=False)
    assert torch.equal(last(model, explain, x, TARGETS), curve[-1])
    assert torch.equal(mean(model, explain, x, TARGETS), curve.mean(0))


def test_randomisation_needs_a_method_for_any_model() -> None:
    model = small_network()
    metric = CascadingRandomisation(model=model, regions=GRID)
    with pytest.raises(OptionError, match="Explainer"):
        metric(model, explain_with(LRPFx(model)), images(), TARGETS)


def test_rank_correlation_by_hand() -> None:
    """With ranks 0, 1.5, 1.5, 3 beside 0, 1, 2, 3: 4.5 / √(4.5 · 5)."""
    a = torch.tensor([[1.0, 2.0, 2.0, 3.0], [7, 7, 7, 7], [7, 7, 7, 7], [1, 2, 3, 4]])
    b = torch.tensor([[1.0, 2.0, 3.0, 9.0], [1, 2, 3, 4], [5, 5, 5, 5], [9, 7, 5, -8]])
    expected = torch.tensor([4.5 / 22.5**0.5, 0, 1, -1], dtype=torch.float64)
    torch.testing.assert_close(rank_correlation(a, b), expected)


def test_class_correlation_asks_for_the_runner_up() -> None:
    x = images()
    logits = torch.tensor([[0.0, 5, 9, 1], [0, 5, 9, 1], [0, 5, 9, 1]])
    asked = []

    def explain(x: Tensor, targets: Tensor) -> Tensor:
        asked.append(targets.tolist())
        return x * torch.where(targets == 2, 1, -1)[:, None, None, None]

    metric = ClassCorrelation(regions=GRID)
    found = metric(lambda x: logits, explain, x, torch.tensor([2, 1, 0]))
    assert asked == [[2, 1, 0], [1, 2, 2]]
    assert found.tolist() == pytest.approx([-1, -1, -1])
    chosen = ClassCorrelation(regions=GRID, other="random")
    chosen(lambda x: logits, explain, x, torch.tensor([2, 1, 0]))
    assert all(a != b for a, b in zip(*asked[2:], strict=True))


def test_max_sensitivity_by_hand() -> None:
    """R = x moves by ‖δ‖ / ‖x‖ at most; a constant map does not move, whatever the batches."""
    x = images()
    limit = 0.02 * (x[0].numel() ** 0.5) / x.flatten(1).norm(dim=1).double()
    found = MaxSensitivity(batch_size=2)(None, lambda x, t: x, x, TARGETS)
    assert bool(((found < limit) & (found > 0.4 * limit)).all())
    assert torch.equal(found, MaxSensitivity(batch_size=2)(None, lambda x, t: x, x, TARGETS))
    assert torch.equal(found, MaxSensitivity()(None, lambda x, t: x, x, TARGETS))
    constant = MaxSensitivity()(None, lambda x, t: torch.ones_like(x), x, TARGETS)
    assert constant.tolist() == [0, 0, 0]


def test_gini_by_hand() -> None:
    values = torch.tensor([[0.0, 0, 0, -1], [2, 2, -2, 2], [0, 0, 0, 0], [1, 3, 0, 0]])
    assert gini(values).tolist() == [0.75, 0, 0, 0.625]
    x = images()
    assert torch.equal(
        Sparseness()(None, lambda x, t: x, x, TARGETS), gini(x.double().sum(1).flatten(1))
    )


def test_noise_needs_floating_point() -> None:
    with pytest.raises(InputError, match=r"max sensitivity.*int64"):
        MaxSensitivity()(None, Same(), torch.ones(3, 2, 6, 6).long(), TARGETS)


@pytest.mark.parametrize("other", ["runner_up", "random"])
def test_there_must_be_another_class(other) -> None:
    """Not with one class, nor where all other logits are −∞; the logits may be integers."""
    x, first = torch.rand(3, 1, 6, 6), torch.zeros(3, dtype=torch.long)
    metric = ClassCorrelation(regions=GRID, other=other)

    def model(*logits: float):
        return lambda x: torch.tensor([logits]).expand(len(x), -1)

    for alone in (model(1.0), model(1.0, -torch.inf)):
        with pytest.raises(InputError, match="no other class"):
            metric(alone, Same(), x, first)
    asked: list[Tensor] = []

    def explain(x: Tensor, targets: Tensor) -> Tensor:
        asked.append(targets)
        return x

    for logits in ((5.0, -torch.inf, 2.0), (5, 1, 2)):
        assert metric(model(*logits), explain, x, first).tolist() == pytest.approx([1, 1, 1])
        if other == "runner_up" or logits[1] < 0:
            assert asked[-1].tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", [ClassCorrelation, MaxSensitivity, CascadingRandomisation])
def test_seeds_are_ints(kind) -> None:
    given = {"model": small_network()} if kind is CascadingRandomisation else {}
    with pytest.raises(OptionError, match="seed must be an int"):
        kind(seed=None, **given)
