"""What leaving out zeros behind the filter brings: whole explanations on real photographs.

    python benchmarks/sparsity.py --out docs/sparsity.md

Each explanation runs without a filter, with the filter before dense kernels, and with the forms that
leave out what is multiplied with zero, in turn, and each round has other photographs: the number of zeros
is then ever new, as it is for users. EfficientNet-Lite0 has its ImageNet weights, VGG-16 and
ResNet-50 random ones. Times are processor time of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import torch
from harness.networks import NETWORKS, TRAINED, Network, photographs
from harness.tables import options, put, table
from harness.timing import interleaved, keep_memory, quartiles, ratios, timed
from torch import Tensor

from lrp_fx import LRPFx, Optimizations
from lrp_fx.relevance.edges.top_k import TopKFilter

MEASURED = {each.name: each for each in (TRAINED, NETWORKS["vgg16"], NETWORKS["resnet50"])}
FILTERED = ("dense", "sparse")
TOP_K = 0.05
SEEN = 8  # photographs whose statistics the batch norms get; the next ones are explained


class Filters:
    """The processor time that the filters of an explainer take, call by call."""

    def __init__(self, lrp: LRPFx, *example: Any) -> None:
        self.calls: list[float] = []
        self._spent = 0.0
        for module in lrp._program(*example).lrp.module.modules():
            if isinstance(module, TopKFilter):  # a run calls ``forward``, and no hooks
                module.forward = self._timed(module.forward)

    def _timed(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*arguments: Any) -> Tensor:
            began = time.process_time()
            result = forward(*arguments)
            self._spent += time.process_time() - began
            return result

        return run

    def watch(self, call: Callable[[], object]) -> None:
        """Run a call, and note what its filters took."""
        self._spent = 0.0
        call()
        self.calls.append(self._spent)


def _explain_next(lrp: LRPFx, batches: Iterator[Tensor], target: Tensor) -> None:
    lrp.attribute(next(batches), target=target)


def rows(network: Network, batches: list[int], rounds: int) -> list[list[str]]:
    """A line for each batch size: the time as a multiple of the unfiltered one."""
    images, _ = photographs()
    model = network.make(images[:SEEN])
    found = []
    for batch in batches:
        x = images[SEEN : SEEN + batch]
        with torch.no_grad():
            target = model(x).argmax(1)
        moved = [x.roll(5 * step, -1) for step in range(rounds)]
        without = Optimizations(sparse=False)
        ways = {
            "unfiltered": LRPFx(model, "epsilon_plus"),
            "dense": LRPFx(model, "epsilon_plus", top_k=TOP_K, optimize=without),
            "sparse": LRPFx(model, "epsilon_plus", top_k=TOP_K),
        }
        filters, calls = {}, {}
        for way, lrp in ways.items():
            filters[way] = Filters(lrp, x)
            call = partial(_explain_next, lrp, cycle(moved), target)
            call()
            calls[way] = partial(filters[way].watch, call)
        clock = partial(timed, clock=time.process_time)
        seconds = interleaved(calls, rounds, block=0, measure=clock)
        base = seconds["unfiltered"]
        cells = []
        for way in FILTERED:
            assert min(filters[way].calls) > 0, "no filter was seen"
            other = [all_ - own for all_, own in zip(seconds[way], filters[way].calls, strict=True)]
            whole, rest = (ratios(each, base).median for each in (seconds[way], other))
            cells.append(f"{whole:.2f} ({rest:.2f})")
        found.append([network.title, str(batch), f"{1e3 * quartiles(base).median:.0f} ms", *cells])
    return found


def main() -> None:
    parser = options(__doc__, rounds=5, models=MEASURED)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    settings = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    lines = [
        line
        for name in settings.models
        for line in rows(MEASURED[name], settings.batches, settings.rounds)
    ]
    head = ["network", "batch", "unfiltered", *(f"filtered, {way}" for way in FILTERED)]
    put(settings.out, "sparsity", {"": table(head, lines)})


if __name__ == "__main__":
    main()
