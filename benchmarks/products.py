"""Dense layers and 1×1 convolutions by the kernels that torch takes, and by oneDNN as the library does.

    python benchmarks/products.py --out docs/performance.md

Forward and adjoint of layers of real networks in float32, timed in turn on one thread and on two;
medians.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from harness.tables import options, put, say, table
from harness.timing import alone, interleaved, quartiles, ratios
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


def measured(threads: int, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Of each layer the milliseconds by torch's choice and by oneDNN, and their ratio."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    found = {}
    for name, (make, shape) in LAYERS.items():
        model, x = Alone(make()), torch.randn(shape)
        calls = {}
        for kernels in (False, True):
            lrp = LRPFx(model, "epsilon", optimize=Optimizations(kernels=kernels))
            lrp.attribute(x, 3)
            calls[str(kernels)] = partial(lrp.attribute, x, 3)
        torchs, ours = interleaved(calls, rounds).values()
        times = (1e3 * quartiles(each).median for each in (torchs, ours))
        found[name] = (*times, ratios(torchs, ours).median)
        say(f"{name}, {threads} threads: {found[name][-1]:.2f}")
    return found


def main() -> None:
    settings = options(__doc__, rounds=15).parse_args()
    one, two = (alone(measured, threads, settings.rounds) for threads in (1, 2))
    rows = [
        [name, f"{torchs:.2f}", f"{ours:.2f}", f"{ratio:.2f}", f"{two[name][-1]:.2f}"]
        for name, (torchs, ours, ratio) in one.items()
    ]
    head = ["", "BLAS, 1 thread, ms", "oneDNN", "ratio", "ratio, 2 threads"]
    put(settings.out, "products", {"": table(head, rows, "lrrrr")})


if __name__ == "__main__":
    main()
