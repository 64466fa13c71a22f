"""Contrastive starts and BiLRP: against their definitions, class by class and pair by pair."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lrp_fx import LRPFx, against, against_all, bilrp
from lrp_fx.errors import InputError, TargetError
from lrp_fx.relevance import Start
from tests.helpers.closeness import QUOTIENTS, SAME_SUMS, assert_close
from tests.helpers.models import NETWORKS, input_x_gradient, without_shifts
from tests.helpers.numbers import numbers

NETWORK = NETWORKS["functional"]
(X,) = NETWORK.inputs(2)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 4)).double()


def test_one_class_against_another() -> None:
    """Relevance is linear in the start: the difference of two explanations."""
    model, x = classifier(), numbers(2, 3, 4)
    mine = LRPFx(model, start=against([0, 1], 2)).attribute(x)
    expected = LRPFx(model).attribute(x, [0, 1]) - LRPFx(model).attribute(x, 2)
    assert_close(mine, expected, SAME_SUMS)
    _, delta = LRPFx(model, "zero", start=against(0, 2), bias="distribute").attribute(
        x, return_convergence_delta=True
    )
    assert delta.abs().max() < 1e-10
    same = LRPFx(model, start=against(1, 1)).attribute(x)
    assert not same.any()
    with pytest.raises(TargetError, match="out of range"):
        LRPFx(model, start=against(0, 9)).attribute(x)


def test_one_class_against_all_others() -> None:
    """CLRP: −y_t / (C − 1) at each other class."""
    model, x = classifier(), numbers(2, 3, 4)
    mine, delta = LRPFx(model, start=against_all(1)).attribute(x, return_convergence_delta=True)
    parts = LRPFx(model, start="one_hot").attribute_many(x, range(4))
    y = model(x)[:, 1].detach().reshape(2, 1, 1)
    expected = y * (parts[1] - (parts[0] + parts[2] + parts[3]) / 3)
    assert_close(mine, expected, SAME_SUMS)
    total = delta + mine.flatten(1).sum(1)
    assert total.abs().max() < SAME_SUMS
    with pytest.raises(InputError, match="classes"):
        LRPFx(nn.Sequential(classifier(), nn.Unflatten(1, (2, 2))), start=against_all(0)).attribute(
            x
        )


def test_several_classes_against_the_others() -> None:
    """A slice of classes: each keeps its value, the others share what takes them to zero."""
    model, x = classifier(), numbers(2, 3, 4)
    start = against_all((slice(1, 3),))
    y = model(x).detach()
    rest = -y[:, 1:3].sum(1) / 2
    expected = torch.stack([rest, y[:, 1], y[:, 2], rest], 1)
    assert torch.allclose(start(y), expected)
    assert LRPFx(model, start=start).attribute(x).any()
    with pytest.raises(InputError, match="other classes than the target"):
        LRPFx(model, start=against_all(slice(None))).attribute(x)


def dense(model: nn.Module) -> nn.Module:
    return nn.Sequential(model, nn.Unflatten(1, (2, 2)))


EXPORTED: dict[str, tuple[Callable[[nn.Module], nn.Module], Start]] = {
    "two": (lambda model: model, against(0, 1)),
    "slice": (lambda model: model, against(slice(0, 2), torch.tensor(-1))),
    "all": (lambda model: model, against_all(2)),
    "indices": (dense, against((0, 1), (1, slice(0, 2)))),
    "only": (lambda model: nn.Sequential(model, nn.Linear(4, 1).double()), against(None, 0)),
}


@pytest.mark.parametrize(("around", "start"), EXPORTED.values(), ids=EXPORTED.keys())
def test_contrasts_are_exported_for_any_batch(
    around: Callable[[nn.Module], nn.Module], start: Start
) -> None:
    lrp = LRPFx(around(classifier()), start=start)
    program = lrp.export(numbers(2, 3, 4)).module()
    for size in (1, 5):
        x = numbers(size, 3, 4)
        assert_close(program(x)[1], lrp.attribute(x))


def test_bilrp_of_a_linear_embedding() -> None:
    """s = xᵀ Wᵀ W y: the pair (p, q) has x_p (WᵀW)_pq y_q."""
    model = nn.Linear(5, 3, bias=False).double()
    x, y = numbers(2, 5), numbers(2, 5, seed=1)
    mine = bilrp(LRPFx(model, "zero"), x, y)
    w = model.weight.detach()
    expected = torch.einsum("np,mp,mq,nq->npq", x, w, w, y)
    assert_close(mine, expected, SAME_SUMS)


def test_bilrp_of_a_network() -> None:
    """Against the definition with input × gradient; it sums up to the similarity; pooled it does too."""
    model = without_shifts(NETWORK.model(), X)
    y = NETWORK.inputs(2, seed=4)[0]
    lrp = LRPFx(model, "zero")
    mine = bilrp(lrp, X, y)
    dims = range(model(X).shape[1])
    maps = [
        torch.stack([input_x_gradient(NETWORK.logit(model, m), each)[0].flatten(1) for m in dims])
        for each in (X, y)
    ]
    expected = torch.einsum("mnp,mnq->npq", *maps)
    assert_close(mine, expected, QUOTIENTS)
    similarity = (model(X) * model(y)).sum(1).detach()
    assert torch.allclose(mine.sum((1, 2)), similarity, rtol=1e-6)
    channels = bilrp(lrp, X, y, pool=lambda maps: maps.sum((2, 3)))
    assert channels.shape == (2, 3, 3)
    assert torch.allclose(channels.sum((1, 2)), similarity, rtol=1e-6)


def test_bilrp_of_what_does_not_fit() -> None:
    lrp, x = LRPFx(classifier()), numbers(2, 3, 4)
    with pytest.raises(InputError, match="pairs"):
        bilrp(lrp, x, x[:1])
    with pytest.raises(InputError, match="pool must make"):
        bilrp(lrp, x, x, pool=lambda maps: maps)
    with pytest.raises(InputError, match=r"pool=.*lambda> failed with KeyError: 'sum'"):
        bilrp(lrp, x, x, pool=lambda maps: {}["sum"])
    with pytest.raises(InputError, match=r"embeddings of \(N, M\)"):
        bilrp(LRPFx(nn.Conv2d(3, 2, 1).double()), numbers(1, 3, 4, 4), numbers(1, 3, 4, 4))


def test_the_explained_output() -> None:
    """Below a final softmax, as the plan says."""
    model, x = classifier(), numbers(2, 3, 4)
    found = LRPFx(nn.Sequential(model, nn.Softmax(1))).explained_output(x)
    assert torch.equal(found, model(x).detach())
