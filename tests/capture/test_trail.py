"""A graph is trusted on other inputs only if it leaves the trail of the model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import CaptureError

Guard = Callable[[Tensor], Tensor]


class Guarded(nn.Module):
    """Two layers, and between them code that cuts or scales values only if they are large."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.first, self.second, self.guard = nn.Linear(4, 6), nn.Linear(6, 3), guard

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.guard(self.first(x)).relu())


def cut(h: Tensor) -> Tensor:
    return h.clamp(max=3)


QUESTIONS: dict[str, Callable[[Any], bool]] = {
    "isinstance": lambda h: isinstance(h, Tensor),
    "is_tensor": torch.is_tensor,
    "type": lambda h: type(h) is Tensor,
    "is_cuda": lambda h: not h.is_cuda,
    "requires_grad": lambda h: not h.requires_grad,
    "layout": lambda h: h.layout == torch.strided,
    "grad_fn": lambda h: h.grad_fn is None,
    "hasattr": lambda h: hasattr(h, "__array__"),
    "is_sparse": lambda h: not (h.is_sparse or h.is_quantized),
    "tracing": lambda h: not (torch.jit.is_tracing() or isinstance(h, torch.fx.Proxy)),
    "exporting": lambda h: not torch.compiler.is_compiling(),
}
"""Questions of Python code, each true of the tensors of a plain run."""


def by_float(h: Tensor) -> Tensor:
    try:
        peak = float(h.max())
    except TypeError:
        peak = 0.0
    return h / peak if peak > 3 else h


def by_count(h: Tensor) -> Tensor:
    try:
        large = int((h > 3).sum())
    except Exception:
        large = 0
    return h / 2 if large else h


def by_bare_except(h: Tensor) -> Tensor:
    try:
        if h.max() > 3:
            return h / 2
    except:  # noqa: E722 such code is what this is about
        pass
    return h


def by_finally(h: Tensor) -> Tensor:
    result = h
    try:
        if (h > 3).any():
            result = h / 2
    finally:
        return result  # noqa: B012 such code is what this is about


def by_list(h: Tensor) -> Tensor:
    values: list[list[float]] = [[0.0]]
    with contextlib.suppress(Exception):
        values = h.tolist()
    return h / 2 if max(map(max, values)) > 3 else h


def by_numpy(h: Tensor) -> Tensor:
    try:
        peak = h.detach().numpy().max()
    except Exception:
        peak = 0.0
    return h / 2 if peak > 3 else h


CAUGHT = (by_float, by_count, by_bare_except, by_finally, by_list, by_numpy)
"""Code that catches the errors of whatever stands for a tensor."""


def check(guard: Guard, capture: str) -> None:
    """What is explained, and its map, on large values after small ones."""
    torch.manual_seed(0)
    model, x = Guarded(guard).eval(), torch.randn(2, 4)
    lrp = LRPFx(model, "epsilon", capture=capture)
    lrp.attribute(0.1 * x, 0)
    with torch.no_grad():
        own = model(20 * x)
    assert torch.allclose(lrp.explained_output(20 * x), own)
    fresh = LRPFx(model, "epsilon", capture="record").attribute(20 * x, 0)
    torch.testing.assert_close(lrp.attribute(20 * x, 0), fresh)


@pytest.mark.parametrize("capture", ["auto", "export"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_that_tracers_answer_otherwise(question: str, capture: str) -> None:
    """Where the one capture that is allowed answers otherwise, an error is right too."""
    holds = QUESTIONS[question]
    with contextlib.nullcontext() if capture == "auto" else contextlib.suppress(CaptureError):
        check(lambda h: cut(h) if holds(h) else h, capture)


@pytest.mark.parametrize("guard", CAUGHT)
def test_errors_that_the_code_catches(guard: Guard) -> None:
    check(guard, "auto")


def test_a_graph_with_the_same_trail_is_not_verified_in_each_call() -> None:
    model, x = Guarded(cut).eval(), torch.randn(2, 4)
    lrp = LRPFx(model, "epsilon")
    lrp.attribute(x, 0)
    ((reading,),) = lrp._explainer._readings.values()
    assert not reading.is_assumed


def test_a_refusal_that_is_lost_is_one() -> None:
    """With the one capture that cannot follow the code there is an error and no map."""
    with pytest.raises(CaptureError, match="branch on a tensor's value"):
        LRPFx(Guarded(by_bare_except).eval(), capture="symbolic").attribute(torch.randn(2, 4), 0)


SKIPPED: dict[str, Callable[[Tensor], bool]] = {
    "tracing": lambda x: isinstance(x, torch.fx.Proxy),
    "exporting": lambda x: torch.compiler.is_compiling(),
}
"""Questions whether somebody reads the code, each false in a plain run."""


class Padded(nn.Module):
    """Leaves the mask out when nothing is padded, and whenever its code is read."""

    def __init__(self, skips: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.layer, self.skips = nn.Linear(4, 4), skips

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h: Tensor = self.layer(x)
        return h if self.skips(x) or bool(mask.all()) else h * mask


@pytest.mark.parametrize("name", SKIPPED)
def test_a_branch_that_only_a_reader_takes_is_not_trusted(name: str) -> None:
    """The first mask leaves the same trail on both branches; the second one does not."""
    torch.manual_seed(0)
    model, x = Padded(SKIPPED[name]).double().eval(), torch.randn(2, 4, dtype=torch.float64)
    full = torch.ones(2, 4, dtype=torch.bool)
    half = full.clone()
    half[:, 2:] = False
    lrp = LRPFx(model, "zero")
    for mask in (full, half, full):
        relevance = lrp.attribute(x, 1, additional_forward_args=(mask,))
        given = LRPFx(model, "zero", capture="record")
        expected = given.attribute(x, 1, additional_forward_args=(mask,))
        torch.testing.assert_close(relevance, expected)
        explained = lrp.explained_output(x, additional_forward_args=(mask,))
        torch.testing.assert_close(explained, model(x, mask).detach())
