"""Dense layers and pointwise convolutions in oneDNN."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, Optimizations
from lrp_fx.optimize import onednn
from tests.helpers.counting import called
from tests.helpers.optimized import assert_same


class Pointwise(nn.Module):
    """Large enough for other kernels than torch's: 1×1 convolutions and a dense layer on pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 32, 1), nn.Conv2d(32, 16, 1, bias=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x.flatten(2).mT).amax(1)


needs_onednn = pytest.mark.skipif(onednn._ONEDNN is None, reason="torch was built without oneDNN")


@needs_onednn
@pytest.mark.usefixtures("little_work_counts")
@pytest.mark.parametrize(("rule", "calls"), [("epsilon", 6), ("z_plus", 11)])
def test_dense_layers_and_pointwise_convolutions_run_in_onednn(rule: str, calls: int) -> None:
    """Forward, denominator and adjoint of each; under ε the output is the denominator, and z⁺ of the
    first layer has two of each, since the image has both signs."""
    torch.manual_seed(0)
    model, x = Pointwise(), torch.randn(2, 8, 32, 32)
    results = []
    for kernels, expected in ((True, calls), (False, 0)):
        lrp = LRPFx(model, rule, optimize=Optimizations(kernels=kernels))
        assert called(lambda lrp=lrp: lrp.attribute(x, 1))["_linear_pointwise"] == expected
        results.append(lrp.attribute(x, 1))
    assert_same(*results)


@needs_onednn
def test_other_kernels_are_left_where_they_have_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast, for derivatives, with oneDNN switched off, in double precision, for little work,
    for few rows.
    """
    torch.manual_seed(0)
    x, w = torch.randn(2048, 32), torch.randn(16, 32)
    with torch.no_grad():
        assert onednn.takes_onednn(x, w)
        assert not onednn.takes_onednn(x.double(), w.double())
        assert not onednn.takes_onednn(x[:2047], w)
        assert not onednn.takes_onednn(x[:3], torch.randn(2**15, 32))
        with torch.autocast("cpu"):
            assert not onednn.takes_onednn(x, w)
        with monkeypatch.context() as patched:
            patched.setattr(torch.backends.mkldnn, "enabled", False)
            assert not onednn.takes_onednn(x, w)
    assert not onednn.takes_onednn(x, w)
