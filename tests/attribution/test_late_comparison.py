"""The last comparison of a first map uses the map's own forward pass, and still finds what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.attribution import cache as explainers
from lrp_fx.capture import Captured
from lrp_fx.errors import CaptureError, LRPError
from lrp_fx.graph import aten

X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.second(torch.relu(self.first(x)))
        return logits


class Probabilities(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Two(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = super().forward(x)
        return logits, logits.exp()


def _made(kind: Callable[[], nn.Module] = Net) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


@pytest.fixture
def runs() -> Iterator[mock.Mock]:
    """Counts the runs of canonical forms for a comparison."""
    with mock.patch.object(explainers, "reproduces", wraps=explainers.reproduces) as counted:
        yield counted


@pytest.mark.parametrize(("kind", "count"), [(Net, 0), (Probabilities, 1), (Two, 1)])
def test_the_map_takes_the_place_of_a_run(
    kind: Callable[[], nn.Module], count: int, runs: mock.Mock
) -> None:
    lrp = LRPFx(_made(kind))
    lrp.attribute(X, target=0)
    assert runs.call_count == count
    lrp.attribute(X + 1, target=0)
    assert runs.call_count == count, "the shape was not remembered"


def test_what_makes_no_map_of_the_output_runs_the_canonical_form(runs: mock.Mock) -> None:
    model = _made()
    LRPFx(model).plan(X)
    assert runs.call_count == 1
    LayerLRPFx(model, model.first).attribute(X, target=0)
    assert runs.call_count == 2


def _wrong(captured: Captured, factor: float) -> None:
    """Let a canonical form compute something else."""
    (output,) = (node for node in captured.module.graph.nodes if node.op == "output")
    with captured.module.graph.inserting_before(output):
        new = captured.module.graph.call_function(aten.mul, (output.args[0][0], factor))
    output.args = ((new,),)
    captured.module.recompile()


@pytest.mark.parametrize("factor", [1.5, float("nan")], ids=["wrong", "not finite"])
@pytest.mark.parametrize("capture", ["auto", "record"])
def test_a_wrong_canonical_form_is_not_used(factor: float, capture: str) -> None:
    model, canonize = _made(), explainers.canonize
    expected = LRPFx(model).attribute(X, target=0)

    def wrong_if_folded(captured: Captured, *, fold_dense: bool = True, **more: Any) -> Captured:
        made = canonize(captured, fold_dense=fold_dense, **more)
        if fold_dense:
            _wrong(made, factor)
        return made

    with mock.patch.object(explainers, "canonize", wrong_if_folded):
        lrp = LRPFx(model, capture=capture)
        for _ in range(2):
            torch.testing.assert_close(lrp.attribute(X, target=0), expected)


def test_without_a_right_canonical_form_there_is_no_map() -> None:
    canonize = explainers.canonize

    def wrong(captured: Captured, **more: Any) -> Captured:
        made = canonize(captured, **more)
        _wrong(made, 1.5)
        return made

    with (
        mock.patch.object(explainers, "canonize", wrong),
        pytest.raises(CaptureError, match="a bug in lrp_fx"),
    ):
        LRPFx(_made()).attribute(X, target=0)


def test_an_error_of_the_map_stays_what_it_is() -> None:
    with pytest.raises(LRPError, match="target index 7 is out of range"):
        LRPFx(_made()).attribute(X, target=7)


class WithLoss(Net):
    """Its second output is a loss that ignores padded labels, whose decomposition is read anew."""

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        attended = nn.functional.scaled_dot_product_attention(*[x[:, None, None]] * 3)
        logits = super().forward(attended[:, 0, 0])
        shifted = nn.functional.pad(labels, (0, 1), value=-100)[1:]
        return logits, nn.functional.cross_entropy(logits, shifted)


def test_a_form_that_was_planned_is_compared_in_double() -> None:
    """A plan keeps shapes beside the graph, which cannot be copied; the copy leaves them out."""
    model, labels = _made(WithLoss), torch.tensor([1, 2])
    found = LRPFx(model, output=0).attribute(X, target=1, additional_forward_args=(labels,))
    expected = LRPFx(model, output=0, capture="record").attribute(
        X, target=1, additional_forward_args=(labels,)
    )
    assert torch.allclose(found, expected)
