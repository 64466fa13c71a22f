"""What the library aims at, and what of that the figures show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cells import Cell
from growth import CURVES
from networks import NETWORKS
from results import Results
from timing import Quartiles, quartiles, ratios

Measure = Callable[[Results, int], Quartiles | None]
BATCH = 8


@dataclass(frozen=True)
class Aim:
    """A ratio and its limit.

    Args:
        text: what is compared.
        limit: what the median should not pass.
        measure: from the results and a number of threads to the ratio.
        at_least: whether the limit is a lower one.
    """

    text: str
    limit: float
    measure: Measure
    at_least: bool = False

    def reached(self, median: float) -> bool:
        return median >= self.limit if self.at_least else median <= self.limit


def of_time(network: str, name: str, other: str) -> Measure:
    def measure(results: Results, threads: int) -> Quartiles | None:
        return results.ratio(Cell(network, BATCH, threads).key, name, other)

    return measure


def of_memory(network: str, name: str) -> Measure:
    def measure(results: Results, threads: int) -> Quartiles | None:
        mine, other = (
            results.bytes(f"{network} batch={BATCH}", each) for each in (name, "gradient")
        )
        return None if mine is None or not other else Quartiles(*[mine / other] * 3)

    return measure


def of_targets(composite: str, count: int) -> Measure:
    """The time of so many targets in units of one."""

    def measure(results: Results, threads: int) -> Quartiles | None:
        run, points = results.newest("growth", "targets", composite), CURVES["targets"].points
        if run is None or count not in points:
            return None
        seconds = run["seconds"][composite]
        return ratios(seconds[points.index(count)], seconds[points.index(1)])

    return measure


def of_build(network: str) -> Measure:
    def measure(results: Results, threads: int) -> Quartiles | None:
        run = results.newest("fixed", f"build {network}", "build")
        return quartiles(run["seconds"]["build"]) if run else None

    return measure


def of_overhead(network: str, rule: str, other: str) -> Measure:
    def measure(results: Results, threads: int) -> Quartiles | None:
        run = results.newest("fixed", f"overhead {network} {rule}", other)
        return ratios(run["seconds"]["attribute"], run["seconds"][other]) if run else None

    return measure


def title(network: str) -> str:
    return NETWORKS[network].title


def by_gradient(name: str, limit: float, *networks: str) -> list[Aim]:
    return [
        Aim(f"`{name}` / gradient, {title(network)}", limit, of_time(network, name, "gradient"))
        for network in networks
    ]


def by_peer(peer: str, name: str, limit: float, *networks: str) -> list[Aim]:
    return [
        Aim(f"{peer} / `{name}`, {title(network)}", limit, of_time(network, peer, name), True)
        for network in networks
    ]


LARGE, SMALL = ("vgg16", "resnet50"), ("mobilenet_v2", "efficientnet_b0")
TIMES = [
    *by_gradient("epsilon", 1.10, *LARGE),
    *by_gradient("epsilon", 1.25, *SMALL, "vit_b_16"),
    *by_gradient("attn_lrp", 1.25, "vit_b_16"),
    *by_gradient("z_plus", 1.60, *LARGE),
    *by_gradient("epsilon-compiled", 0.85, *LARGE),
    *by_gradient("z_plus-compiled", 1.30, *LARGE),
    *by_peer("zennit-epsilon_plus", "epsilon_plus", 2.2, "vgg16"),
    *by_peer("zennit-epsilon_plus", "epsilon_plus", 2.5, "resnet50", "mobilenet_v2"),
    *by_peer("autolrp-epsilon", "epsilon", 2.0, *LARGE, "mobilenet_v2"),
    *by_peer("autolrp-epsilon_plus", "epsilon_plus", 2.0, *LARGE, "mobilenet_v2"),
    *by_peer("autolrp-attn_lrp", "attn_lrp", 1.25, "vit_b_16"),
    *by_peer("captum-epsilon", "epsilon", 1.7, "vgg16"),
    *(
        Aim(
            f"with top_k / without, `epsilon_plus`, {title(network)}",
            1.10,
            of_time(network, "epsilon_plus-top_k", "epsilon_plus"),
        )
        for network in LARGE
    ),
]
"""Measured with batch 8, for each number of threads."""

OTHERS = [
    *(
        Aim(
            f"peak memory of `{name}` / gradient, {title(network)}",
            limit,
            of_memory(network, name),
        )
        for name, limit in (("epsilon_plus", 1.0), ("epsilon_plus-recompute", 0.5))
        for network in LARGE
    ),
    Aim("ten targets / one, `epsilon`, ResNet-50", 6.0, of_targets("epsilon", 10)),
    Aim("ten targets / one, `z_plus`, ResNet-50", 4.5, of_targets("z_plus", 10)),
    Aim("seconds to build, ResNet-50", 1.0, of_build("resnet50")),
    *(
        Aim(
            f"`{rule}` / the same kernels in a straight line, {title(network)}",
            1.03,
            of_overhead(network, rule, "straight line"),
        )
        for network in LARGE
        for rule in ("epsilon", "z_plus")
    ),
]
"""Measured once."""
