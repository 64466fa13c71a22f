"""Relevance propagation directly and by gradients, timed side by side.

    python benchmarks/direct_vs_gradient.py --out docs/direct_vs_gradient.md

Kai Fischer's blog post of 2021 found the gradient trick about five times slower than the direct way on
one linear layer. This script repeats the experiment on linear and convolution layers and on whole
networks, and separates what the factor consists of. Three ways to the same z⁺ relevance are compared:

* ``backward``: ``.backward()`` as in the post, which also computes the gradients of the weights;
* ``inputs``: the same formula with ``torch.autograd.grad`` on the input only;
* ``direct``: the analytic adjoint, without autograd.
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from harness.by_hand import adjoint
from harness.figures import bars
from harness.networks import NETWORKS, deviations
from harness.tables import options, put, say, table
from harness.timing import Quartiles, interleaved, keep_memory, quartiles, ratios
from torch import Tensor, nn
from torchvision.models import VGG

from lrp_fx import LRPFx

EPS = 1e-5  # the post's stabiliser
WAYS = ("backward", "inputs", "direct")
AGREEMENT = 1e-3  # of max |R|, in float32

Way = Callable[[], Tensor]


# --- the three ways through one layer -----------------------------------------------------------


def by_backward(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    """As in the post; the gradients of the weights are computed, added up, and never read."""
    a = a.detach().requires_grad_()
    z = layer(a) + EPS
    s = (r / z).detach()
    (z * s).sum().backward()
    assert a.grad is not None
    return (a * a.grad).detach()


def by_inputs(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    """The same formula, asking autograd for the gradient of the input only."""
    a = a.detach().requires_grad_()
    z = layer(a) + EPS
    s = (r / z).detach()
    (c,) = torch.autograd.grad((z * s).sum(), a)
    return (a * c).detach()


@torch.no_grad()
def directly(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    """The analytic adjoint."""
    return a * adjoint(layer, r / (layer(a) + EPS), a, layer.weight)


def positive_part(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer's z+ twin: positive weights, zero bias, both still parameters as in the post."""
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.clamp_(min=0)
        if twin.bias is not None:
            twin.bias.zero_()
    return twin


