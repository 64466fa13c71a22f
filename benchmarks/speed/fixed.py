"""The cost that does not depend on the arithmetic: building the LRP graph, and running it as a graph."""

from __future__ import annotations

import copy
from typing import Any

import torch
from contestants import TARGET, quietly
from hand import HandWrittenVGG
from networks import NETWORKS
from tape import straight_line
from timing import environment, interleaved, timed
from torch import Tensor
from torchvision.models import VGG

from lrp_fx import LRPFx

AGREEMENT = 1e-8  # of max |R|, in float64
RULES = ("epsilon", "z_plus", "epsilon_plus")


def build(name: str, repeats: int, threads: int) -> dict[str, Any]:
    """Seconds to make an LRP graph, of the first attribution, and of a later one; batch 1."""
    quietly()
    torch.set_num_threads(threads)
    network = NETWORKS[name]
    model, x = network.make(), network.inputs(1)
    found: dict[str, list[float]] = {"build": [], "first": [], "later": []}
    for _ in range(repeats):
        lrp = LRPFx(model)
        readable = network.kind != "text"  # of a text model the graph is made at the first call
        found["build"].append(timed(lrp.plan) if readable else timed(lambda lrp=lrp: lrp.plan(x)))
        for step in ("first", "later"):
            found[step].append(timed(lambda lrp=lrp: lrp.attribute(x, target=TARGET)))
    return {"environment": environment(), "seconds": found}


def overhead(name: str, rule: str, seconds: float, rounds: tuple[int, int], threads: int) -> Any:
    """``attribute`` beside the same kernels in a straight line, and beside a loop written by hand."""
    quietly()
    torch.set_num_threads(threads)
    network = NETWORKS[name]
    model, x = network.make(), network.inputs(1)
    lrp = LRPFx(model, rule)

    def attribute(x: Tensor) -> Tensor:
        result: Tensor = lrp.attribute(x, target=TARGET)
        return result

    expected = attribute(x)  # the first call, which also verifies the graph, is not to be recorded
    line = straight_line(attribute, x)
    if not torch.equal(line(x), expected):
        raise SystemExit(f"{name}, {rule}: the straight line is not the same computation")
    calls = {"attribute": attribute, "straight line": torch.no_grad()(line.forward)}
    if isinstance(model, VGG) and rule in ("epsilon", "z_plus"):
        check_by_hand(model, rule, x)
        by_hand = HandWrittenVGG(model, rule)
        calls["by hand"] = lambda x: by_hand(x, TARGET)
    bound = {each: (lambda call=call: call(x)) for each, call in calls.items()}
    return {
        "environment": environment(),
        "seconds": interleaved(bound, seconds, *rounds),
        "kernels": sum(node.op == "call_function" for node in line.graph.nodes),
    }


def check_by_hand(model: VGG, rule: str, x: Tensor) -> None:
    """In double precision, where sums in another order do not matter."""
    model, x = copy.deepcopy(model).double(), x.double()
    expected = LRPFx(model, rule).attribute(x, target=TARGET)
    found = HandWrittenVGG(model, rule)(x, TARGET)
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= AGREEMENT:
        raise SystemExit(f"{rule} by hand differs by {error:.1e} of max |R|")
