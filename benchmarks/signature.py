"""What it costs, in each call, to see whether a reading of the model still holds.

    python benchmarks/signature.py

That is the signature of model and arguments, and the traces and memory of the parameters, on one
thread. The share is the median of the ratios to a whole attribution, each measured right after it.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import torch
import torchvision

from lrp_fx import LRPFx

ROUNDS, REPEATS = 15, 20


def main() -> None:
    torch.set_num_threads(1)
    model = torchvision.models.resnet50().eval()
    x = torch.randn(1, 3, 224, 224)
    lrp = LRPFx(model, "epsilon_plus")
    lrp.attribute(x, 1)
    costs, shares = [], []
    for _ in range(ROUNDS):
        began = perf_counter()
        lrp.attribute(x, 1)
        whole = perf_counter() - began
        began = perf_counter()
        for _ in range(REPEATS):
            lrp._program(x).follow_model()
        check = (perf_counter() - began) / REPEATS
        costs.append(check)
        shares.append(check / whole)
    print(
        f"ResNet-50, batch 1: {1e3 * median(costs):.2f} ms, {median(shares):.2%} of an attribution"
    )


if __name__ == "__main__":
    main()
