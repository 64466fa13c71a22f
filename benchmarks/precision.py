"""The relevance pass in bfloat16: its error against float64, and its time against float32.

    python benchmarks/precision.py

The bundled photographs through EfficientNet-Lite0 (real weights), and through networks with random ones.
Errors are of max |R|; times are medians of ratios of runs in turn, on one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.cli.commands import find_images, read_photograph
from lrp_fx.zoo import load

PHOTOGRAPHS = Path(__file__).parent.parent / "examples" / "photographs"
COMPOSITES = ("epsilon", "epsilon_plus")
ROUNDS = 5


def networks() -> Iterator[tuple[str, nn.Module, Tensor]]:
    loaded = load("efficientnet-lite0")
    files = find_images([PHOTOGRAPHS])
    x = torch.stack([loaded.preprocess(read_photograph(file)) for file in files])
    yield "EfficientNet-Lite0", loaded.model.eval(), x
    for name in ("vgg16", "resnet50"):
        model = torchvision.models.get_model(name, weights=None).train()
        with torch.no_grad():
            model(torch.randn(4, 3, 224, 224))  # statistics for the batch norms
        yield name, model.eval(), x


def errors(mine: Tensor, exact: Tensor) -> str:
    distance = (mine - exact).abs().flatten(1).amax(1) / exact.abs().flatten(1).amax(1)
    likeness = torch.cosine_similarity(mine.flatten(1).double(), exact.flatten(1), dim=1)
    return f"{float(distance.max()):.1e} of max |R|, cosine {float(likeness.min()):.5f}"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, model, x in networks():
        target = model(x).argmax(1)
        for composite in COMPOSITES:
            exact = LRPFx(model.double(), composite).attribute(x.double(), target)
            model.float()
            full = LRPFx(model, composite)
            brief = LRPFx(model, composite, precision=torch.bfloat16)
            print(f"{name}, {composite}")
            print(f"  float32:  {errors(full.attribute(x, target), exact)}")
            print(f"  bfloat16: {errors(brief.attribute(x, target), exact)}")
            ratios = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                full.attribute(x, target)
                middle = time.perf_counter()
                brief.attribute(x, target)
                ratios.append((time.perf_counter() - middle) / (middle - began))
            print(f"  time: {statistics.median(ratios):.2f} × float32", flush=True)


if __name__ == "__main__":
    main()
