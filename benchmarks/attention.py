"""Time and memory of AttnLRP through one layer of attention, over the number of tokens.

    python benchmarks/attention.py --out docs/performance.md

One layer with eight heads and 512 channels, one sample, one thread: the map in blocks, the map with
all matrices kept, and the input gradient with torch's fused attention. Times are of the processor, as
multiples of the gradient's in the same round; memory is what torch allocates at the peak of a call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from harness.memory import allocated
from harness.tables import options, put, table
from harness.timing import input_gradient, interleaved, quartiles, ratios, timed
from torch import Tensor, nn

from lrp_fx import LRPFx, Optimizations

TOKENS = (197, 512, 2048, 8192)
KEPT = 2048
"""With more tokens, the matrices of all pairs are not kept: 2 GB each for 8192."""
CHANNELS, HEADS = 512, 8


class Layer(nn.Module):
    """Tokens (N, T, C) → scores (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(CHANNELS, CHANNELS) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        read = F.scaled_dot_product_attention(q, k, v)
        scores: Tensor = self.out(read.transpose(1, 2).flatten(2)).mean(1)
        return scores


def measured(rounds: int) -> Iterator[list[str]]:
    torch.manual_seed(0)
    model = Layer().eval().requires_grad_(False)
    for count in TOKENS:
        x = torch.randn(1, count, CHANNELS)
        calls = {
            "map": partial(LRPFx(model).attribute, x, target=1),
            "gradient": partial(input_gradient, model, x),
        }
        if count <= KEPT:
            kept = LRPFx(model, optimize=Optimizations(blocks=False))
            calls["kept"] = partial(kept.attribute, x, target=1)
        for call in calls.values():
            call()
        memory = {name: allocated(call)[0] for name, call in calls.items()}
        found = interleaved(calls, rounds, measure=partial(timed, clock=time.process_time))
        row = [str(count), f"{quartiles(found['gradient']).median:.3f}"]
        for name in ("map", "kept"):
            if name not in calls:
                row += ["", ""]
                continue
            low, median, high = ratios(found[name], found["gradient"])
            row += [f"{median:.2f} ({low:.2f} to {high:.2f})"]
            row += [f"{memory[name] / memory['gradient']:.2f}"]
        yield [*row, f"{memory['gradient'] / 2**20:.0f}"]


def main() -> None:
    settings = options(__doc__, rounds=5).parse_args()
    torch.set_num_threads(1)
    head = [
        "tokens",
        "gradient, s",
        "map, × gradient",
        "memory",
        "kept whole, × gradient",
        "memory",
    ]
    rows = list(measured(settings.rounds))
    put(settings.out, "attention", {"attention": table([*head, "gradient, MiB"], rows)})


if __name__ == "__main__":
    main()
