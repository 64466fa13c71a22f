"""The relevance pass in bfloat16: its error against float64, and its time against float32.

    python benchmarks/precision.py --out docs/performance.md

The photographs of the examples, through EfficientNet-Lite0 with its trained weights, and through networks
with random ones. Errors are of max |R|; times are medians of ratios within each round, on one thread.
"""

from __future__ import annotations

from functools import partial

import torch
from harness.networks import NETWORKS, TRAINED, Network, deviations, examples, similarity
from harness.tables import options, put, say, table
from harness.timing import interleaved, ratios

from lrp_fx import LRPFx, Optimizations

MEASURED = {each.name: each for each in (TRAINED, NETWORKS["vgg16"], NETWORKS["resnet50"])}
COMPOSITES = ("epsilon", "epsilon_plus")


def row(network: Network, composite: str, rounds: int) -> list[str]:
    model, x = network.make(), examples()
    with torch.no_grad():
        target = model(x).argmax(1)
    exact = LRPFx(model.double(), composite).attribute(x.double(), target)
    model.float()
    ways = {
        "float32": LRPFx(model, composite),
        "bfloat16": LRPFx(model, composite, optimize=Optimizations(precision=torch.bfloat16)),
    }
    maps = {name: lrp.attribute(x, target) for name, lrp in ways.items()}
    calls = {name: partial(lrp.attribute, x, target) for name, lrp in ways.items()}
    seconds = interleaved(calls, rounds)
    for name, found in maps.items():
        cosine = similarity(found, exact)
        say(f"{network.name}, {composite}, {name}: cosine {cosine:.5f} with float64")
    return [
        f"{network.title}, `{composite}`",
        *(f"{max(deviations(found, exact)):.0e}" for found in maps.values()),
        f"{ratios(seconds['bfloat16'], seconds['float32']).median:.2f}",
    ]


def main() -> None:
    settings = options(__doc__, rounds=5, models=MEASURED).parse_args()
    torch.set_num_threads(1)
    rows = [
        row(MEASURED[name], composite, settings.rounds)
        for name in settings.models
        for composite in COMPOSITES
    ]
    head = ["", "float32", "bfloat16", "time, × float32"]
    put(settings.out, "precision", {"": table(head, rows, "lrrr")})


if __name__ == "__main__":
    main()
