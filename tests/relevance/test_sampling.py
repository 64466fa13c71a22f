"""Operations that are linear in one operand, with weights that positions and boxes give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.ops as boxes_of
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import STABILIZED, assert_close
from tests.helpers.numbers import numbers

BOXES = torch.tensor([[0, 0.0, 0, 2, 3], [1, 1, 1, 3, 3], [2, 0, 0, 3.5, 2]], dtype=torch.float64)
GRID = torch.linspace(-1.2, 1.1, 90, dtype=torch.float64).reshape(3, 3, 5, 2)
OFFSETS = torch.linspace(-1, 1, 3 * 18 * 9, dtype=torch.float64).reshape(3, 18, 3, 3)
WEIGHT = torch.linspace(-1, 1, 36, dtype=torch.float64).reshape(2, 2, 3, 3)


def unpooled(y: Tensor) -> Tensor:
    pooled, places = F.max_pool2d(y, 2, return_indices=True)
    return F.max_unpool2d(pooled * 2, places, 2)


SAMPLED: dict[str, Callable[[Tensor], Tensor]] = {
    "grid_sample": lambda y: F.grid_sample(y, GRID.to(y), align_corners=False),
    "nearest": lambda y: F.grid_sample(y, GRID.to(y), mode="nearest", align_corners=True),
    "roi_align": lambda y: boxes_of.roi_align(y, BOXES.to(y), (2, 2), aligned=True),
    "roi_pool": lambda y: boxes_of.roi_pool(y, BOXES.to(y), (2, 2)),
    # whole numbers: of halves, torchvision's own derivative is not that of its values
    "ps_roi_pool": lambda y: boxes_of.ps_roi_pool(
        y.repeat(1, 2, 1, 1), BOXES.floor().to(y), (2, 2)
    ),
    "deform_conv2d": lambda y: boxes_of.deform_conv2d(y, OFFSETS.to(y)[..., :2, :2], WEIGHT.to(y)),
    "max_unpool2d": unpooled,
    "affine_grid": lambda y: F.affine_grid(
        y.flatten(1)[:, :6].reshape(-1, 2, 3), [3, 1, 2, 2], align_corners=False
    ),
    "nearest-exact": lambda y: F.interpolate(y, (6, 7), mode="nearest-exact"),
    "antialiased": lambda y: F.interpolate(y, (3, 2), mode="bilinear", antialias=True),
}


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.function = nn.Linear(5, 32, bias=False), function

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.dense(x).reshape(-1, 2, 4, 4)).flatten(1)
        return y * torch.linspace(1, 2, y.shape[1]).to(y)


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("engine", ["direct", "gradient"])
def test_samples_share_by_contributions(name: str, engine: Any) -> None:
    """Under the zero rule that is input × gradient, by autograd; the ledger closes."""
    net, x = Net(SAMPLED[name]).double().eval(), numbers(3, 5)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf).sum(), leaf)
    lrp = LRPFx(net, "zero", propagation=engine, start=lambda y: y)
    assert_close(lrp.attribute(x), (leaf * gradient).detach(), STABILIZED)
    assert lrp.audit(x).closes()


def test_cells_of_boxes_give_all_to_their_winner() -> None:
    """The matrix form: ``R_in = Mᵀ R``, where row ``j`` of M has a one at the maximum of cell ``j``."""
    net, x = nn.Flatten(), numbers(2, 2 * 6 * 6).abs().reshape(2, 2, 6, 6)
    boxes = torch.tensor([[0, 0.0, 1, 4, 4], [1, 2, 0, 5, 3]], dtype=torch.float64)

    class Boxes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(boxes_of.roi_pool(x, boxes.to(x), (2, 2)))

    scores = numbers(2, 8)
    found = LRPFx(Boxes(), start=lambda y: scores.to(y)).attribute(x)
    expected = torch.zeros_like(x)
    for box, (image, *corners) in enumerate(boxes.long().tolist()):
        left, top, right, bottom = corners
        height, width = bottom - top + 1, right - left + 1
        for channel in range(2):
            for row in range(2):
                for column in range(2):
                    rows = range(top + row * height // 2, top + -(-(row + 1) * height // 2))
                    columns = range(
                        left + column * width // 2, left + -(-(column + 1) * width // 2)
                    )
                    cell = [(x[image, channel, i, j], i, j) for i in rows for j in columns]
                    _, i, j = max(cell, key=lambda each: each[0])
                    expected[image, channel, i, j] += scores[box, channel * 4 + row * 2 + column]
    assert_close(found, expected, STABILIZED)


def test_relevance_of_samples_is_differentiable() -> None:
    """Kernels without a second derivative: the derivative of an adjoint is the operation."""
    net, x = Net(SAMPLED["grid_sample"]).double().eval(), numbers(3, 5)
    lrp = LRPFx(net, "epsilon", start=lambda y: y)
    weight = net.dense.weight
    (found,) = torch.autograd.grad(
        lrp.attribute(x, create_graph=True).square().sum(), weight, retain_graph=False
    )
    step = 1e-6
    with torch.no_grad():
        losses = []
        for sign in (1, -1):
            weight[3, 2] += sign * step
            losses.append(lrp.attribute(x).square().sum())
            weight[3, 2] -= sign * step
    assert abs((losses[0] - losses[1]) / (2 * step) - found[3, 2]) <= 1e-4 * found.abs().max()
