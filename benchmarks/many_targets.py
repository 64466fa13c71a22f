"""What ten targets cost, in units of one: the forward pass and the denominators are shared.

    python benchmarks/many_targets.py --out docs/guide.md

One thread, batch 1, random weights; medians of ratios within each round.
"""

from __future__ import annotations

from functools import partial

import torch
from harness.networks import NETWORKS, deviations
from harness.tables import options, put, say, shown, table
from harness.timing import Quartiles, interleaved, ratios

from lrp_fx import LRPFx

MODELS, COMPOSITES = ("vgg16", "resnet50"), ("epsilon", "z_plus")
TARGET, TARGETS = 3, 10
AGREEMENT = 1e-4
"""Of max |R|, in float32: products of one row and of several are summed in different orders."""


def ratio(name: str, composite: str, rounds: int) -> Quartiles:
    """The time of ten targets in units of one."""
    model, x = NETWORKS[name].make(), NETWORKS[name].inputs(1)
    lrp = LRPFx(model, composite)
    one, many = lrp.attribute(x, TARGET), lrp.attribute_many(x, range(TARGETS))
    assert max(deviations(many[TARGET], one)) <= AGREEMENT
    calls = {
        "one": partial(lrp.attribute, x, TARGET),
        "ten": partial(lrp.attribute_many, x, range(TARGETS)),
    }
    seconds = interleaved(calls, rounds)
    found = ratios(seconds["ten"], seconds["one"])
    say(f"{name} {composite}: {shown(found)}")
    return found


def main() -> None:
    settings = options(__doc__, rounds=3, models=MODELS).parse_args()
    torch.set_num_threads(1)
    rows = [
        [
            NETWORKS[name].title,
            *(f"{ratio(name, each, settings.rounds).median:.1f}" for each in COMPOSITES),
        ]
        for name in settings.models
    ]
    head = ["", *(f"`{each}`" for each in COMPOSITES)]
    put(settings.out, "many_targets", {"": table(head, rows, "lrr")})


if __name__ == "__main__":
    main()
