"""What ten targets cost, in units of one: the forward pass and the denominators are shared.

    python benchmarks/many_targets.py --out results.json

One thread, batch 1, random weights; the two are timed in turn, and each figure is a median of ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision

from lrp_fx import LRPFx

MODELS = ("vgg16", "resnet50")
COMPOSITES = ("epsilon", "z_plus", "epsilon_plus")
TARGETS = 10
AGREEMENT = 1e-4
"""Of max |R|, in float32: products of one row and of several are summed in different orders."""


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def ratios(name: str, composite: str, repeats: int) -> list[float]:
    """Ten targets by one target, as often as asked."""
    model = torchvision.models.get_model(name, weights=None).eval()
    lrp, x = LRPFx(model, composite), torch.randn(1, 3, 224, 224)
    one, many = lrp.attribute(x, 3), lrp.attribute_many(x, range(TARGETS))
    assert float((many[3] - one).abs().max()) <= AGREEMENT * float(one.abs().max())
    found = []
    for _ in range(repeats):
        alone = seconds(lambda: lrp.attribute(x, 3))
        found.append(seconds(lambda: lrp.attribute_many(x, range(TARGETS))) / alone)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file of all ratios")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {}
    for name in MODELS:
        for composite in COMPOSITES:
            found = results[f"{name} {composite}"] = ratios(name, composite, options.repeats)
            spread = f"{min(found):.2f} to {max(found):.2f}"
            print(f"{name:10} {composite:14} {statistics.median(found):.2f} ({spread})", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
