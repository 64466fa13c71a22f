"""Relevance propagation directly and by gradients, timed side by side.

Kai Fischer's blog post of 2021 (``POST`` below) found the gradient trick about five times slower
than the direct way on one linear layer. This script repeats the experiment on linear and
convolution layers and on whole networks, separates what the factor consists of, and writes a page
and a figure:

    python benchmarks/direct_vs_gradient.py --out docs/

Three ways to the same z+ relevance are compared:

* ``backward``: ``.backward()`` as in the post, which also computes the gradients of the weights;
* ``inputs``: the same formula with ``torch.autograd.grad`` on the input only;
* ``direct``: the analytic adjoint, without autograd.

All sentences of the page are chosen from the measured figures.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

EPS = 1e-5  # the post's stabiliser
WAYS = ("backward", "inputs", "direct")
TITLES = {"backward": "`.backward()`", "inputs": "`autograd.grad`", "direct": "direct"}
POST = "https://kaifishr.github.io/2021/12/15/relevance-propagation-pytorch.html"
POST_FACTOR = 5.0
LEVEL = 0.05  # ratios within this distance of 1 are called level
LEVEL_NOTE = f"(Level: within {LEVEL:.0%}.)"
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
def linear_direct(layer: nn.Linear, a: Tensor, r: Tensor) -> Tensor:
    """The adjoint of a linear layer is a product with its weight."""
    s = r / (F.linear(a, layer.weight, layer.bias) + EPS)
    return a * torch.mm(s, layer.weight)


@torch.no_grad()
def conv_direct(layer: nn.Conv2d, a: Tensor, r: Tensor) -> Tensor:
    """The adjoint of a convolution is one call of the kernel that autograd would call."""
    s = r / (layer(a) + EPS)
    c: Tensor = torch.ops.aten.convolution_backward(
        s,
        a,
        layer.weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        (True, False, False),
    )[0]
    return a * c


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

    def __init__(self, model: torchvision.models.VGG) -> None:
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
                r = linear_direct(twin, a, r)
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


def linear_cases(batches: Sequence[int], device: torch.device) -> Iterable[Case]:
    layer = positive_part(nn.Linear(512, 256)).to(device)
    assert isinstance(layer, nn.Linear)
    for batch in batches:
        a, r = torch.rand(batch, 512, device=device), torch.rand(batch, 256, device=device)
        yield Case(
            "linear",
            f"linear 512→256, batch {batch}",
            {
                "backward": partial(by_backward, layer, a, r),
                "inputs": partial(by_inputs, layer, a, r),
                "direct": partial(linear_direct, layer, a, r),
            },
        )


def conv_cases(batch: int, device: torch.device) -> Iterable[Case]:
    shapes = {
        "conv 3×3, 64→64 at 56×56": nn.Conv2d(64, 64, 3, padding=1),
        "conv 1×1, 256→64 at 56×56": nn.Conv2d(256, 64, 1),
        "conv 3×3 stride 2, 128→128 at 56×56": nn.Conv2d(128, 128, 3, stride=2, padding=1),
        "depthwise conv 3×3, 144 at 56×56": nn.Conv2d(144, 144, 3, padding=1, groups=144),
    }
    for name, conv in shapes.items():
        layer = positive_part(conv).to(device)
        assert isinstance(layer, nn.Conv2d)
        a = torch.rand(batch, layer.in_channels, 56, 56, device=device)
        r = torch.rand_like(layer(a).detach())
        yield Case(
            "convolution",
            name,
            {
                "backward": partial(by_backward, layer, a, r),
                "inputs": partial(by_inputs, layer, a, r),
                "direct": partial(conv_direct, layer, a, r),
            },
        )


def network_cases(batch: int, device: torch.device) -> Iterable[Case]:
    try:
        from lrp_fx import LRPFx
    except ImportError as error:
        raise SystemExit(
            f"whole networks need lrp_fx ({error}); install it, or measure with --only layers"
        ) from error
    x = torch.randn(batch, 3, 224, 224, device=device)
    for name in ("vgg16", "resnet50"):
        model = torchvision.models.get_model(name, weights=None).to(device)
        settle_batch_norm(model, torch.randn(4, 3, 224, 224, device=device))
        model.eval()
        ways: dict[str, Way] = {}
        if isinstance(model, torchvision.models.VGG):
            ways["backward"] = partial(PostLoop(model), x)
        for way, engine in (("inputs", "gradient"), ("direct", "direct")):
            lrp = LRPFx(model, "z_plus", propagation=engine)
            ways[way] = partial(lrp.attribute, x, target=0)
        title = {"vgg16": "VGG-16", "resnet50": "ResNet-50"}[name]
        yield Case("network", title, ways, alike=("inputs", "direct"))


@torch.no_grad()
def settle_batch_norm(model: nn.Module, x: Tensor) -> None:
    """Give batch norms the statistics of one batch, so that activations stay of order one."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of what was seen: this batch
    model.train()(x)


