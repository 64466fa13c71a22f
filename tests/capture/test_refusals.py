"""What cannot be read is refused in words on which one can act."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lrp_fx import LRPFx
from lrp_fx.errors import CaptureError, InputError, LRPError, UnsupportedOperationError
from tests.helpers.captures import after, both_ways, line_of, signal
from tests.helpers.closeness import STABILIZED_SUMS, distance
from tests.helpers.models import everything
from tests.helpers.numbers import numbers


class Forgetful(nn.Module):
    """``training=self.training`` forgotten, several times."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dense, self.draw = nn.Linear(64, 3), draw

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.draw(x))


@both_ways
@pytest.mark.parametrize(
    "draw",
    [
        lambda x: F.dropout(x),
        lambda x: F.alpha_dropout(x, 0.5, training=True),
        lambda x: F.dropout1d(x[:, :, None], 0.3)[:, :, 0],
        lambda x: F.rrelu(x, training=True),
        lambda x: x + torch.randn_like(x),
        lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)),
    ],
    ids=["dropout", "alpha dropout", "dropout1d", "rrelu", "noise", "mask"],
)
def test_randomness_in_eval_mode_is_an_error(draw: Callable[[Tensor], Tensor], way: str) -> None:
    """It is said to be random and where, not that its graph is wrong."""
    with pytest.raises(
        CaptureError, match=r"random in eval mode(.|\n)*training=self\.training"
    ) as error:
        LRPFx(Forgetful(draw), capture=way).attribute(-torch.ones(2, 64), target=0)
    assert f"{Path(__file__).name}:" in str(error.value)


@both_ways
@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4, track_running_stats=False),
        lambda y: F.batch_norm(y, None, None, training=True),
        lambda y: F.batch_norm(y, torch.zeros(4).double(), torch.ones(4).double(), training=True),
    ],
    ids=["module", "function", "statistics that are not used"],
)
def test_batch_norm_over_the_batch_is_an_error(norm: Callable[[Tensor], Tensor], way: str) -> None:
    """It mixes samples: one's explanation would depend on the others."""
    model = after(norm)
    with pytest.raises(CaptureError, match="running statistics"):
        LRPFx(model, start=everything, capture=way).attribute(signal(model))


class Digamma(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x).digamma()


class Strange(nn.Module):
    """Three operations that nobody described, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)
        self.inner = Digamma()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.lgamma(self.dense(x))  # the line of lgamma
        x = self.inner(x)
        x = torch.special.bessel_j1(x)  # the line of bessel_j1
        return torch.lgamma(x)


@both_ways
def test_unknown_operations_are_one_error(way: str) -> None:
    """All of them at once, each with its module and line, and what to do; never a silent zero map."""
    with pytest.raises(UnsupportedOperationError) as error:
        LRPFx(Strange(), start=everything, capture=way).attribute(torch.ones(2, 4))
    text = str(error.value)
    assert text.count("lgamma in the model's own forward") == 2
    assert f"lgamma in the model's own forward ({line_of(Strange, 'line of lgamma')})" in text
    line = line_of(Strange, "line of bessel_j1")
    assert f"bessel_j1 in the model's own forward ({line})" in text
    assert f"digamma in module 'inner' ({__file__}:" in text
    assert 'unknown="vjp"' in text


@both_ways
def test_unknown_operations_on_request(way: str) -> None:
    """``unknown="vjp"`` shares by contributions, for operands in lists too."""
    model = after(lambda y: torch.dstack([y, y.asinh()]).flatten(1))
    model.get_submodule("stem").bias.data.zero_()
    x = signal(model)
    lrp = LRPFx(model, "epsilon", start=everything, capture=way, unknown="vjp")
    y = model.get_submodule("stem")(x).detach()
    share = y + y.asinh()  # what goes in at an operation on single values comes out
    z = model.get_submodule("stem")(x.requires_grad_())
    (expected,) = torch.autograd.grad(z, x, share / z.detach())
    found = lrp.attribute(x.detach())
    assert distance(found, (x * expected).detach()) <= STABILIZED_SUMS


def test_errors_are_the_librarys_own() -> None:
    """Whatever a capture meets, what reaches the user is an LRPError."""

    class Custom:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    for function in (Custom, lambda y: None, lambda y: "text", lambda y: y.numpy()):
        model = after(function)
        for way in ("symbolic", "export", "auto"):
            with pytest.raises(LRPError):
                LRPFx(model, start=everything, capture=way).attribute(signal(model))


def test_packed_inputs_are_refused() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 3), torch.randn(2, 3)])
    with pytest.raises(InputError, match=r"PackedSequence.*padded"):
        LRPFx(nn.LSTM(3, 4)).attribute(packed, 1)


def test_scripted_modules_in_train_mode_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.BatchNorm1d(4).train(), torch.ones(3, 4), check_trace=False)
    before = copy.deepcopy(scripted.state_dict())
    with pytest.raises(InputError, match=r"BatchNorm1d.*train mode.*call .eval\(\)"):
        LRPFx(nn.Sequential(scripted, nn.Linear(4, 3)).train()).attribute(torch.ones(2, 4), 1)
    assert scripted.training
    assert all(torch.equal(before[name], value) for name, value in scripted.state_dict().items())


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, torch.tensor([5, 4]), batch_first=True)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0][:, 0]


def test_packed_sequences_have_no_graph_for_all_lengths() -> None:
    with pytest.raises(LRPError, match=r"(?i)pack") as caught:
        LRPFx(Packed().double(), capture="export").attribute(numbers(2, 5, 3), 1)
    assert "padded" in str(caught.value)


LAYOUT: dict[str, Callable[[Tensor], Any]] = {
    "stride": lambda x: x.stride(0),
    "offset": lambda x: x.storage_offset() + 1,
    "contiguous": lambda x: 2 if x.is_contiguous() else 3,
    "contiguous as a number": lambda x: x.is_contiguous() + 1,
}
FORM: dict[str, Callable[[Tensor], Any]] = {
    "size of an element": lambda x: x.element_size(),
    "dimensions": lambda x: x.dim(),
    "floating point": lambda x: torch.is_floating_point(x) + 1,
}


class AsksForLayout(nn.Module):
    """Multiplies by a number that says how its input lies in memory."""

    def __init__(self, question: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.a, self.question = nn.Linear(4, 3), question

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * self.question(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", LAYOUT)
def test_questions_about_layout_are_no_operations_on_values(name: str) -> None:
    model, x = AsksForLayout(LAYOUT[name]).eval(), torch.randn(2, 4)
    with pytest.raises(CaptureError, match="symbolic"):
        LRPFx(model, capture="symbolic").attribute(x, 1)
    lrp = LRPFx(model, "epsilon")
    torch.testing.assert_close(lrp.explained_output(x), model(x).detach())
    assert all("stride" not in step.operation.name for step in lrp.plan(x).steps)


@pytest.mark.parametrize("name", FORM)
def test_questions_about_form_are_answered(name: str) -> None:
    model, x = AsksForLayout(FORM[name]).eval(), torch.randn(2, 4)
    lrp = LRPFx(model, "epsilon", capture="symbolic")
    torch.testing.assert_close(lrp.explained_output(x), model(x).detach())
