"""Fourier transforms and complex values: linear maps of their parts, magnitudes as norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.graph import FOURIER, fourier_adjoint
from tests.helpers.closeness import STABILIZED, assert_close
from tests.helpers.numbers import numbers

Function = Callable[[Tensor], Tensor]
WINDOW = torch.hann_window(8, dtype=torch.float64)
EXACT = 1e-12
"""Of sums of a dozen products in float64, each of about one."""
FILTER = torch.linspace(-1, 1, 10, dtype=torch.float64).reshape(5, 2)


def spectrum(y: Tensor, **options: Any) -> Tensor:
    return torch.stft(y.flatten(1), 8, 4, window=WINDOW.to(y), return_complex=True, **options)


def filtered(y: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(y) * torch.view_as_complex(FILTER.to(y)), n=8)


def assigned(y: Tensor) -> Tensor:
    z = torch.fft.rfft(y)
    kept = torch.zeros_like(z)
    kept[..., :3] = z[..., :3] * (1 + 2j)
    return torch.fft.irfft(kept, n=8)


HOMOGENEOUS: dict[str, Function] = {
    "filter": filtered,
    "assigned": assigned,
    "magnitude": lambda y: torch.fft.rfft(y).abs(),
    "two dimensions": lambda y: torch.fft.fft2(y).real,
    "padded": lambda y: torch.fft.rfft(y, n=12, norm="ortho").abs(),
    "cut": lambda y: torch.fft.irfftn(torch.fft.rfftn(y, dim=(1, 2)), s=(3, 6), dim=(1, 2)),
    "shifted": lambda y: torch.fft.fftshift(torch.fft.fft(y), dim=-1).abs(),
    "hfft": lambda y: torch.fft.hfft(torch.complex(y, y.flip(1))),
    "frames": lambda y: spectrum(y).abs(),
    "all frequencies": lambda y: torch.view_as_real(spectrum(y, onesided=False, center=False)),
    "back again": lambda y: torch.istft(spectrum(y), 8, 4, window=WINDOW.to(y), length=16),
    "joined": lambda y: torch.cat([torch.fft.rfft(y), torch.fft.rfft(y).conj()], -1).abs(),
}
"""Of degree one: the contributions x ∂y/∂x add up to the value."""


class Net(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.function = nn.Linear(5, 16, bias=False), function

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.dense(x).reshape(-1, 2, 8)).flatten(1)
        return y * torch.linspace(1, 2, y.shape[1]).to(y)


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize("engine", ["direct", "gradient"])
def test_transforms_share_by_contributions(name: str, engine: Any) -> None:
    """Under the zero rule that is input × gradient, by autograd; the ledger closes."""
    net, x = Net(HOMOGENEOUS[name]).double().eval(), numbers(3, 5)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf).sum(), leaf)
    lrp = LRPFx(net, "zero", propagation=engine, start=lambda y: y)
    assert_close(lrp.attribute(x), (leaf * gradient).detach(), STABILIZED)
    assert lrp.audit(x).closes()


def test_power_is_a_sum_of_squares() -> None:
    """However it is written, and the same in recorded graphs."""
    spellings: list[Function] = [
        lambda y: torch.fft.rfft(y).abs() ** 2,
        lambda y: (torch.fft.rfft(y) * torch.fft.rfft(y).conj()).real,
        lambda y: torch.fft.rfft(y).real ** 2 + torch.fft.rfft(y).imag ** 2,
        lambda y: torch.view_as_real(torch.fft.rfft(y)).square().sum(-1),
    ]
    x = numbers(3, 5)
    first, *others = (
        LRPFx(Net(each).double().eval(), "zero", capture=way, start=lambda y: y).attribute(x)
        for each in spellings
        for way in ("auto", "record")
    )
    for other in others:
        assert_close(other, first, STABILIZED)


@pytest.mark.parametrize("norm", [None, "forward", "ortho"])
@pytest.mark.parametrize("sizes", [None, [3, 6], [4, 7]])
@pytest.mark.parametrize("name", ["fftn", "ifftn", "rfftn", "irfftn"])
def test_adjoints_by_the_matrix(name: str, sizes: Any, norm: Any) -> None:
    """``Jᵀ`` of each transform, cut and filled up, against its matrix."""
    is_complex = name != "rfftn"
    x = numbers(3, 5, 2) if is_complex else numbers(3, 5)
    options = (name, is_complex, sizes, [0, 1], norm)
    y = FOURIER(x, *options)
    q = numbers(*y.shape, seed=1)
    jacobian = torch.autograd.functional.jacobian(lambda x: FOURIER(x, *options), x)
    expected = torch.einsum("k,kx->x", q.flatten(), jacobian.reshape(q.numel(), x.numel()))
    found = fourier_adjoint(q, x.shape, *options)
    assert (found.flatten() - expected).abs().max() <= EXACT * x.numel() * q.numel()
