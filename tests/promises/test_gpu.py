"""On a GPU: the maps are those of the CPU, and a run waits for the device once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.models import NETWORKS
from tests.promises.test_devices import CASES, made

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    # a model that selects by a mask has to wait in its own forward pass
    pytest.mark.filterwarnings("ignore:called a synchronizing CUDA operation"),
]
SAME_MAP = 1e-4
"""Of max |R| in float32: kernels of other devices add in another order."""


def assert_same(model: nn.Module, x: tuple[Tensor, ...], output: str | None = None) -> None:
    expected = LRPFx(model, output=output).attribute(x, 1)
    lrp = LRPFx(model.cuda(), output=output)
    found = lrp.attribute(tuple(each.cuda() for each in x), torch.tensor([1, 1], device="cuda"))
    for mine, exact in zip(found, expected, strict=True):
        assert mine.is_cuda
        assert (mine.cpu() - exact).abs().max() <= SAME_MAP * exact.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_operations(name: str) -> None:
    model, x = made(CASES[name])
    assert_same(model, (x,))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    network = NETWORKS[name]
    x = tuple(each.float() for each in network.inputs())
    assert_same(network.model().float(), x, network.output)


@pytest.mark.parametrize("name", ["functional", "standardized", "two inputs", "bottlenecks"])
def test_a_run_waits_once(name: str) -> None:
    network = NETWORKS[name]
    x = tuple(each.cuda() for each in network.inputs())
    for checks in (True, False):
        lrp = LRPFx(network.model().cuda(), output=network.output, check_finite=checks)
        lrp.attribute(x, 1)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                lrp.attribute(x, 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(waits) == checks, [str(each.message) for each in waits]