# --- measuring ----------------------------------------------------------------------------------


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(low, median, high)


@dataclass
class Result:
    """Seconds per call of each way, one value per round."""

    group: str
    name: str
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def time(self, way: str) -> Quartiles | None:
        return quartiles(self.seconds[way]) if way in self.seconds else None

    def ratio(self, way: str) -> Quartiles | None:
        """Time as a multiple of the direct way's in the same round."""
        if way not in self.seconds:
            return None
        pairs = zip(self.seconds[way], self.seconds["direct"], strict=True)
        return quartiles([t / direct for t, direct in pairs])

    def median(self, way: str) -> float:
        return statistics.median(self.seconds[way])

    def extra(self, way: str, other: str) -> float:
        """Seconds by which one way's median is above another's; these add up."""
        return self.median(way) - self.median(other)

    def is_longer(self, way: str, other: str) -> bool:
        """Whether one way is measurably longer: in three rounds of four, and in the median."""
        pairs = zip(self.seconds[way], self.seconds[other], strict=True)
        low = quartiles([t - u for t, u in pairs]).low
        return low > 0 and self.extra(way, other) > 0


def check(case: Case) -> None:
    """The ways must give the same relevance, otherwise their times compare nothing."""
    reference = case.ways["direct"]()
    for way in case.alike:
        relevance = case.ways[way]()
        error = ((relevance - reference).abs().max() / reference.abs().max()).item()
        if not error <= AGREEMENT:
            raise SystemExit(f"{case.name}: {way} and direct differ by {error:.1e} of max |R|")


def measure(case: Case, rounds: int, block: float, device: torch.device) -> Result:
    """Interleaved rounds: in each, every way runs for about ``block`` seconds, in rotated order."""
    check(case)
    calls = {}
    for way, call in case.ways.items():
        timed(call, 2, device)  # warm-up
        calls[way] = max(1, math.ceil(block / timed(call, 3, device)))
    result = Result(case.group, case.name, {way: [] for way in case.ways})
    order = list(case.ways)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for way in order:
                result.seconds[way].append(timed(case.ways[way], calls[way], device))
            order.append(order.pop(0))
    finally:
        gc.enable()
    return result


def timed(call: Way, calls: int, device: torch.device) -> float:
    """Mean seconds of one call."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def keep_memory() -> bool:
    """Let the C library (glibc) keep freed memory, and say whether it does.

    Otherwise it returns large tensors to the system and fetches them again, or does not, depending
    on what happened to run before; the page faults alone can cost several times a small kernel.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(m_mmap_max, 0)) and bool(mallopt(m_trim_threshold, -1))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- the page -----------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def spread(value: Quartiles | None, show: Callable[[float], str]) -> str:
    if value is None:
        return "–"
    return f"{show(value.median)} ({show(value.low)} to {show(value.high)})"


def factor(value: float) -> str:
    return f"{value:.2f}"


def joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def times_table(results: Sequence[Result]) -> list[str]:
    lines = [
        "| | `.backward()` | `autograd.grad` | direct | `.backward()` / direct "
        "| `autograd.grad` / direct |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        cells = [spread(result.time(way), duration) for way in WAYS]
        cells += [spread(result.ratio(way), factor) for way in WAYS[:2]]
        lines.append(f"| {result.name} | " + " | ".join(cells) + " |")
    return lines


def share_table(results: Sequence[Result]) -> list[str]:
    """How the median time of ``.backward()`` divides."""
    lines = [
        "| of the time of `.backward()` | the direct way | graph, engine, `(z * s).sum()` "
        "| weight gradients |",
        "|---|---|---|---|",
    ]
    for result in results:
        total = result.median("backward")
        parts = [
            result.median("direct"),
            result.extra("inputs", "direct"),
            result.extra("backward", "inputs"),
        ]
        cells = [f"{part / total:.0%} ({duration_signed(part)})" for part in parts]
        lines.append(f"| {result.name} | " + " | ".join(cells) + " |")
    return lines


def duration_signed(seconds: float) -> str:
    return ("−" if seconds < 0 else "") + duration(abs(seconds))


def post_sentence(results: Sequence[Result]) -> str:
    """How the factor on the post's layer compares with the post's."""
    found = [(result.name, result.ratio("backward")) for result in results]
    listed = joined([f"{ratio.median:.1f} ({name})" for name, ratio in found if ratio])
    largest = max(ratio.median for _, ratio in found if ratio)
    if largest < 0.8 * POST_FACTOR:
        verdict = "None of these comes within a fifth of the post's factor of about five"
    elif largest <= 1.2 * POST_FACTOR:
        verdict = "The largest is within a fifth of the post's factor of about five"
    else:
        verdict = "The largest is above the post's factor of about five"
    return (
        "On the post's layer `.backward()` takes this many times as long as the direct way: "
        f"{listed}. {verdict}, which was measured on a graphics card; the post does not say with "
        "how many samples."
    )


def extra_sentence(result: Result) -> str:
    """What the time beyond the direct way is spent on."""
    if not result.is_longer("backward", "direct"):
        return f"On {result.name}, `.backward()` is not measurably slower than the direct way."
    causes = (
        ("recording the graph, running the engine and the extra `(z * s).sum()`", WAYS[1:]),
        ("weight gradients that nobody reads", WAYS[:2]),
    )
    spent = [
        f"{duration(result.extra(*ways))} for {what}"
        if result.is_longer(*ways)
        else f"nothing measurable for {what}"
        for what, ways in causes
    ]
    extra = duration(result.extra("backward", "direct"))
    return (
        f"On {result.name}, `.backward()` takes {extra} more than the direct way: {joined(spent)}."
    )


def batch_sentence(results: Sequence[Result]) -> str:
    """Whether the price of autograd grows with the arithmetic."""
    first, last = results[0], results[-1]
    if first is last or not all(r.is_longer("inputs", "direct") for r in (first, last)):
        return ""
    price = last.extra("inputs", "direct") / first.extra("inputs", "direct")
    work = last.median("direct") / first.median("direct")
    numbers = (
        f"From {first.name} to {last.name} the direct way's time is multiplied by {work:.1f}, and "
        f"the time that `autograd.grad` adds to it by {price:.1f}"
    )
    if price < 0.5 * work:
        return (
            f"{numbers}: much of the price of autograd is paid per call, and it weighs most where "
            "a call holds little arithmetic."
        )
    return f"{numbers}: the price of autograd is not one per call here."


def level_sentence(results: Sequence[Result], way: str) -> str:
    """Which cases are slower, level or faster than the direct way."""
    kinds: dict[str, list[str]] = {"slower than": [], "level with": [], "faster than": []}
    for result in results:
        ratio = result.ratio(way)
        if ratio is None:
            continue
        if abs(ratio.median - 1) <= LEVEL:
            kind = "level with"
        else:
            kind = "slower than" if ratio.median > 1 else "faster than"
        kinds[kind].append(f"{result.name} ({ratio.median:.2f})")
    said = [f"{kind} the direct way on {joined(names)}" for kind, names in kinds.items() if names]
    return f"{TITLES[way]} is " + "; ".join(said) + "."


def page(results: Sequence[Result], settings: argparse.Namespace, figure: str, kept: bool) -> str:
    groups = {
        group: [result for result in results if result.group == group]
        for group in ("linear", "convolution", "network")
    }
    layers = groups["linear"] + groups["convolution"]
    lines = [
        "<!-- written by benchmarks/direct_vs_gradient.py: change that file, not this one -->",
        "# Direct or gradient: what a relevance pass costs",
        "",
        f"The blog post [Relevance Propagation with PyTorch]({POST}) (Kai Fischer, 2021) computes "
        "relevance with the gradient trick and notes that on an RTX 2080 Ti, for a linear layer "
        "from 512 to 256 features, this was about five times slower than the direct way. Here the "
        "comparison is repeated, with a third way between the two, so that one sees what the "
        "factor is made of:",
        "",
        "- `.backward()`: the post's `(z * s).sum().backward()`, which also computes the gradients "
        "of the weights;",
        "- `autograd.grad`: the same formula, asking for the gradient of the input only; for whole "
        'networks `LRPFx(model, "z_plus", propagation="gradient")`;',
        "- direct: the analytic adjoint without autograd (`torch.mm`, "
        "`aten.convolution_backward`); for whole networks "
        '`LRPFx(model, "z_plus", propagation="direct")`.',
        "",
        f"![Time as a multiple of the direct way]({figure})",
        "",
        "Medians, in brackets the quartiles; ratios are taken within each round.",
        "",
        *times_table(results),
        "",
    ]
    if groups["linear"]:
        lines += [
            "## What the factor consists of",
            "",
            post_sentence(groups["linear"]),
            "",
            *[f"- {extra_sentence(result)}" for result in groups["linear"]],
            "",
            batch_sentence(groups["linear"]),
            "",
            "The arithmetic sets the limits: a direct pass is two products of equal size, forward "
            "and adjoint, and the gradient of the weights is a third. Counting these only, "
            "`autograd.grad` comes to 1.0 and `.backward()` to 1.5 times the direct way, on linear "
            "layers and convolutions alike.",
            "",
        ]
    if layers:
        lines += [*share_table(layers), ""]
    if groups["convolution"]:
        lines += ["## Convolutions", ""]
        lines += [f"- {level_sentence(groups['convolution'], way)}" for way in WAYS[:2]]
        lines += ["", LEVEL_NOTE, ""]
    lines += network_section(groups["network"])
    lines += method_section(settings, kept)
    return "\n".join(lines)


def network_section(results: Sequence[Result]) -> list[str]:
    lines = ["## Whole networks", ""]
    if not results:
        return [*lines, "Whole networks were not measured in this run.", ""]
    lines.append(f"- {level_sentence(results, 'inputs')}")
    if any("backward" in result.seconds for result in results):
        with_loop = [result for result in results if "backward" in result.seconds]
        lines.append(f"- {level_sentence(with_loop, 'backward')}")
    return [
        *lines,
        "",
        LEVEL_NOTE,
        "",
        "For VGG-16 the first column is a loop in the post's style over a flat list of layers: "
        "convolutions and pooling by `.backward()`, linear layers directly, as in the post's "
        "repository. It takes max pooling as average pooling and an image of ones, as the post "
        "does, so it does not compute the same map as the other two columns, which follow the "
        "winner of each window and the signed image (in the first layer, twice the work). The post "
        "has no way through the residual additions of ResNet-50, hence the dash.",
        "",
    ]


def method_section(settings: argparse.Namespace, kept: bool) -> list[str]:
    device = torch.device(settings.device)
    machine = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), "
        f"{os.cpu_count()} cores"
    )
    threads = f"{settings.threads} thread" + ("" if settings.threads == 1 else "s")
    return [
        "## How this was measured",
        "",
        "```",
        command(settings),
        "```",
        "",
        f"{machine}, {threads}, torch {torch.__version__.partition('+')[0]}, "
        f"Python {platform.python_version()}, float32, convolutions and networks with batch "
        f"{settings.batch}, random weights. "
        f"{settings.rounds} rounds for layers, {settings.network_rounds} for networks; in each "
        "round every way runs in turn, in rotated order, in one process. Before the timing the "
        "ways (but the loop for VGG-16) are checked to give the same relevance, within "
        f"{AGREEMENT:g} of its maximum. "
        + (
            "Freed memory stays with the process (`mallopt`), so that page faults, which come and "
            "go with what ran before, do not decide."
            if kept
            else "Memory is managed as the system does by default."
        ),
        "",
    ]


