"""What the library aims at, and what of that the file of results shows.

    python benchmarks/aims.py --out docs/performance.md

It measures nothing itself: run attributions.py, memory.py, growth.py and fixed_cost.py first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attributions import Cell
from growth import CURVES
from harness.networks import NETWORKS
from harness.results import Results, with_results
from harness.tables import put, shown, table
from harness.timing import Quartiles, ratios

Measure = Callable[[Results], Quartiles | None]
BATCH, THREADS = 8, (1, 2)
LARGE, SMALL = ("vgg16", "resnet50"), ("mobilenet_v2", "efficientnet_b0")


@dataclass(frozen=True)
class Aim:
    """A figure and its limit.

    Args:
        text: what is compared.
        limit: what the median should not pass.
        measures: the figure, from the results; one for each number of threads.
        at_least: whether the limit is a lower one.
    """

    text: str
    limit: float
    measures: tuple[Measure, ...]
    at_least: bool = False

    def row(self, results: Results) -> list[str]:
        found = [measure(results) for measure in self.measures]
        return [self.text, f"{'≥' if self.at_least else '≤'} {self.limit:.2f}"] + [
            shown(value) + self.verdict(value) for value in found
        ]

    def verdict(self, value: Quartiles | None) -> str:
        if value is None:
            return ""
        reached = value.median >= self.limit if self.at_least else value.median <= self.limit
        return ", reached" if reached else ", **not reached**"


def ratio(
    text: str, limit: float, name: str, other: str, *networks: str, at_least: bool = False
) -> list[Aim]:
    """The time of one contestant in units of another's, on several networks."""

    def measures(network: str) -> tuple[Measure, ...]:
        keys = [Cell(network, BATCH, threads).key for threads in THREADS]
        return tuple(lambda results, key=key: results.ratio(key, name, other) for key in keys)

    return [
        Aim(f"{text}, {NETWORKS[network].title}", limit, measures(network), at_least)
        for network in networks
    ]


def by_gradient(name: str, limit: float, *networks: str) -> list[Aim]:
    return ratio(f"`{name}` / gradient", limit, name, "gradient", *networks)


def by_peer(peer: str, name: str, limit: float, *networks: str) -> list[Aim]:
    return ratio(f"{peer} / `{name}`", limit, peer, name, *networks, at_least=True)


TIMES = [
    *by_gradient("epsilon", 1.10, *LARGE),
    *by_gradient("epsilon", 1.25, *SMALL, "vit_b_16"),
    *by_gradient("attn_lrp", 1.25, "vit_b_16"),
    *by_gradient("z_plus", 1.60, *LARGE),
    *by_gradient("epsilon_gamma", 1.60, *LARGE),
    *by_gradient("epsilon_gamma", 1.30, "mobilenet_v2"),
    *by_gradient("epsilon_gamma", 2.00, "efficientnet_b0"),
    *ratio(
        *("`epsilon_gamma` / `epsilon_plus`", 1.45, "epsilon_gamma", "epsilon_plus"),
        *(*LARGE, *SMALL),
    ),
    *by_gradient("epsilon-compiled", 0.85, *LARGE),
    *by_gradient("z_plus-compiled", 1.30, *LARGE),
    *by_peer("zennit-epsilon_plus", "epsilon_plus", 2.2, "vgg16"),
    *by_peer("zennit-epsilon_plus", "epsilon_plus", 2.5, "resnet50", "mobilenet_v2"),
    *by_peer("autolrp-epsilon", "epsilon", 2.0, *LARGE, "mobilenet_v2"),
    *by_peer("autolrp-epsilon_plus", "epsilon_plus", 2.0, *LARGE, "mobilenet_v2"),
    *by_peer("autolrp-attn_lrp", "attn_lrp", 1.25, "vit_b_16"),
    *by_peer("captum-epsilon", "epsilon", 1.7, "vgg16"),
    *ratio(
        "with top_k / without, `epsilon_plus`", 1.10, "epsilon_plus-top_k", "epsilon_plus", *LARGE
    ),
]
"""Measured with batch 8, for each number of threads."""


def memory(network: str, name: str) -> Measure:
    def measure(results: Results) -> Quartiles | None:
        used, base = (
            results.bytes(f"{network} batch={BATCH}", each) for each in (name, "gradient")
        )
        return Quartiles(*[used / base] * 3) if used and base else None

    return measure


def ten_targets(composite: str) -> Measure:
    def measure(results: Results) -> Quartiles | None:
        run, points = results.newest("growth", "targets", composite), CURVES["targets"].points
        seconds = run["seconds"][composite] if run else []
        return ratios(seconds[points.index(10)], seconds[points.index(1)]) if run else None

    return measure


def overhead(network: str, rule: str) -> Measure:
    key = f"overhead {network} {rule}"
    return lambda results: results.ratio(key, "attribute", "straight line", "fixed")


OTHERS = [
    *(
        Aim(
            f"peak memory of `{name}` / gradient, {NETWORKS[network].title}",
            limit,
            (memory(network, name),),
        )
        for name, limit in (("epsilon_plus", 1.0), ("epsilon_plus-recompute", 0.5))
        for network in LARGE
    ),
    Aim("ten targets / one, `epsilon`, ResNet-50", 6.0, (ten_targets("epsilon"),)),
    Aim("ten targets / one, `z_plus`, ResNet-50", 4.5, (ten_targets("z_plus"),)),
    Aim(
        "seconds to build, ResNet-50",
        1.0,
        (lambda results: results.seconds("build resnet50", "build", "fixed"),),
    ),
    *(
        Aim(
            f"`{rule}` / the same kernels in a straight line, {NETWORKS[network].title}",
            1.03,
            (overhead(network, rule),),
        )
        for network in LARGE
        for rule in ("epsilon", "z_plus")
    ),
]
"""Measured once."""


def tables(results: Results) -> Iterator[tuple[str, list[str]]]:
    head = ["ratio", "aim", *(f"{count} thread{'s' * (count > 1)}" for count in THREADS)]
    yield "times", table(head, [aim.row(results) for aim in TIMES])
    yield "others", table(["", "aim", "measured"], [aim.row(results) for aim in OTHERS])


def main() -> None:
    settings = with_results(__doc__).parse_args()
    put(settings.out, "aims", dict(tables(Results.read(settings.results))))


if __name__ == "__main__":
    main()
