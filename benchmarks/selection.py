"""How the largest 5 % of each sample are kept: by ``topk``, and as the library does on the CPU.

    python benchmarks/selection.py --out docs/performance.md

Four samples of 3.2 million values as a rectified network has them, half of them zero, on one thread. Each
figure is a median; both ways must keep the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from harness.tables import options, put, table
from harness.timing import interleaved, quartiles, ratios
from torch import Tensor

from lrp_fx import relevance_filter

SAMPLES, VALUES, TOP_K = 4, 64 * 224 * 224, 0.05


def by_topk(r: Tensor) -> Tensor:
    kept = r.topk(int(TOP_K * r.shape[1]), dim=1)
    return torch.zeros_like(r).scatter(1, kept.indices, kept.values)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "`topk` + `scatter`, as in the blog post": by_topk,
    "a bound from a sample, then partition above it (the library, on CPU)": partial(
        relevance_filter, top_k=TOP_K
    ),
}
PASS = "one elementwise pass"


def main() -> None:
    settings = options(__doc__, rounds=9).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    r = torch.randn(SAMPLES, VALUES).relu_() * torch.rand(SAMPLES, VALUES) ** 3
    one, other = (way(r) for way in WAYS.values())
    assert torch.equal(one, other)
    calls = {name: partial(way, r) for name, way in WAYS.items()}
    seconds = interleaved({**calls, PASS: lambda: r * 2}, settings.rounds)
    rows = [
        [
            name,
            f"{1e3 * quartiles(seconds[name]).median:.0f}",
            f"{ratios(seconds[name], seconds[PASS]).median:.1f}",
        ]
        for name in WAYS
    ]
    put(settings.out, "selection", {"": table(["", "ms", f"× {PASS}"], rows, "lrr")})


if __name__ == "__main__":
    main()
