"""Both directions to Quantus: without it by a stand-in of the same interface, with it for real."""

from __future__ import annotations

from enum import Enum

import numpy
import pytest
import torch
from torch import nn

from lrp_fx import LRPFx
from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate import (
    Explainer,
    PointingGame,
    Sparseness,
    explain_func,
    explain_with,
    quantus_metric,
)
from tests.evaluate.helpers import images, small_network

TARGETS = torch.tensor([0, 3, 1])


class Direction(Enum):
    LOWER = "lower"


class Change:
    """How far the map moves when the model's last weights are doubled in a copy."""

    name = "Change"
    score_direction = Direction.LOWER

    def __init__(self) -> None:
        self.seed = 42
        self.hidden = object()

    def __call__(self, *, model, x_batch, y_batch, a_batch, explain_func, device, **rest: object):
        other = small_network()
        with torch.no_grad():
            other[5].weight.mul_(2)
            other[5].bias.mul_(2)
        same = explain_func(model=model, inputs=x_batch, targets=y_batch, device=device)
        numpy.testing.assert_array_equal(same, a_batch)
        moved = explain_func(model=other, inputs=x_batch, targets=y_batch, device=device)
        return [float(abs(m / 2 - a).max()) for m, a in zip(moved, a_batch, strict=True)]


def test_a_metric_with_the_interface_of_quantus() -> None:
    model, x = small_network(), images()
    metric = quantus_metric(Change())
    assert (metric.name, metric.higher_is_better) == ("Quantus Change", False)
    assert "seed=42" in repr(metric)
    assert "object" not in repr(metric)
    scores = metric(model, Explainer(lambda m: LRPFx(m, "epsilon"), model), x, TARGETS)
    assert scores.shape == (3,)
    assert float(scores.max()) < 1e-6
    with pytest.raises(OptionError, match="Explainer"):
        metric(model, explain_with(LRPFx(model)), x, TARGETS)


def test_what_quantus_refuses_is_said_before() -> None:
    model, x = small_network(), images()
    with pytest.raises(InputError, match=r"all relevance .* negative.*one_hot"):
        quantus_metric(Change())(model, lambda x, t: -torch.ones_like(x), x, TARGETS)
    explain = explain_func(lambda model: Zeros())
    with pytest.warns(UserWarning, match="zero"):
        explain(model=model, inputs=x.numpy(), targets=TARGETS.numpy())


class Zeros:
    def attribute(self, inputs, target):
        return torch.zeros_like(inputs)


def test_failures_and_curves_are_one_sentence() -> None:
    model, x = small_network(), images()

    class Fails(Change):
        def __call__(self, **arguments: object):
            raise AttributeError("module 'numpy' has no attribute 'trapz'")

    class Curve(Change):
        def __call__(self, **arguments: object):
            return {"first": [1, 2, 3], "last": [4, 5, 6]}

    with pytest.raises(InputError, match="Quantus Change failed with AttributeError"):
        quantus_metric(Fails())(model, explain_with(LRPFx(model)), x, TARGETS)
    with pytest.raises(OptionError, match="reduce="):
        quantus_metric(Curve())(model, explain_with(LRPFx(model)), x, TARGETS)
    last = quantus_metric(Curve(), reduce=lambda result: result["last"])
    assert last(model, explain_with(LRPFx(model)), x, TARGETS).tolist() == [4, 5, 6]


def test_one_capture_for_a_model_that_is_randomised_in_place() -> None:
    """Weights are read anew, and the attribution of each model is made once."""
    made: list[nn.Module] = []

    def factory(model: nn.Module) -> LRPFx:
        made.append(model)
        return LRPFx(model)

    explain, model, other = explain_func(factory), small_network(), small_network()
    x, targets = images().numpy().astype(numpy.float64), TARGETS.numpy()
    before = explain(model=model, inputs=x, targets=targets, device="cpu")
    assert before.shape == x.shape
    for _ in range(3):
        with torch.no_grad():
            other[5].weight.mul_(-1)
            other[5].bias.mul_(-1)
        moved = explain(model=other, inputs=x, targets=targets)
        expected = LRPFx(other).attribute(images(), target=TARGETS).numpy()
        numpy.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-7)
    numpy.testing.assert_array_equal(explain(model=model, inputs=x, targets=targets), before)
    assert made == [model, other]


@pytest.mark.filterwarnings("ignore")
def test_quantus_itself() -> None:
    """Its own Gini index and pointing game are ours; its randomisation test runs on our adapter."""
    quantus = pytest.importorskip("quantus")
    model, x = small_network(), images()
    explain = Explainer(LRPFx, model)
    quiet = {"disable_warnings": True}
    one = (lambda a, t: explain(a, t).sum(1, keepdim=True), x, TARGETS)
    theirs = quantus_metric(quantus.Sparseness(**quiet))(model, *one)
    torch.testing.assert_close(Sparseness()(model, *one), theirs, rtol=0, atol=1e-5)
    masks = torch.zeros(3, 12, 12, dtype=torch.bool)
    masks[:, :, 6:] = True
    theirs = quantus_metric(quantus.PointingGame(**quiet), masks=masks)(model, *one)
    assert torch.equal(PointingGame(masks=masks)(model, *one), theirs)
    mprt = quantus_metric(quantus.MPRT(return_average_correlation=True, **quiet))
    assert bool((mprt(model, explain, x, TARGETS) < 1).all())


def test_arrays_that_torch_does_not_take() -> None:
    """Negative strides and read-only arrays, of inputs and targets."""
    model, x = small_network(), images().flip(3)
    given, targets = images().numpy()[..., ::-1], TARGETS.numpy()[::-1]
    given.flags.writeable = False
    found = explain_func(LRPFx)(model=model, inputs=given, targets=targets)
    expected = LRPFx(model).attribute(x, target=TARGETS.flip(0)).numpy()
    numpy.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tensors_that_numpy_does_not_take(dtype: torch.dtype) -> None:
    """With a gradient, and of a type that it lacks."""

    class Logits(Change):
        def __call__(self, *, model, x_batch, y_batch, explain_func, **rest: object):
            x, y = x_batch[..., ::-1], y_batch
            explain_func(model=model, inputs=x, targets=y)
            return model(torch.tensor(x_batch)).detach()[:, 0]

    model, x = small_network().to(dtype), images().to(dtype).requires_grad_()
    scores = quantus_metric(Logits())(model, lambda x, t: x, x, TARGETS)
    assert torch.equal(scores, model(x)[:, 0].detach().double())


def test_settings_of_quantus_are_told_apart() -> None:
    masks = torch.zeros(3, 12, 12, dtype=torch.bool)
    metric = quantus_metric(Change(), label="twice", masks=masks, reduce=len)
    assert metric.name == "Quantus Change (twice)"
    assert "masks=bool (3, 12, 12)" in repr(metric)
    assert "reduce=len" in repr(metric)
