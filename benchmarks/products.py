"""Dense layers and 1×1 convolutions by the kernels that torch takes, and by oneDNN as the library does.

    python benchmarks/products.py --threads 1

Forward and adjoint of layers of real networks in float32, timed in turn; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, Optimizations

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear 768→3072, 8 × 197 tokens (ViT-B/16)": (lambda: nn.Linear(768, 3072), (8, 197, 768)),
    "linear 768→768, 128 tokens (BERT)": (lambda: nn.Linear(768, 768), (1, 128, 768)),
    "linear 25088→4096, 8 samples (VGG-16)": (lambda: nn.Linear(25088, 4096), (8, 25088)),
    "linear 4096→4096, 1 sample (VGG-16)": (lambda: nn.Linear(4096, 4096), (1, 4096)),
    "conv 1×1, 64→256 at 56×56, 8 samples": (lambda: nn.Conv2d(64, 256, 1), (8, 64, 56, 56)),
    "conv 1×1, 1024→256 at 14×14, 8 samples": (lambda: nn.Conv2d(1024, 256, 1), (8, 1024, 14, 14)),
    "conv 1×1, 2048→512 at 7×7, 1 sample": (lambda: nn.Conv2d(2048, 512, 1), (1, 2048, 7, 7)),
}
"""In ResNet-50 where nothing else is said."""


class Alone(nn.Module):
    """A layer, and the mean over all but its features: no work beside the layer's."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        if y.dim() == 2:
            return y
        return y.mean((2, 3)) if y.dim() == 4 else y.mean(1)


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print("| ε on | torch's choice, ms | oneDNN, ms | ratio |\n|---|---:|---:|---:|")
    for name, (make, shape) in LAYERS.items():
        model, x = Alone(make()), torch.randn(shape)
        ways = [
            LRPFx(model, "epsilon", optimize=Optimizations(kernels=kernels))
            for kernels in (False, True)
        ]
        found: list[list[float]] = [[], []]
        for lrp in ways:
            lrp.attribute(x, 3)
        for _ in range(options.repeats):
            for times, lrp in zip(found, ways, strict=True):
                times.append(seconds(partial(lrp.attribute, x, 3)))
        torchs, ours = (1e3 * statistics.median(times) for times in found)
        ratio = statistics.median(a / b for a, b in zip(*found, strict=True))
        print(f"| {name} | {torchs:.2f} | {ours:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
