"""All tensors of a run are on the device of the inputs, and nothing in it waits for their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lrp_fx import LRPFx
from lrp_fx.attribution import base
from lrp_fx.errors import InputError, TargetError
from lrp_fx.relevance import StartRelevance, start as start_module
from lrp_fx.relevance.target import _unread
from tests.helpers.devices import run_on
from tests.helpers.models import NETWORKS
from tests.helpers.numbers import numbers


class Of(nn.Module):
    """A function of one input, between two layers."""

    def __init__(
        self, function: Callable[..., Tensor], channels: int, part: nn.Module | None
    ) -> None:
        super().__init__()
        self.function, self.part = function, part
        self.first, self.last = nn.Linear(channels, channels), nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = self.function(h) if self.part is None else self.function(self.part, h)
        return self.last(h.flatten(1))


Case = tuple[tuple[int, ...], Callable[..., Tensor], Callable[[], nn.Module] | None]
SEQUENCE, IMAGE = (6, 8), (4, 6, 8)


def at(module: Callable[[], nn.Module], size: tuple[int, ...] = SEQUENCE) -> Case:
    return size, lambda part, h: part(h), module


def sequence(module: Callable[[], nn.Module]) -> Case:
    return SEQUENCE, lambda part, h: part(h)[0], module


def of(function: Callable[[Tensor], Tensor], size: tuple[int, ...] = SEQUENCE) -> Case:
    return size, function, None


INDEX = torch.tensor([0, 2, 2, 1, 0, 2])
CASES: dict[str, Case] = {
    "convolution": at(lambda: nn.Conv2d(4, 3, 3, stride=2, padding=1), IMAGE),
    "circular padding": at(lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), IMAGE),
    "transposed convolution": at(lambda: nn.ConvTranspose2d(4, 3, 3, stride=2), IMAGE),
    "grouped convolution": at(lambda: nn.Conv1d(6, 6, 3, groups=3)),
    "bilinear": (SEQUENCE, lambda part, h: part(h, h.tanh()), lambda: nn.Bilinear(8, 8, 2)),
    "lstm": sequence(lambda: nn.LSTM(8, 5, num_layers=2, bidirectional=True, batch_first=True)),
    "lstm, projected": sequence(lambda: nn.LSTM(8, 5, proj_size=3, batch_first=True)),
    "gru": sequence(lambda: nn.GRU(8, 5, batch_first=True)),
    "rnn": sequence(lambda: nn.RNN(8, 5, batch_first=True, nonlinearity="relu")),
    "gru cell": (SEQUENCE, lambda part, h: part(h[:, 0]), lambda: nn.GRUCell(8, 5)),
    "encoder layer": at(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "attention, biases of keys": (
        SEQUENCE,
        lambda part, h: part(h, h, h, need_weights=False)[0],
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True),
    ),
    "causal attention": of(lambda h: F.scaled_dot_product_attention(h, h, h, is_causal=True)),
    "layer norm": at(lambda: nn.LayerNorm(8)),
    "group norm": at(lambda: nn.GroupNorm(2, 4), IMAGE),
    "instance norm": at(lambda: nn.InstanceNorm2d(4), IMAGE),
    "local response norm": at(lambda: nn.LocalResponseNorm(3), IMAGE),
    "max pooling": of(lambda h: F.max_pool2d(h, 3, 2, 1), IMAGE),
    "average pooling": of(lambda h: F.avg_pool2d(h, 2, ceil_mode=True), IMAGE),
    "adaptive pooling": of(lambda h: F.adaptive_avg_pool2d(h, (3, 5)), IMAGE),
    "adaptive max pooling": of(lambda h: F.adaptive_max_pool2d(h, 2), IMAGE),
    "power pooling": of(lambda h: F.lp_pool2d(h, 2, 2), IMAGE),
    "unpooling": of(lambda h: F.max_unpool2d(*F.max_pool2d(h, 2, return_indices=True), 2), IMAGE),
    "resize": of(lambda h: F.interpolate(h, scale_factor=2, mode="bilinear"), IMAGE),
    "resize, smooth": of(lambda h: F.interpolate(h, (3, 4), mode="bicubic", antialias=True), IMAGE),
    "grid sampling": of(
        lambda h: F.grid_sample(h, h[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False), IMAGE
    ),
    "reflection": of(lambda h: F.pad(h, (1, 2, 0, 1), mode="reflect"), IMAGE),
    "unfold": of(lambda h: F.unfold(h, 3, padding=1), IMAGE),
    "shuffle": of(lambda h: F.pixel_shuffle(h, 2), IMAGE),
    "roll, flip, rotate": of(lambda h: torch.rot90(h.roll((1, 2), (1, 2)).flip(2), 1, (1, 2))),
    "join, split": of(lambda h: torch.cat([h.chunk(2, 2)[1], h.unbind(1)[0][:, None, :4]], 1)),
    "triangles": of(lambda h: h.tril() + h.triu(1).diagonal(0, 1, 2)[:, :, None]),
    "gather": of(lambda h: h.gather(1, h.argsort(1))),
    "sort": of(lambda h: h.sort(2).values),
    "topk": of(lambda h: h.topk(3, 2).values),
    "scatter_add": (
        SEQUENCE,
        lambda part, h: h.new_zeros(len(h), 3, 8).index_add(1, part.index, h),
        lambda: _holding(index=INDEX),
    ),
    "scatter_reduce": (
        SEQUENCE,
        lambda part, h: torch.zeros_like(h).scatter_reduce(
            1, part.index[None, :, None].expand_as(h), h, "amax", include_self=False
        ),
        lambda: _holding(index=INDEX),
    ),
    "boolean index": (
        SEQUENCE,
        lambda part, h: h[:, part.mask],
        lambda: _holding(mask=INDEX > 0),
    ),
    "masked write": of(lambda h: h.masked_fill(h > 0.5, 0.1)),
    "where": of(lambda h: torch.where(h > 0, h, h.exp() - 1)),
    "softmax": of(lambda h: h.softmax(1) * h),
    "log-softmax": of(lambda h: h.log_softmax(2)),
    "log-sum-exp": of(lambda h: h.logsumexp(2)),
    "maximum, minimum": of(lambda h: torch.maximum(h[:, :3], h[:, 3:]) + h.amin(1, keepdim=True)),
    "deviation": of(lambda h: torch.cat([h.std(2), h.var(1)], 1)),
    "norms": of(lambda h: torch.cat([h.norm(dim=2), h.norm(1, 1)], 1)),
    "similarity": of(lambda h: F.cosine_similarity(h[:, :3], h[:, 3:], dim=2)),
    "distances": of(lambda h: torch.cdist(h[:, :3], h[:, 3:])),
    "product": of(lambda h: h.prod(2)),
    "cumulated": of(lambda h: h.cumsum(1) + h.cumprod(2)),
    "einsum": of(lambda h: torch.einsum("nij,nkj->nik", h, h.relu())),
    "spectrum": of(lambda h: torch.view_as_real(torch.fft.rfft(h, dim=2))),
    "power spectrum": of(lambda h: torch.fft.rfft(h, dim=1).abs().square()),
    "short-time spectrum": (
        (32,),
        lambda part, h: torch.stft(
            h, 8, 4, window=part.window, center=False, return_complex=True
        ).abs(),
        lambda: _holding(window=torch.hann_window(8)),
    ),
    "activations": of(lambda h: F.gelu(h) + F.silu(h) + F.elu(h) + F.softplus(h) + h.sigmoid()),
}


WITH_AUTOGRAD = {"unpooling", "grid sampling"}
"""Their adjoints are those of autograd also in the direct engine."""


class _Holding(nn.Module):
    index: Tensor
    mask: Tensor
    window: Tensor


def _holding(**tensors: Tensor) -> nn.Module:
    part = _Holding()
    for name, tensor in tensors.items():
        part.register_buffer(name, tensor)
    return part


def made(case: Case) -> tuple[nn.Module, Tensor]:
    size, function, part = case
    x = numbers(2, *size).float()
    model = Of(function, size[-1], part and part())
    model(x)
    return model.eval(), x


IN_TORCHS_KERNEL = {"lstm", "lstm, projected", "gru", "gru cell", "rnn"}
"""Without a driver, torch cannot say what their CUDA kernels return."""
ASKS = {"boolean index"}
"""The model itself has to wait: it asks how many entries a mask chooses."""


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", sorted(CASES.keys() - WITH_AUTOGRAD - ASKS))
def test_operations(name: str) -> None:
    """They are filtered too, for a filter must not wait for its threshold."""
    model, x = made(CASES[name])
    device = "meta" if name in IN_TORCHS_KERNEL else "cuda"
    lrp = LRPFx(model, top_k=0.5, filter_by="magnitude")
    assert run_on(device, lrp, (x,), 1) == {device}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", sorted(CASES.keys() - ASKS))
def test_operations_under_autograd(name: str) -> None:
    model, x = made(CASES[name])
    assert run_on("meta", LRPFx(model, propagation="gradient"), (x,), 1) == {"meta"}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    network = NETWORKS[name]
    lrp = LRPFx(network.model(), output=network.output, start="against_rest")
    assert run_on("cuda", lrp, network.inputs(), 1) == {"cuda"}


# What is read of the values, as if the inputs were on a device that computes asynchronously


class Waits(TorchDispatchMode):
    """Counts the calls for which a program would wait for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket.__name__)
        if name in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "unique"):
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def asynchronous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs on the CPU count as inputs on another device."""
    monkeypatch.setattr(base, "_read_late", lambda inputs: inputs)


@pytest.mark.usefixtures("asynchronous")
@pytest.mark.parametrize("name", ["functional", "standardized", "two inputs", "bottlenecks"])
def test_a_run_waits_once(name: str) -> None:
    network = NETWORKS[name]
    x = network.inputs()
    for checks in (True, False):
        lrp = LRPFx(network.model(), output=network.output, check_finite=checks)
        lrp.attribute(x, 1)
        with Waits() as waits:
            lrp.attribute(x, 1)
        assert waits.calls == ["_local_scalar_dense"] * checks


class Cut(nn.Module):
    """What is NaN in the second input becomes zero."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + torch.nan_to_num(y)


