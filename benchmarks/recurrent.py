"""Recurrent layers and loops of 400 steps, and the first map of models with more and more nodes.

    python benchmarks/recurrent.py --out docs/performance.md

All times are seconds of the processor, in one process; the first map beyond two forward passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from harness.deep import INPUT, Block, Formulas, Loop, Reader
from harness.tables import options, put, table
from harness.timing import input_gradient, interleaved, quartiles, timed
from torch import Tensor, nn

from lrp_fx import LRPFx

STEPS = 400
BLOCKS = (100, 1000)
"""Of four nodes each."""
LOOPS = ["cell", "steps", "nodes", "first map, s", "ms a node", "the next / input gradient"]
cpu = partial(timed, clock=time.process_time)


def forward(model: nn.Module, x: Tensor) -> None:
    """A forward pass without gradients."""
    with torch.no_grad():
        model(x)


def first_map(model: nn.Module, x: Tensor) -> tuple[LRPFx, float]:
    """The attribution, and the seconds of its first map beyond two forward passes."""
    forward(model, x)
    plain = min(cpu(partial(forward, model, x)) for _ in range(3))
    lrp = LRPFx(model, "epsilon")
    return lrp, cpu(partial(lrp.attribute, x, target=1)) - 2 * plain


def measured(model: nn.Module, x: Tensor, rounds: int) -> tuple[LRPFx, float, float]:
    """The attribution, the seconds of its first map, and those of the next by the input gradient's."""
    lrp, first = first_map(model, x)
    calls: dict[str, Callable[[], object]] = {
        "map": partial(lrp.attribute, x, target=1),
        "gradient": partial(input_gradient, model, x),
    }
    found = interleaved(calls, rounds, measure=cpu)
    ratio = quartiles([a / b for a, b in zip(found["map"], found["gradient"], strict=True)])
    return lrp, first, ratio.median


def layers(rounds: int) -> Iterator[list[str]]:
    for kind in ("LSTM", "GRU", "RNN"):
        for batch in (1, 4):
            torch.manual_seed(0)
            model, x = Reader(kind).eval().requires_grad_(False), torch.randn(batch, STEPS, INPUT)
            _, first, ratio = measured(model, x, rounds)
            yield [kind, str(batch), f"{first:.2f}", f"{ratio:.2f}"]


def loops(rounds: int) -> Iterator[list[str]]:
    models = {
        **{f"`nn.{kind}`": (Loop, kind) for kind in ("LSTMCell", "GRUCell", "RNNCell")},
        **{f"{kind}, written out": (Formulas, kind) for kind in ("LSTM", "GRU")},
    }
    for name, (make, kind) in models.items():
        for steps in (STEPS // 10, STEPS):
            torch.manual_seed(0)
            model, x = make(kind).eval().requires_grad_(False), torch.randn(1, steps, INPUT)
            lrp, first, ratio = measured(model, x, rounds)
            nodes = len(lrp.plan(x).steps)
            figures = [f"{first:.2f}", f"{1000 * first / nodes:.2f}", f"{ratio:.2f}"]
            yield [name, str(steps), str(nodes), *figures]


def depths() -> Iterator[list[str]]:
    for blocks in BLOCKS:
        model = nn.Sequential(*(Block() for _ in range(blocks))).eval()
        _, first = first_map(model, torch.randn(2, 4))
        yield [str(4 * blocks), f"{first:.2f}", f"{1000 * first / (4 * blocks):.2f}"]


def main() -> None:
    settings = options(__doc__, rounds=5).parse_args()
    torch.set_num_threads(1)
    # what torch imports for an export is no cost of a map
    LRPFx(nn.Sequential(nn.Linear(2, 2)).eval(), capture="export").attribute(torch.ones(2, 2), 1)
    head = ["layers", "batch", "first map, s", "the next / input gradient"]
    tables = {
        "layers": table(head, list(layers(settings.rounds))),
        "loops": table(LOOPS, list(loops(settings.rounds))),
        "depth": table(["nodes", "first map, s", "ms a node"], list(depths())),
    }
    put(settings.out, "recurrent", tables)


if __name__ == "__main__":
    main()