class PostLoop:
    """z+ through a VGG in the post's style, layer by layer over a flat list.

    Convolutions and pooling go by ``.backward()``, linear layers directly, as the post's repository
    does; max pooling is taken as average pooling and the image is replaced by ones, as there.
    """

    def __init__(self, model: VGG) -> None:
        self.layers = [*model.features, model.avgpool, nn.Flatten(1), *model.classifier]
        self.twins = [self._twin(layer) for layer in self.layers]

    @staticmethod
    def _twin(layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            return positive_part(layer)
        return nn.AvgPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer

    def __call__(self, x: Tensor) -> Tensor:
        activations = [torch.ones_like(x)]
        with torch.no_grad():
            for layer in self.layers:
                x = layer(x)
                activations.append(x)
            r = activations.pop().softmax(-1)
        for twin, a in zip(reversed(self.twins), reversed(activations), strict=True):
            if isinstance(twin, nn.Linear):
                r = directly(twin, a, r)
            elif isinstance(twin, nn.Flatten):
                r = r.reshape(a.shape)
            elif isinstance(twin, nn.Conv2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
                r = by_backward(twin, a, r)
        return r


# --- what is measured ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One row: a name and the ways through it; a way that does not exist is left out."""

    group: str  # "linear", "convolution" or "network"
    name: str
    ways: dict[str, Way]
    alike: tuple[str, ...] = WAYS  # the ways that must give the same relevance


def layer_case(group: str, name: str, layer: nn.Module, a: Tensor, r: Tensor) -> Case:
    functions = dict(zip(WAYS, (by_backward, by_inputs, directly), strict=True))
    return Case(group, name, {way: partial(each, layer, a, r) for way, each in functions.items()})


def linear_cases(batches: Sequence[int], device: torch.device) -> Iterable[Case]:
    layer = positive_part(nn.Linear(512, 256)).to(device)
    for batch in batches:
        a, r = torch.rand(batch, 512, device=device), torch.rand(batch, 256, device=device)
        yield layer_case("linear", f"linear 512→256, batch {batch}", layer, a, r)


def conv_cases(batch: int, device: torch.device) -> Iterable[Case]:
    shapes = {
        "conv 3×3, 64→64 at 56×56": nn.Conv2d(64, 64, 3, padding=1),
        "conv 1×1, 256→64 at 56×56": nn.Conv2d(256, 64, 1),
        "conv 3×3 stride 2, 128→128 at 56×56": nn.Conv2d(128, 128, 3, stride=2, padding=1),
        "depthwise conv 3×3, 144 at 56×56": nn.Conv2d(144, 144, 3, padding=1, groups=144),
    }
    for name, conv in shapes.items():
        layer = positive_part(conv).to(device)
        a = torch.rand(batch, conv.in_channels, 56, 56, device=device)
        r = torch.rand_like(layer(a).detach())
        yield layer_case("convolution", name, layer, a, r)


def network_cases(batch: int, device: torch.device) -> Iterable[Case]:
    for name in ("vgg16", "resnet50"):
        network = NETWORKS[name]
        model = network.make().requires_grad_(True).to(device)  # as in the post
        x = network.inputs(batch).to(device)
        ways: dict[str, Way] = {}
        if isinstance(model, VGG):
            ways["backward"] = partial(PostLoop(model), x)
        for way, engine in (("inputs", "gradient"), ("direct", "direct")):
            lrp = LRPFx(model, "z_plus", propagation=engine)
            ways[way] = partial(lrp.attribute, x, target=0)
        yield Case("network", network.title, ways, alike=("inputs", "direct"))


# --- measuring ----------------------------------------------------------------------------------


@dataclass
class Result:
    """Seconds per call of each way, one value per round."""

    group: str
    name: str
    seconds: dict[str, list[float]]

    def time(self, way: str) -> Quartiles | None:
        return quartiles(self.seconds[way]) if way in self.seconds else None

    def ratio(self, way: str) -> Quartiles | None:
        """Time as a multiple of the direct way's in the same round."""
        if way not in self.seconds:
            return None
        return ratios(self.seconds[way], self.seconds["direct"])


def measure(case: Case, rounds: int, block: float) -> Result:
    """The ways in turn. They must give the same relevance, otherwise their times compare nothing."""
    maps = {way: call() for way, call in case.ways.items()}
    for way in case.alike:
        error = max(deviations(maps[way], maps["direct"]))
        if not error <= AGREEMENT:
            raise SystemExit(f"{case.name}: {way} and direct differ by {error:.1e} of max |R|")
    result = Result(case.group, case.name, interleaved(case.ways, rounds, block=block))
    times = (f"{way} {spread(result.time(way), duration)}" for way in result.seconds)
    say(f"{case.name}: {', '.join(times)}")
    return result


# --- tables and figure --------------------------------------------------------------------------


def duration(seconds: float) -> str:
    if seconds < 0:
        return "−" + duration(-seconds)
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def spread(value: Quartiles | None, show: Callable[[float], str]) -> str:
    if value is None:
        return "–"
    return f"{show(value.median)} ({show(value.low)} to {show(value.high)})"


def times(results: Sequence[Result]) -> list[str]:
    head = ["", "`.backward()`", "`autograd.grad`", "direct"]
    rows = [
        [
            result.name,
            *(spread(result.time(way), duration) for way in WAYS),
            *(spread(result.ratio(way), "{:.2f}".format) for way in WAYS[:2]),
        ]
        for result in results
    ]
    return table([*head, "`.backward()` / direct", "`autograd.grad` / direct"], rows)


def shares(results: Sequence[Result]) -> list[str]:
    """How the median time of ``.backward()`` on single layers divides."""
    rows = []
    for result in (result for result in results if result.group != "network"):
        backward, inputs, direct = (statistics.median(result.seconds[way]) for way in WAYS)
        parts = (direct, inputs - direct, backward - inputs)
        rows.append([result.name, *(f"{p / backward:.0%} ({duration(p)})" for p in parts)])
    head = ["of the time of `.backward()`", "the direct way", "graph, engine, `(z * s).sum()`"]
    return table([*head, "weight gradients"], rows)


def draw(results: Sequence[Result], path: Path) -> None:
    """Horizontal bars: time as a multiple of the direct way, with quartiles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.5 * len(results) + 1.2), layout="constrained")
    axes = figure.subplots()
    end = 1.0
    for way, label, offset, color in (
        ("backward", ".backward()", -0.19, "#c44e52"),
        ("inputs", "autograd.grad", 0.19, "#dd8452"),
    ):
        found = [(row + offset, result.ratio(way)) for row, result in enumerate(results)]
        rows = [(place, ratio) for place, ratio in found if ratio is not None]
        values = [ratio for _, ratio in rows]
        bars(axes, [place for place, _ in rows], values, color, 0.36, label, size=8)
        end = max([end, *(ratio.high for ratio in values)])
    axes.axvline(1, color="#4c72b0", linewidth=1.5)
    axes.set_xlim(0, 1.12 * end)
    axes.set_yticks(range(len(results)), [result.name for result in results], fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time as a multiple of the direct way (line: 1)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    figure.legend(fontsize=8, frameon=False, loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", choices=("all", "layers", "networks"), default="all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--batch", type=int, default=1, help="for convolutions and networks")
    parser.add_argument("--linear-batches", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--rounds", type=int, default=31, help="for layers")
    parser.add_argument("--network-rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the seconds of every round here")
    settings = parser.parse_args()
    keep_memory()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    device = torch.device(settings.device)
    results: list[Result] = []
    if settings.only != "networks":
        cases = [
            *linear_cases(sorted(settings.linear_batches), device),
            *conv_cases(settings.batch, device),
        ]
        results += [measure(case, settings.rounds, block=0.01) for case in cases]
    if settings.only != "layers":
        for case in network_cases(settings.batch, device):
            results.append(measure(case, settings.network_rounds, block=0.0))
    tables = {"times": times(results)}
    if settings.only != "networks":
        tables["shares"] = shares(results)
    put(settings.out, "direct_vs_gradient", tables)
    if settings.out is not None:
        draw(results, settings.out.with_suffix(".png"))
    if settings.json is not None:
        settings.json.write_text(json.dumps(list(map(asdict, results)), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
