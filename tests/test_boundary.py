"""Whatever fails inside leaves the library as a documented error that says what was asked for."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import ConceptLRPFx, LayerLRPFx, LRPFx, NeuronLRPFx, composites
from lrp_fx.audit import ROUNDING
from lrp_fx.errors import InputError, OptionError, UnexpectedError
from lrp_fx.program import Program

X = torch.linspace(-1, 1, 12).reshape(3, 4)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


def broken(*args: Any, **kwargs: Any) -> Any:
    raise KeyError("deep inside")


def test_what_fails_inside_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "follow_model", broken)
    lrp = LRPFx(model(), "epsilon")
    calls = [
        lambda: lrp.attribute(X, 1),
        lambda: lrp.attribute_many(X, [1]),
        lambda: lrp.audit(X, 1),
        lambda: lrp.explained_output(X),
        lambda: lrp.export(X),
        lambda: LayerLRPFx(model(), "0").attribute(X, 1),
        lambda: NeuronLRPFx(model(), "0").attribute(X, 1),
        lambda: ConceptLRPFx(model()).attribute_conditions(X, [{"0": [1]}], 1),
    ]
    for call in calls:
        with pytest.raises(UnexpectedError, match=r"\(3, 4\) torch.float32") as caught:
            call()
        assert isinstance(caught.value.__cause__, KeyError)
        assert "KeyError: 'deep inside'" in str(caught.value)
    with pytest.raises(UnexpectedError, match="composite epsilon, target 1"):
        lrp.attribute(X, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, torch.OutOfMemoryError])
def test_these_pass(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Program) -> None:
        raise error

    monkeypatch.setattr(Program, "follow_model", fails)
    with pytest.raises(error):
        LRPFx(model()).attribute(X, 1)


def test_functions_of_the_user_answer_for_themselves() -> None:
    lrp = LRPFx(model())
    lrp.register_relevance_hook("0", broken)
    with pytest.raises(
        InputError, match=r"the relevance hook broken at '_0_linear' failed with Key"
    ):
        lrp.attribute(X, 1)
    with pytest.raises(InputError, match="the callable start broken failed with KeyError"):
        LRPFx(model(), start=broken).attribute(X)
    with pytest.raises(InputError, match="the selector broken failed with KeyError"):
        NeuronLRPFx(model(), "0").attribute(X, broken)


def test_signatures_stay() -> None:
    """Captum's log wraps the method, and Python's own words tell of a wrong call."""
    assert "create_graph" in inspect.signature(LRPFx.attribute).parameters
    assert LRPFx.attribute.__wrapped__.__name__ == "attribute"  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="unexpected keyword argument 'targets'"):
        LRPFx(model()).attribute(X, targets=1)


def test_options_that_do_not_exist() -> None:
    with pytest.raises(
        OptionError, match="LayerLRPFx has no option 'propagaton': did you mean 'prop"
    ):
        LayerLRPFx(model(), "0", propagaton="direct")
    with pytest.raises(
        OptionError, match="NeuronLRPFx has no option 'zzz': there are composite, top"
    ):
        NeuronLRPFx(model(), "0", zzz=1)
    with pytest.raises(
        OptionError, match="ConceptLRPFx has no option 'topk': did you mean 'top_k'"
    ):
        ConceptLRPFx(model(), topk=1)


class Masked(nn.Module):
    """A softmax of rows that a mask may hide altogether."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.dense(x)
        hidden = (h @ h.mT).masked_fill(mask[:, None], float("-inf"))
        return (hidden.softmax(-1) @ h).mean(1)


def test_a_nan_is_traced_to_where_it_was_made() -> None:
    """To the softmax and not to the −∞ that was meant; with the samples."""
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[1] = True
    with pytest.raises(InputError, match=r"'softmax'.* for sample 1: a row whose every entry"):
        LRPFx(Masked().eval()).attribute(torch.randn(3, 5, 4), 1, mask)
    weights = model()
    with torch.no_grad():
        weights[2].weight[0, 0] = float("inf")  # type: ignore[index, operator, union-attr]
    with pytest.raises(InputError, match=r"'_2_linear' \(module '2'\)"):
        LRPFx(weights).attribute(X, 0)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_the_ledger_closes_in_every_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(
        *(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU()) for _ in range(6)),
        nn.Linear(64, 5),
    )
    ledger = LRPFx(deep.to(dtype).eval()).audit(torch.randn(2, 64, dtype=dtype), 1)
    assert ledger.closes()
    assert ledger.of_sample(0).rounding == ROUNDING[dtype]
    spoiled = ledger.entries[2]
    wrong = {cause: tuple(a + 1 for a in each) for cause, each in spoiled.taken.items()}
    changed = type(spoiled)(**{**vars(spoiled), "taken": {**wrong, "constant": (9.0, 9.0)}})
    assert not type(ledger)((changed,), ledger.start, ledger.relevance, ledger.rounding).closes()


def test_rules_for_nonnegative_values_warn_in_the_plan() -> None:
    signed = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    positive = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    blog = composites.compat.blog()
    assert "warning: UnsplitZPlus" in str(LRPFx(signed, blog, start="softmax").plan(X))
    assert "_2_linear" in str(LRPFx(signed, blog, start="softmax").plan(X)).partition("node ")[0]
    assert "warning" not in str(LRPFx(positive, blog, start="softmax").plan(X))
