"""Whatever fails inside leaves the library as a documented error that says what was asked for."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import ConceptLRPFx, LayerLRPFx, LRPFx, NeuronLRPFx, composites
from lrp_fx.errors import InputError, OptionError, TargetError, UnexpectedError
from lrp_fx.run.program import Program

EPS_TWICE = 1e-4
"""Of max |R|: ε = 1e-6 beside denominators of 0.01 and more, once more in one spelling."""
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


def test_rules_for_nonnegative_values_warn_in_the_plan() -> None:
    signed = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    positive = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    blog = composites.compat.blog()
    assert "warning: UnsplitZPlus" in str(LRPFx(signed, blog, start="softmax").plan(X))
    assert "_2_linear" in str(LRPFx(signed, blog, start="softmax").plan(X)).partition("node ")[0]
    assert "warning" not in str(LRPFx(positive, blog, start="softmax").plan(X))


def test_numbers_of_numpy_are_numbers() -> None:
    lrp = LRPFx(model(), composites.Epsilon(np.float64(1e-6)), top_k=np.float32(0.5))
    expected = LRPFx(model(), composites.Epsilon(1e-6), top_k=0.5)
    assert torch.equal(lrp.attribute(X, np.int64(1)), expected.attribute(X, 1))
    each = np.array([1, 2, 0])
    assert torch.equal(lrp.attribute(X, each), expected.attribute(X, [1, 2, 0]))
    rows = np.array([[0, 1, 1], [1, 2, 0]])
    assert torch.equal(
        lrp.attribute_many(X, rows), expected.attribute_many(X, torch.from_numpy(rows))
    )
    assert lrp.audit(X, 1).of_sample(np.int64(1)).closes()
    crp = ConceptLRPFx(model(), channel_dim=np.int64(1))
    crp.attribute_conditions(X, [{"0": np.array([1, 2])}], 1)
    with pytest.raises(TargetError, match="must hold integers"):
        lrp.attribute(X, np.array([1.0, 2.0, 0.0]))
    with pytest.raises(OptionError, match="bias must be one of"):
        LRPFx(model(), bias=np.array([1, 2]))  # type: ignore[arg-type]


def test_truth_values_are_asked_for() -> None:
    lrp = LRPFx(model())
    with pytest.raises(OptionError, match="create_graph must be True or False, got 1"):
        lrp.attribute(X, 1, create_graph=1)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="return_convergence_delta must be True or False"):
        lrp.attribute(X, 1, None, X)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="threshold must be a number, got 'x'"):
        lrp.audit(X, 1).explosions("x")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="path must be the name of a file, got 3"):
        lrp.export(X, path=3)  # type: ignore[arg-type]


def test_unknown_arguments_name_the_nearest() -> None:
    with pytest.raises(TypeError, match="'topk': did you mean 'top_k'"):
        LRPFx(model(), topk=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'targets': did you mean 'target'"):
        LayerLRPFx(model(), "0").attribute(X, targets=1)
    with pytest.raises(TypeError, match="'zzz': there are inputs, target, additional"):
        LRPFx(model()).audit(X, zzz=1)  # type: ignore[call-arg]


class Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [MemoryError("mine"), torch.OutOfMemoryError("mine"), RuntimeError("can't allocate memory")],
    ids=repr,
)
@pytest.mark.parametrize("capture", ["auto", "record"])
def test_a_lack_of_memory_in_the_model_stays_one(error: Exception, capture: str) -> None:
    with pytest.raises(type(error), match=str(error)):
        LRPFx(Failing(error), capture=capture).attribute(X, 1)


def test_a_nan_in_the_input_is_placed() -> None:
    x = X.clone()
    x[1, 2:] = float("nan")
    with pytest.raises(InputError, match=r"2 NaN or infinite values, in sample 1; .* at \(1, 2\)"):
        LRPFx(model()).attribute(x, 1)


def test_what_stands_around_the_call_changes_nothing() -> None:
    net, expected = model(), LRPFx(model()).attribute(X, 1)
    with torch.device("meta"):
        assert torch.equal(LRPFx(net).attribute(X, 1), expected)
        assert LRPFx(net).audit(X, 1).closes()
    with torch.inference_mode():
        assert torch.equal(LRPFx(net).attribute(X.clone(), 1), expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(LRPFx(net).attribute(X, 1), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    mine = LRPFx(net).attribute(X.clone().requires_grad_(), 1)
    assert torch.equal(mine, expected)
    assert not mine.requires_grad


class OneOrTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.dense(a) if a is b else self.dense(a) - 2 * self.dense(b)


def test_one_tensor_given_twice_is_two() -> None:
    """Each input has relevance of its own, so that they are told apart."""
    net = OneOrTwo()
    once, twice = (LRPFx(net).attribute((X, other), 1) for other in (X.clone(), X))
    assert all(map(torch.equal, once, twice))


class OfGiven(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.function(x, w)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "function",
    [
        F.linear,
        lambda x, w: x @ w.t(),
        lambda x, w: (w @ x.t()).t(),
        lambda x, w: torch.einsum("ni,oi->no", x, w),
        lambda x, w: torch.bmm(x[:, None], w.t().expand(3, 4, 3))[:, 0],
    ],
    ids=["linear", "matmul", "from the left", "einsum", "bmm"],
)
def test_given_weights_follow_the_composite(function: Any) -> None:
    """What is no explained input is a constant of the explanation, also as a factor."""
    layer = nn.Linear(4, 3, bias=False)
    expected = LRPFx(layer, "z_plus").attribute(X, 1)
    lrp = LRPFx(OfGiven(function), "z_plus")
    weight = layer.weight.detach()
    torch.testing.assert_close(lrp.attribute(X, 1, (weight,)), expected)
    assert lrp.audit(X, 1, (weight,)).closes()