def command(settings: argparse.Namespace) -> str:
    """The command line that repeats this run, without the output directory's real place."""
    words = ["python benchmarks/direct_vs_gradient.py --out docs/"]
    for name, default in vars(parser().parse_args([])).items():
        value = getattr(settings, name)
        if name not in ("out", "json") and value != default:
            shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f"--{name.replace('_', '-')} {shown}")
    return " ".join(words)


def draw(results: Sequence[Result], path: Path) -> None:
    """Horizontal bars: time as a multiple of the direct way, with quartiles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.5 * len(results) + 1.2), layout="constrained")
    axes = figure.subplots()
    end = 1.0
    for way, offset, color in (("backward", -0.19, "#c44e52"), ("inputs", 0.19, "#dd8452")):
        found = [(row, result.ratio(way)) for row, result in enumerate(results)]
        rows = [(row + offset, ratio) for row, ratio in found if ratio is not None]
        places = [place for place, _ in rows]
        medians = [ratio.median for _, ratio in rows]
        errors = [
            [ratio.median - ratio.low for _, ratio in rows],
            [ratio.high - ratio.median for _, ratio in rows],
        ]
        label = TITLES[way].strip("`")
        axes.barh(places, medians, 0.36, xerr=errors, color=color, ecolor="#333333", label=label)
        for place, ratio in rows:
            axes.text(ratio.high, place, f"  {ratio.median:.2f}", va="center", fontsize=8)
            end = max(end, ratio.high)
    axes.axvline(1, color="#4c72b0", linewidth=1.5)
    axes.set_xlim(0, 1.12 * end)
    axes.set_yticks(range(len(results)), [result.name for result in results], fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time as a multiple of the direct way (line: 1)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    figure.legend(fontsize=8, frameon=False, loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=110)


# --- the command --------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description="Time direct against gradient relevance propagation; write a page and a figure."
    )
    options.add_argument("--out", type=Path, default=Path("docs"), help="directory for the page")
    options.add_argument("--only", choices=("all", "layers", "networks"), default="all")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    options.add_argument("--batch", type=int, default=1, help="for convolutions and networks")
    options.add_argument("--linear-batches", type=int, nargs="+", default=[1, 64, 1024])
    options.add_argument("--rounds", type=int, default=31, help="for layers")
    options.add_argument("--network-rounds", type=int, default=7)
    options.add_argument("--json", type=Path, help="also write the seconds of every round here")
    return options


def main() -> None:
    settings = parser().parse_args()
    if min(settings.rounds, settings.network_rounds) < 3:
        raise SystemExit("quartiles need at least 3 rounds")
    kept = keep_memory()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    device = torch.device(settings.device)
    results: list[Result] = []

    def run(cases: Iterable[Case], rounds: int, block: float) -> None:
        for case in cases:
            result = measure(case, rounds, block, device)
            results.append(result)
            shown = (f"{way} {spread(result.time(way), duration)}" for way in result.seconds)
            print(f"{case.name}: " + ", ".join(shown), file=sys.stderr, flush=True)

    if settings.only != "networks":
        run(linear_cases(sorted(settings.linear_batches), device), settings.rounds, block=0.01)
        run(conv_cases(settings.batch, device), settings.rounds, block=0.01)
    if settings.only != "layers":
        run(network_cases(settings.batch, device), settings.network_rounds, block=0.0)

    settings.out.mkdir(parents=True, exist_ok=True)
    figure = settings.out / "direct_vs_gradient.png"
    draw(results, figure)
    text = page(results, settings, figure.name, kept)
    (settings.out / "direct_vs_gradient.md").write_text(text, encoding="utf-8")
    if settings.json:
        rows = [{"group": r.group, "name": r.name, "seconds": r.seconds} for r in results]
        settings.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"written: {settings.out}/direct_vs_gradient.md and .png", file=sys.stderr)


if __name__ == "__main__":
    main()
