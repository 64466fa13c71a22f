"""What it costs, in each call, to see whether a reading of the model still holds.

    python benchmarks/signature.py

That is the signature of model and arguments, and the traces and memory of the parameters. It is shown
in milliseconds and as a share of a whole attribution in the same round, on one thread.
"""

from __future__ import annotations

from functools import partial

import torch
from harness.networks import NETWORKS
from harness.timing import interleaved, quartiles, ratios

from lrp_fx import LRPFx

ROUNDS = 15


def main() -> None:
    torch.set_num_threads(1)
    network = NETWORKS["resnet50"]
    lrp, x = LRPFx(network.make(), "epsilon_plus"), network.inputs(1)
    attribute = partial(lrp.attribute, x, 1)
    attribute()
    calls = {"check": lambda: lrp._program(x).follow_model(), "attribute": attribute}
    seconds = interleaved(calls, ROUNDS)
    milliseconds = 1e3 * quartiles(seconds["check"]).median
    share = ratios(seconds["check"], seconds["attribute"]).median
    print(f"{network.title}, batch 1: {milliseconds:.2f} ms, {share:.2%} of an attribution")


if __name__ == "__main__":
    main()