@pytest.mark.usefixtures("asynchronous")
@pytest.mark.parametrize("warm", [False, True])
def test_inputs_that_are_read_late_are_refused_all_the_same(warm: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    lrp, x = LRPFx(model), numbers(2, 3)
    if warm:
        lrp.attribute(x, 1)
    wrong = x.clone()
    wrong[1, 2] = torch.nan
    with pytest.raises(InputError, match=r"holds 1 NaN or infinite values, in sample 1"):
        lrp.attribute(wrong, 1)
    assert torch.equal(lrp.attribute(x, 1), LRPFx(model).attribute(x, 1))


@pytest.mark.usefixtures("asynchronous")
def test_nan_that_no_result_shows_is_refused() -> None:
    y = torch.full((2, 3), torch.nan, dtype=torch.double)
    lrp = LRPFx(Cut(), unknown="vjp")
    lrp.attribute((numbers(2, 3), numbers(2, 3)), 1)
    with pytest.raises(InputError, match="input 1 holds 6 NaN"):
        lrp.attribute((numbers(2, 3), y), 1)


def test_without_the_check_nan_goes_through() -> None:
    model = nn.Linear(3, 2).double()
    x = numbers(2, 3)
    lrp = LRPFx(model, check_finite=False)
    assert torch.equal(lrp.attribute(x, 1), LRPFx(model).attribute(x, 1))
    x[0, 0] = torch.nan
    relevance = lrp.attribute(x, 1)
    assert relevance[0].isnan().all()
    assert relevance[1].isfinite().all()


def test_targets_that_are_not_read_give_the_same_start_or_nan() -> None:
    """NaN makes the run fail, and then the target is read and blamed."""
    output, start = numbers(4, 3), StartRelevance("logit")
    index = torch.tensor([2, -1, 3, -4])
    found = start.at_target(output, _unread(index, 3))
    assert torch.equal(found[:2], start.at_target(output[:2], index[:2]))
    assert found[2:].isnan().all()


def test_a_target_that_is_read_late_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        start_module,
        "places_on",
        lambda device, target, shape: _unread(target.to(device), shape[1]),
    )
    lrp = LRPFx(nn.Linear(3, 2).double())
    x = numbers(2, 3)
    lrp.attribute(x, torch.tensor([1, -1]))
    with pytest.raises(TargetError, match="target index 2 is out of range for 2 outputs"):
        lrp.attribute(x, torch.tensor([1, 2]))
