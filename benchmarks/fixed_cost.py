"""The cost that does not depend on the arithmetic: to build the LRP graph, and to run it as a graph.

    python benchmarks/fixed_cost.py --out docs/performance.md

The first table has the seconds to build. In the second, ``attribute`` is compared with the same kernels
in a straight line, which are replayed without any decision, and on VGG-16 with a loop written by hand.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
from harness.by_hand import HandWrittenVGG
from harness.contestants import TARGET, quietly
from harness.networks import NETWORKS, deviations
from harness.results import Results, Run, add_effort, measure, with_results
from harness.straight_line import straight_line
from harness.tables import put, say, shown, table
from harness.timing import environment, interleaved, quartiles, ratios, timed
from torch import Tensor
from torchvision.models import VGG

from lrp_fx import LRPFx

AGREEMENT = 1e-8  # of max |R|, in float64
RULES = ("epsilon", "z_plus", "epsilon_plus")
STEPS = {
    "build": "to read the model and build the LRP graph",
    "first": "first attribution",
    "later": "a later one",
}


def build(name: str, repeats: int, threads: int) -> Run:
    """Seconds to make an LRP graph, of the first attribution, and of a later one; batch 1."""
    quietly()
    torch.set_num_threads(threads)
    network = NETWORKS[name]
    model, x = network.make(), network.inputs(1)
    example = (x,) if network.kind == "text" else ()  # without one a text model is not read
    found: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(repeats):
        lrp = LRPFx(model)
        found["build"].append(timed(partial(lrp.plan, *example)))
        for step in ("first", "later"):
            found[step].append(timed(partial(lrp.attribute, x, target=TARGET)))
    return {"environment": environment(), "seconds": found}


def overhead(name: str, rule: str, seconds: float, rounds: tuple[int, int], threads: int) -> Run:
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
    calls = {
        "attribute": partial(attribute, x),
        "straight line": partial(torch.no_grad()(line.forward), x),
    }
    if isinstance(model, VGG) and rule in ("epsilon", "z_plus"):
        check_by_hand(model, rule, x)
        calls["by hand"] = partial(HandWrittenVGG(model, rule), x, TARGET)
    return {
        "environment": environment(),
        "seconds": interleaved(calls, rounds, seconds),
        "kernels": sum(node.op == "call_function" for node in line.graph.nodes),
    }


def check_by_hand(model: VGG, rule: str, x: Tensor) -> None:
    """In double precision, where sums in another order do not matter."""
    model, x = copy.deepcopy(model).double(), x.double()
    expected = LRPFx(model, rule).attribute(x, target=TARGET)
    error = max(deviations(HandWrittenVGG(model, rule)(x, TARGET), expected))
    if not error <= AGREEMENT:
        raise SystemExit(f"{rule} by hand differs by {error:.1e} of max |R|")


def measure_all(settings: argparse.Namespace) -> None:
    path, threads = settings.results, settings.threads
    for name in settings.models:
        found = measure(path, "fixed", f"build {name}", build, name, settings.repeats, threads)
        for step, times in found["seconds"].items() if found else ():
            say(f"{name}: {step} {quartiles(times).median:.2f} s")
    for name, rule in product(settings.models, RULES):
        if NETWORKS[name].kind == "convolutional":
            arguments = name, rule, settings.seconds, settings.rounds, threads
            found = measure(path, "fixed", f"overhead {name} {rule}", overhead, *arguments)
            for other in list(found["seconds"])[1:] if found else ():
                to = ratios(found["seconds"]["attribute"], found["seconds"][other])
                say(f"{name} {rule}: attribute is {shown(to, 3)} × {other}")


def tables(results: Results) -> Iterator[tuple[str, list[str]]]:
    keys = [key.split() for key in results.cells.get("fixed", {})]
    rows = []
    for name in (key[1] for key in keys if key[0] == "build"):
        seconds = results.of("fixed", f"build {name}")[-1]["seconds"]
        rows.append([NETWORKS[name].title, *(shown(quartiles(seconds[step])) for step in STEPS)])
    yield "seconds", table(["", *STEPS.values()], rows)
    rows = []
    for _, name, rule in (key for key in keys if key[0] == "overhead"):
        key = f"overhead {name} {rule}"
        kernels = str(results.of("fixed", key)[-1]["kernels"])
        others = [
            shown(results.ratio(key, "attribute", other, "fixed"), 3)
            for other in ("straight line", "by hand")
        ]
        rows.append([NETWORKS[name].title, f"`{rule}`", kernels, *others])
    yield "overhead", table(["", "", "kernels", "/ straight line", "/ by hand"], rows)


def main() -> None:
    parser = with_results(__doc__)
    small = ["vgg16", "resnet50", "mobilenet_v2"]
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=small)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="of the building")
    add_effort(parser, seconds=15)
    settings = parser.parse_args()
    if not settings.only_tables:
        measure_all(settings)
    put(settings.out, "fixed_cost", dict(tables(Results.read(settings.results))))


if __name__ == "__main__":
    main()
