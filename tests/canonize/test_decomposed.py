"""Operations that nothing describes: they get the relevance of what torch composes them of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import UnsupportedOperationError

ROUNDING = 1e-12
"""Of the same sums in float64."""
STABILIZED = 1e-5
"""Another order of sums and products has its stabilizers, 1e-6, at other places."""


class Between(nn.Module):
    """A function of a layer's values, and a layer behind it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.function, self.b = nn.Linear(4, 6), function, nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)).flatten(1))


def _renormed(y: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(y, dim=1, keepdim=True)
    return y * torch.where(size > 0.5, 0.5 / (size + 1e-7), 1.0)


def _selected(y: Tensor) -> Tensor:
    ordered = y.sort(1).values
    return 0.75 * ordered[:, 1:2] + 0.25 * ordered[:, 2:3]


PAIRS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "column_stack": (
        lambda y: torch.column_stack([y[:, :2], y[:, 3:]]),
        lambda y: torch.cat([y[:, :2], y[:, 3:]], 1),
    ),
    "dstack": (lambda y: torch.dstack([y, y]), lambda y: torch.stack([y, y], 2)),
    "renorm": (lambda y: torch.renorm(y, 2, 0, 0.5), _renormed),
    "float_power": (lambda y: torch.float_power(y, 2), lambda y: y**2),
    "expit": (torch.special.expit, torch.sigmoid),
    "entropy": (
        lambda y: torch.special.entr(y.exp()),
        lambda y: -y.exp() * y.exp().log(),
    ),
    "mv": (
        lambda y: torch.mv(y, torch.arange(6.0, dtype=y.dtype))[:, None],
        lambda y: y @ torch.arange(6.0, dtype=y.dtype)[:, None],
    ),
    "quantile": (lambda y: torch.quantile(y, 0.25, 1, keepdim=True), _selected),
    "vecdot": (
        lambda y: torch.linalg.vecdot(y, y.flip(1))[:, None],
        lambda y: (y * y.flip(1)).sum(1, keepdim=True),
    ),
}
"""A function, and the same written with described operations."""


def _pair(name: str, batch: int = 3) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    first, second = (Between(function).double() for function in PAIRS[name])
    x = torch.randn(batch, 4, dtype=torch.float64)
    for model in (first, second):
        model(x)
    second.load_state_dict(first.state_dict())
    return first, second, x


@pytest.mark.parametrize("capture", ["auto", "record"])
@pytest.mark.parametrize("name", PAIRS)
def test_it_gets_the_map_of_its_parts(name: str, capture: str) -> None:
    first, second, x = _pair(name)
    lrp = LRPFx(first, "epsilon", capture=capture)
    relevance = lrp.attribute(x, 1)
    expected = LRPFx(second, "epsilon").attribute(x, 1)
    near = STABILIZED if name in ("entropy", "quantile") else ROUNDING
    torch.testing.assert_close(relevance, expected, rtol=0, atol=near)
    assert lrp.audit(x, 1).closes()
    by_gradient = LRPFx(first, "epsilon", capture=capture, propagation="gradient").attribute(x, 1)
    torch.testing.assert_close(relevance, by_gradient, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", ["column_stack", "renorm"])
def test_sizes_stay_open(name: str) -> None:
    first, _, x = _pair(name)
    lrp = LRPFx(first)
    lrp.attribute(x, 1)
    whole = lrp.attribute(torch.cat([x, -x]), 1)
    (readings,) = lrp._explainer._readings.values()
    assert len(readings) == 1
    torch.testing.assert_close(whole[:3], lrp.attribute(x, 1), rtol=0, atol=ROUNDING)


def test_what_has_no_known_parts_is_an_error_that_names_it() -> None:
    model = Between(lambda y: y @ torch.linalg.inv(y.T @ y + torch.eye(6)))
    x = torch.randn(3, 4)
    model(x)
    with pytest.raises(UnsupportedOperationError, match=r"linalg_inv"):
        LRPFx(model).attribute(x, 1)


def test_tensors_named_like_parts_of_graphs_are_followed() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.code = nn.Linear(4, 3)
            self.register_buffer("graph", torch.ones(3))
            self.meta = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.code(x) * self.graph + self.meta

    model, x = Named(), torch.randn(2, 4)
    for capture in ("symbolic", "export", "record"):
        lrp = LRPFx(model, "epsilon", capture=capture)
        lrp.attribute(x, 1)
        with torch.no_grad():
            model.graph.mul_(2)
            model.code.weight.mul_(2)
        fresh = LRPFx(model, "epsilon").attribute(x, 1)
        torch.testing.assert_close(lrp.attribute(x, 1), fresh, rtol=0, atol=0)
