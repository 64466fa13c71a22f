"""How time and peak memory grow with the size of what is explained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from contestants import CONTESTANTS, quietly
from memory import peak, settle
from networks import NETWORKS, RESNETS, Network
from timing import Quartiles, environment, interleaved, quartiles
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lrp_fx import LRPFx

Call = Callable[[], object]


@dataclass(frozen=True)
class Curve:
    """One quantity that grows, and all else fixed.

    Args:
        title: what grows.
        points: its values.
        unit: of the points.
        contestants: who is measured.
        case: from a point to the network and the batch size.
    """

    title: str
    points: tuple[int, ...]
    unit: str
    contestants: tuple[str, ...]
    case: Callable[[int], tuple[Network, int]]


def batches(batch: int) -> tuple[Network, int]:
    return RESNETS["resnet18"], batch


def sides(side: int) -> tuple[Network, int]:
    return replace(RESNETS["resnet18"], side=side), 1


def depths(depth: int) -> tuple[Network, int]:
    return RESNETS[f"resnet{depth}"], 1


def lengths(length: int) -> tuple[Network, int]:
    return replace(NETWORKS["bert"], length=length), 1


def targets(count: int) -> tuple[Network, int]:
    return RESNETS["resnet50"], 1


CNN = ("gradient", "epsilon_plus")
CURVES = {
    "batch": Curve("batch size, ResNet-18", (1, 2, 4, 8, 16, 32), "samples", CNN, batches),
    "side": Curve("image side, ResNet-18", (112, 160, 224, 320, 448), "pixels a side", CNN, sides),
    "depth": Curve(
        "depth, ResNet-18 to ResNet-152",
        (18, 34, 50, 101, 152),
        "layers, placed by forward work",
        CNN,
        depths,
    ),
    "length": Curve(
        "sequence length, BERT",
        (64, 128, 256, 512, 1024),
        "tokens",
        ("gradient", "attn_lrp"),
        lengths,
    ),
    "targets": Curve(
        "number of targets, ResNet-50",
        (1, 2, 5, 10, 20),
        "targets",
        ("epsilon", "z_plus", "epsilon_plus"),
        targets,
    ),
}


def run(name: str, seconds: float, rounds: tuple[int, int], threads: int) -> dict[str, Any]:
    """Seconds of each round and peak bytes, of every contestant at every point.

    All points are measured in turn in each round, so that what disturbs one disturbs its neighbours.
    """
    quietly()
    torch.set_num_threads(threads)
    curve = CURVES[name]
    calls: dict[str, Call] = {}
    sizes = []
    for point in curve.points:
        network, batch = curve.case(point)
        model, x = network.make(), network.inputs(batch)
        sizes.append(size(name, point, model, x))
        for contestant in curve.contestants:
            if name == "targets":
                lrp = LRPFx(model, contestant)
                call: Call = partial(lrp.attribute_many, x, range(point))
            else:
                call = partial(CONTESTANTS[contestant].make(network, model), x)
            call()
            calls[f"{contestant} {point}"] = call
    settle()
    bytes_ = {each: peak(call) for each, call in calls.items()}
    found = interleaved(calls, seconds, *rounds)

    def by_contestant(values: dict[str, Any]) -> dict[str, list[Any]]:
        return {c: [values[f"{c} {point}"] for point in curve.points] for c in curve.contestants}

    return {
        "environment": environment(),
        "sizes": sizes,
        "seconds": by_contestant(found),
        "bytes": by_contestant(bytes_),
    }


def size(name: str, point: int, model: torch.nn.Module, x: Tensor) -> float:
    """What the cost of a point is compared with."""
    if name == "depth":
        return forward_work(model, x)
    return float(point**2) if name == "side" else float(point)


def forward_work(model: torch.nn.Module, x: Tensor) -> float:
    """Multiplications of the forward pass, in 10⁹."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() / 2e9


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms, by least squares."""
    x = [math.log(size) for size in sizes]
    y = [math.log(value) for value in values]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - middle_x) ** 2 for a in x)


def exponents(sizes: Sequence[float], seconds: Sequence[Sequence[float]]) -> Quartiles:
    """Of the time, one for each round."""
    return quartiles([exponent(sizes, each) for each in zip(*seconds, strict=True)])
