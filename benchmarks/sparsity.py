"""How sparse is filtered relevance, in forms that a kernel could use? Measured on real photographs.

    python benchmarks/sparsity.py --out docs/

The filter keeps 5 % of the relevance that enters each layer, so 95 % of the multiplications behind it
have a factor zero. Whether they can be left out depends on where the kept entries lie. For the
relevance as it really arrives, behind all the filters above, this measures for each layer the share of
entries, positions, channels, blocks and tiles that hold at least one kept entry; of one sample, and of
the union over a batch. Then it times kernels that leave the rest out, on the same relevance, and whole
runs with and without them.

The networks are EfficientNet-Lite0 with its ImageNet weights, and VGG-16, ResNet-50 and ViT-B/16 with
random weights, on the 20 photographs in the package foolbox.

All sentences of the page that compare are chosen from the measured figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from direct_vs_gradient import keep_memory
from PIL import Image
from sparse_forms import Layer, forms
from torch import Tensor, nn
from torchvision.transforms import v2

from lrp_fx import LRPFx, Optimizations
from lrp_fx.filters import TopKFilter
from lrp_fx.relevance import LinearRelevance
from lrp_fx.zoo import load

KINDS = ("k×k", "pointwise", "depthwise", "linear")
FORMS = (
    "entries",
    "tiles",
    "positions",
    "channels",
    "positions × channels",
    "box",
    "box × channels",
    "blocks of 8",
    "blocks of 16",
)
"""Tiles are 8 channels × 4×4 positions, the box is the smallest rectangle with all kept positions."""

NETWORKS = {
    "efficientnet-lite0": "EfficientNet-Lite0",
    "vgg16": "VGG-16",
    "resnet50": "ResNet-50",
    "vit_b_16": "ViT-B/16",
}
REAL = "efficientnet-lite0"
WITHOUT = Optimizations(sparse=False)
LOOKED_AT = Optimizations(sparse=False, in_place=False)  # relevance is read again and again
AGREEMENT = 1e-3  # of max |R|, in float32
BINS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)

COMPOSITES = {"vit_b_16": "attn_lrp"}  # the others: epsilon_plus


# --- networks and photographs -------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network, and the photographs as its inputs (20, 3, 224, 224)."""

    name: str
    model: nn.Module
    inputs: Tensor

    @property
    def composite(self) -> str:
        return COMPOSITES.get(self.name, "epsilon_plus")


def network(name: str) -> Network:
    """The real network with its weights, any other with random ones."""
    if name == REAL:
        loaded = load(name)
        return Network(name, loaded.model, photographs(loaded.preprocess))
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    inputs = photographs(
        v2.Compose(
            [
                v2.Resize(256),
                v2.CenterCrop(224),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )
    )
    for module in model.modules():  # torchvision starts transformers with a head of zeros
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    settle_batch_norm(model, inputs[:8])
    return Network(name, model.eval(), inputs)


def photographs(preprocess: Callable[[Image.Image], Tensor]) -> Tensor:
    package = importlib.util.find_spec("foolbox")  # found, not imported: only its data are wanted
    if package is None:
        raise SystemExit('the photographs are missing: pip install "lrp_fx[bench]"')
    (folder,) = package.submodule_search_locations or ()
    files = sorted(Path(folder, "data").glob("imagenet_*.jpg"))
    return torch.stack([preprocess(Image.open(file).convert("RGB")) for file in files])


@torch.no_grad()
def settle_batch_norm(model: nn.Module, x: Tensor) -> None:
    """Give batch norms the statistics of one batch, so that activations stay of order one."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain average of what was seen: this batch
        norm.train()
    if norms:
        model(x)


# --- the layers as they run ---------------------------------------------------------------------


def visit(lrp: LRPFx, x: Tensor, target: Tensor, look: Callable[[Layer], None]) -> None:
    """Explain, and show each linear operation to ``look`` when its relevance has arrived."""
    modules = lrp._program(x).lrp.module.get_submodule("relevance")
    handles = []
    for name, module in modules.named_children():
        if isinstance(module, LinearRelevance):

            def hook(module: Any, args: Any, options: Any, name: str = name) -> None:
                kept = {key: value for key, value in options.items() if key != "denominators"}
                look(Layer(name, module, *args, kept))

            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        lrp.attribute(x, target=target)
    finally:
        for handle in handles:
            handle.remove()


# --- densities ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Densities:
    """One layer of one network: shares by form, the mean over samples and that of unions."""

    network: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    forward_work: int
    work: int
    single: dict[str, float]
    union: dict[str, float]


def shares(kept: Tensor) -> dict[str, list[float]]:
    """The shares of each sample that hold a kept entry.

    Args:
        kept: 0 or 1, (N, C, H, W); one position for linear layers, tokens are positions in one row.
    """
    positions, channels = kept.amax(1), kept.amax((2, 3))
    tile = (8, 4, 4) if kept.shape[2] > 1 else (8, 1, 16)
    tile = tuple(min(t, n) for t, n in zip(tile, kept.shape[1:], strict=True))
    box = extent(positions.amax(1)) * extent(positions.amax(2))
    found = {
        "entries": kept.flatten(1).mean(1),
        "tiles": F.max_pool3d(kept[:, None], tile, ceil_mode=True).flatten(1).mean(1),
        "positions": positions.flatten(1).mean(1),
        "channels": channels.mean(1),
        "positions × channels": positions.flatten(1).mean(1) * channels.mean(1),
        "box": box,
        "box × channels": box * channels.mean(1),
        "blocks of 8": F.max_pool1d(channels, 8, ceil_mode=True).mean(1),
        "blocks of 16": F.max_pool1d(channels, 16, ceil_mode=True).mean(1),
    }
    return {form: values.tolist() for form, values in found.items()}


def extent(line: Tensor) -> Tensor:
    """From the first one to the last as a share of the length; ``line`` is 0 or 1, (N, L)."""
    reached = line.cummax(1).values * line.flip(1).cummax(1).values.flip(1)
    return reached.mean(1)


def laid_out(relevance: Tensor, samples: int) -> Tensor:
    """(N, C), (N, T, C), (T, N, C) as in attention, or (N, C, H, W), as (N, C, H, W)."""
    if relevance.dim() == 4:
        return relevance
    if len(relevance) != samples:
        relevance = relevance.transpose(0, 1)
    return relevance.reshape(samples, -1, relevance.shape[-1]).transpose(1, 2)[:, :, None]


def densities(subject: Network, top_k: float, batch: int) -> list[Densities]:
    """Of every layer in the order of the relevance pass."""
    lrp = LRPFx(subject.model, subject.composite, top_k=top_k, optimize=LOOKED_AT)
    layers: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    single: dict[str, list[dict[str, list[float]]]] = {}
    union: dict[str, list[dict[str, list[float]]]] = {}

    def look(layer: Layer) -> None:
        kept = (laid_out(layer.relevance, len(x)) != 0).float()
        shape = tuple(layer.weight.shape)
        layers[layer.name] = (layer.kind, shape, layer.forward_work(len(x)), layer.work(len(x)))
        single.setdefault(layer.name, []).append(shares(kept))
        if len(kept) == batch:
            union.setdefault(layer.name, []).append(shares(kept.amax(0, keepdim=True)))

    for x in subject.inputs.split(batch):
        with torch.no_grad():
            target = subject.model(x).argmax(1)
        visit(lrp, x, target, look)
    return [
        Densities(subject.name, name, *what, pooled(single[name]), pooled(union[name]))
        for name, what in layers.items()
    ]


def pooled(many: Sequence[dict[str, list[float]]]) -> dict[str, float]:
    return {form: statistics.fmean(v for each in many for v in each[form]) for form in FORMS}


def weighted(rows: Iterable[Densities], form: str, which: str) -> float:
    """The share by form, weighted by multiply-adds: what remains if a kernel skips the rest."""
    rows = list(rows)
    total = sum(row.work for row in rows)
    return sum(row.work * getattr(row, which)[form] for row in rows) / total


def arithmetic(rows: Iterable[Densities], form: str, which: str) -> float:
    """Multiply-adds of forward pass and restricted rules, as a share of the unrestricted ones."""
    rows = list(rows)
    forward, work = (sum(getattr(row, key) for row in rows) for key in ("forward_work", "work"))
    return (forward + work * weighted(rows, form, which)) / (forward + work)


# --- kernels ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """Median processor seconds of each form of one layer, and the density that decides about the form."""

    network: str
    batch: int
    layer: str
    kind: str
    density: float
    seconds: dict[str, float]


def kernels(
    subject: Network, batch: int, places: Sequence[int], top_k: float, rounds: int
) -> list[Timed]:
    """Time all forms of every layer on the relevance that arrives there, interleaved."""
    lrp = LRPFx(subject.model, subject.composite, top_k=top_k, optimize=LOOKED_AT)
    found: list[Timed] = []

    def look(layer: Layer) -> None:
        kept = (laid_out(layer.relevance, batch) != 0).float()
        form = "entries" if layer.kind == "linear" else "positions × channels"
        density = statistics.fmean(shares(kept)[form])
        seconds = {name: statistics.median(each) for name, each in timed(layer, rounds).items()}
        found.append(Timed(subject.name, batch, layer.name, layer.kind, density, seconds))

    for place in places:
        x = subject.inputs[place : place + batch]
        with torch.no_grad():
            target = subject.model(x).argmax(1)
            visit(lrp, x, target, look)
    return found


def timed(layer: Layer, rounds: int) -> dict[str, list[float]]:
    ways = forms(layer)
    reference = ways["dense"](layer)
    for name, way in ways.items():
        error = ((way(layer) - reference).abs().max() / reference.abs().max()).item()
        if error > AGREEMENT:
            raise SystemExit(f"{layer.name}: {name} and dense differ by {error:.1e} of max |R|")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way(layer)
            seconds[name].append(time.process_time() - start)
    return seconds


# --- whole runs ---------------------------------------------------------------------------------

WAYS = ("unfiltered", "dense", "sparse")
PARTS = ("densities", "kernels", "runs")


@dataclass(frozen=True)
class Run:
    """Processor seconds of each round of an explanation, and of those the filters' own."""

    network: str
    batch: int
    seconds: dict[str, list[float]]
    filters: dict[str, list[float]]

    def ratio(self, way: str, filters: bool = True) -> float:
        """The median ratio to the unfiltered run of the same round, the filters' own time in or out."""
        own = self.filters[way] if not filters else [0.0] * len(self.seconds[way])
        pairs = zip(self.seconds[way], own, self.seconds["unfiltered"], strict=True)
        return statistics.median((seconds - less) / base for seconds, less, base in pairs)


def runs(subject: Network, batch: int, top_k: float, rounds: int) -> Run:
    """Explain without filter, with the filter before dense kernels, and with sparse ones."""
    x = subject.inputs[8 : 8 + batch]
    with torch.no_grad():
        target = subject.model(x).argmax(1)
    ways = {
        "unfiltered": LRPFx(subject.model, subject.composite),
        "dense": LRPFx(subject.model, subject.composite, top_k=top_k, optimize=WITHOUT),
        "sparse": LRPFx(subject.model, subject.composite, top_k=top_k),
    }
    clock = {"started": 0.0, "spent": 0.0}

    def begin(*_: Any) -> None:
        clock["started"] = time.process_time()

    def end(*_: Any) -> None:
        clock["spent"] += time.process_time() - clock["started"]

    for lrp in ways.values():
        for module in lrp._program(x).lrp.module.modules():
            if isinstance(module, TopKFilter):
                module.register_forward_pre_hook(begin)
                module.register_forward_hook(end)
        lrp.attribute(x, target=target)
    result = Run(subject.name, batch, {way: [] for way in WAYS}, {way: [] for way in WAYS})
    order = list(WAYS)
    for _ in range(rounds):
        for way in order:
            clock["spent"] = 0.0
            start = time.process_time()
            ways[way].attribute(x, target=target)
            result.seconds[way].append(time.process_time() - start)
            result.filters[way].append(clock["spent"])
        order.append(order.pop(0))
    return result


# --- all that was measured ----------------------------------------------------------------------


@dataclass
class Measured:
    """Everything on the page; kept in a file, so that parts can be measured again by themselves."""

    densities: list[Densities]
    kernels: list[Timed]
    runs: list[Run]

    @classmethod
    def read(cls, file: Path | None) -> Measured:
        """What an earlier run wrote, if it did."""
        data = json.loads(file.read_text()) if file is not None and file.exists() else {}
        kinds = {"densities": Densities, "kernels": Timed, "runs": Run}
        return cls(*([kind(**each) for each in data.get(part, ())] for part, kind in kinds.items()))

    def write(self, file: Path | None) -> None:
        if file is not None:
            file.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def keep_not(self, part: str, network: str, batch: int | None = None) -> None:
        """Forget what is about to be measured again."""
        kept = [
            each
            for each in getattr(self, part)
            if each.network != network or getattr(each, "batch", None) != batch
        ]
        setattr(self, part, kept)


def in_order(some: Sequence[Any]) -> list[Any]:
    """By network as they are listed, whatever was measured first."""
    return sorted(some, key=lambda each: list(NETWORKS).index(each.network))


# --- the page -----------------------------------------------------------------------------------


def page(measured: Measured, settings: argparse.Namespace) -> str:
    lines = [
        "<!-- written by benchmarks/sparsity.py: change that file, not this one -->",
        "# Sparse propagation: what the filter leaves to compute",
        "",
        f"With `top_k={settings.top_k:g}` each layer is reached by {settings.top_k:.0%} of its "
        "relevance. All multiplications with the rest are multiplications with zero. Here is where the "
        "kept entries lie, on 20 photographs, as the relevance really arrives: behind the filters of "
        "all layers above.",
        "",
        *run_section(in_order(measured.runs)),
        *density_section(in_order(measured.densities), settings),
        *kernel_section(in_order(measured.kernels)),
        *method_section(settings),
    ]
    return "\n".join(lines)


def density_section(rows: Sequence[Densities], settings: argparse.Namespace) -> list[str]:
    if not rows:
        return []
    lines = [
        "## Densities",
        "",
        "The share of each form that holds at least one kept entry, weighted by the multiply-adds of "
        "the rule (z⁺: denominators and adjoint; ε: adjoint only). That is the share of the work that "
        "remains for a kernel which leaves out all else. First for one photograph, then for the union "
        f"over {settings.batch}, which is what a kernel sees that treats a batch as one. A tile is 8 "
        "channels × 4×4 positions (16 tokens); the box is the smallest rectangle with all kept "
        "positions.",
        "",
        "| network | layers | of the work | " + " | ".join(FORMS) + " |",
        "|---|---|---|" + "---|" * len(FORMS),
    ]
    for name in networks_of(rows):
        own = [row for row in rows if row.network == name]
        total = sum(row.work for row in own)
        for kind in [kind for kind in KINDS if any(row.kind == kind for row in own)]:
            some = [row for row in own if row.kind == kind]
            share = sum(row.work for row in some) / total
            cells = [
                f"{percent(weighted(some, form, 'single'))} / "
                f"{percent(weighted(some, form, 'union'))}"
                for form in FORMS
            ]
            lines.append(
                f"| {NETWORKS[name]} | {len(some)} {kind} | {share:.0%} | "
                + " | ".join(cells)
                + " |"
            )
    lines += [
        "",
        "Counted in multiply-adds, a filtered run (forward pass and restricted rules; the filter "
        "itself not counted) is this share of the unfiltered run, one photograph / union:",
        "",
        "| network | " + " | ".join(FORMS) + " |",
        "|---|" + "---|" * len(FORMS),
    ]
    for name in networks_of(rows):
        own = [row for row in rows if row.network == name]
        cells = [
            f"{arithmetic(own, form, 'single'):.2f} / {arithmetic(own, form, 'union'):.2f}"
            for form in FORMS
        ]
        lines.append(f"| {NETWORKS[name]} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"- {sentence}" for sentence in density_sentences(rows)]
    return [*lines, ""]


def density_sentences(rows: Sequence[Densities]) -> list[str]:
    """Which form leaves least to compute on each network, entries aside."""
    said = []
    for name in networks_of(rows):
        own = [row for row in rows if row.network == name]
        coarse = {form: arithmetic(own, form, "single") for form in FORMS[1:]}
        best = min(coarse, key=lambda form: coarse[form])
        entries = arithmetic(own, "entries", "single")
        name = NETWORKS[name] + ("" if name == REAL else " (random weights)")
        leave = f"{best} leave least, {coarse[best]:.0%} of the multiply-adds of an unfiltered run"
        if coarse[best] > 0.9:
            leave += ", hardly less than all"
        said.append(f"{name}: of the forms coarser than entries ({entries:.0%}), {leave}.")
    return said


def run_section(results: Sequence[Run]) -> list[str]:
    if not results:
        return []
    lines = [
        "## Whole runs",
        "",
        "The time of a filtered explanation as a multiple of the unfiltered one: with dense kernels "
        "(`Optimizations(sparse=False)`), and with those that leave out zeros. In brackets without "
        "the time that the filter itself takes.",
        "",
        "| network | batch | unfiltered | filtered, dense | filtered, sparse |",
        "|---|---|---|---|---|",
    ]
    for run in results:
        cells = [f"{run.ratio(way):.2f} ({run.ratio(way, False):.2f})" for way in WAYS[1:]]
        base = statistics.median(run.seconds["unfiltered"])
        lines.append(
            f"| {NETWORKS[run.network]} | {run.batch} | {base * 1e3:.0f} ms | "
            + " | ".join(cells)
            + " |"
        )
    verdicts: dict[str, list[Run]] = {
        "Faster with the filter than without": [],
        "Slower with the filter, but faster if the filter itself took no time": [],
        "Slower with the filter than without, even if the filter itself took no time": [],
    }
    for run in results:
        slower = run.ratio("sparse") >= 1
        place = slower + (slower and run.ratio("sparse", filters=False) >= 1)
        list(verdicts.values())[place].append(run)
    lines.append("")
    lines += [f"- {verdict}: {named(some)}." for verdict, some in verdicts.items() if some]
    return [*lines, ""]


def named(results: Sequence[Run]) -> str:
    return ", ".join(
        f"{NETWORKS[run.network]} at batch {run.batch} ({run.ratio('sparse'):.2f})"
        for run in results
    )


def kernel_section(times: Sequence[Timed]) -> list[str]:
    if not times:
        return []
    names = list(dict.fromkeys(form for each in times for form in each.seconds if form != "dense"))
    lines = [
        "## Kernels",
        "",
        "Each layer's rule on the filtered relevance that arrives there, denominators, adjoints and the "
        "search for nonzero entries included, as a multiple of the time with dense kernels (summed "
        "over the layers). All forms give the same relevance.",
        "",
        "- windows (in the library): sample by sample, windows of positions with relevance, rows of W "
        "of channels with relevance, two dense products;",
        "- entries (in the library): the sum of rows of W at nonzero entries, by `embedding_bag`;",
        "- channels: dense kernels on the rows of W whose channel has relevance in any sample;",
        "- box: dense kernels on the smallest rectangle with all positions, per sample;",
        "- CSR: `torch.sparse`, denominators by `sampled_addmm`;",
        "- rows: rows of W with relevance in any sample, one dense product.",
        "",
        "| network | batch | layers | dense | " + " | ".join(names) + " |",
        "|---|---|---|---|" + "---|" * len(names),
    ]
    for name in dict.fromkeys(each.network for each in times):
        for batch in dict.fromkeys(each.batch for each in times):
            for kind in KINDS:
                some = [t for t in times if (t.network, t.batch, t.kind) == (name, batch, kind)]
                if not some:
                    continue
                cells = []
                for form in names:
                    have = [each for each in some if form in each.seconds]
                    cells.append(f"{total_ratio(have, form):.2f}" if have else "–")
                base = sum(each.seconds["dense"] for each in some) * 1e3
                runs = sum(each.layer == some[0].layer for each in some)
                lines.append(
                    f"| {NETWORKS[name]} | {batch} | {kind} | {base / runs:.1f} ms | "
                    + " | ".join(cells)
                    + " |"
                )
    lines += [
        "",
        *(
            f"- {kernel_sentence(kind, times)}"
            for kind in KINDS
            if any(t.kind == kind for t in times)
        ),
        "",
        "Where the library's forms start to win: the median over layers by density (linear layers: "
        "entries; others: positions × channels), in brackets the number of layers.",
        "",
        "| density up to | " + " | ".join(f"{bound:g}" for bound in BINS) + " |",
        "|---|" + "---|" * len(BINS),
    ]
    for kind, form in (("k×k", "windows"), ("pointwise", "windows"), ("linear", "entries")):
        own = [each for each in times if each.kind == kind]
        cells = []
        for low, high in zip((-1.0, *BINS), BINS, strict=False):
            some = [each for each in own if low < each.density <= high]
            ratios = [each.seconds[form] / each.seconds["dense"] for each in some]
            cells.append(f"{statistics.median(ratios):.2f} ({len(some)})" if some else "")
        lines.append(f"| {kind}, {form} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def kernel_sentence(kind: str, times: Sequence[Timed]) -> str:
    """The form that is fastest on all layers of a kind, if any is faster than the dense one."""
    some = [each for each in times if each.kind == kind]
    forms = set.intersection(*(set(each.seconds) for each in some)) - {"dense"}
    ratios = {form: total_ratio(some, form) for form in sorted(forms)}
    best = min(ratios, key=lambda form: ratios[form])
    if ratios[best] > 0.95:
        return f"{kind}: none is faster than the dense one, {best} nearest ({ratios[best]:.2f})."
    chosen = [min(t.seconds[best], t.seconds["dense"]) for t in some]
    bound = sum(chosen) / sum(each.seconds["dense"] for each in some)
    return (
        f"{kind}: of the forms that all its layers have, {best} are the fastest, {ratios[best]:.2f} of "
        f"the dense time; {bound:.2f} with the faster of the two in each layer."
    )


def total_ratio(some: Sequence[Timed], form: str) -> float:
    return sum(t.seconds[form] for t in some) / sum(t.seconds["dense"] for t in some)


def networks_of(rows: Iterable[Densities]) -> list[str]:
    return list(dict.fromkeys(row.network for row in rows))


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def method_section(settings: argparse.Namespace) -> list[str]:
    return [
        "## How this was measured",
        "",
        "```",
        command(settings),
        "```",
        "",
        "`epsilon_plus` on convolutional networks, `attn_lrp` on the transformer, float32, the class "
        "that the network sees explained. EfficientNet-Lite0 has its ImageNet weights. The others have "
        "random weights (batch norm with the statistics of the first photographs), which makes their "
        "relevance more diffuse than that of trained networks: read them as a bound, not as an example. "
        f"Densities: 20 photographs, unions over full batches of {settings.batch}. Times: processor time "
        f"(not the clock, which others on the machine share) of {settings.threads} thread"
        f"{'s' if settings.threads > 1 else ''}, medians of {settings.rounds} rounds in which all ways "
        "run in turn, in one process; kernels at batch 1 on two photographs.",
        "",
    ]


def command(settings: argparse.Namespace) -> str:
    """The command line that repeats this run, without the output directory's real place."""
    words = ["python benchmarks/sparsity.py --out docs/"]
    for name, default in vars(parser().parse_args([])).items():
        value = getattr(settings, name)
        if name not in ("out", "json") and value != default:
            shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f"--{name.replace('_', '-')} {shown}")
    return " ".join(words)


# --- the command --------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description="Measure the sparsity of filtered relevance; write a page."
    )
    options.add_argument("--out", type=Path, default=Path("docs"), help="directory for the page")
    options.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--top-k", type=float, default=0.05)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--rounds", type=int, default=5, help="for kernels and whole runs")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument(
        "--json",
        type=Path,
        help="keep the figures of every layer here; what is not measured is read",
    )
    return options


def main() -> None:
    settings = parser().parse_args()
    torch.set_num_threads(settings.threads)
    keep_memory()
    warnings.filterwarnings("ignore", "Sparse", UserWarning)  # that it is in beta, and unchecked
    measured = Measured.read(settings.json)
    for name in settings.networks:
        subject = network(name)
        if "densities" in settings.only:
            measured.keep_not("densities", name)
            measured.densities += densities(subject, settings.top_k, settings.batch)
        for batch, places in ((1, (0, 8)), (settings.batch, (8,))):
            if "runs" in settings.only:
                measured.keep_not("runs", name, batch)
                measured.runs.append(runs(subject, batch, settings.top_k, settings.rounds))
            if "kernels" in settings.only:
                measured.keep_not("kernels", name, batch)
                measured.kernels += kernels(subject, batch, places, settings.top_k, settings.rounds)
        measured.write(settings.json)
        print(f"measured: {NETWORKS[name]}", file=sys.stderr, flush=True)
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "sparsity.md").write_text(page(measured, settings), encoding="utf-8")
    print(f"written: {settings.out}/sparsity.md", file=sys.stderr)


if __name__ == "__main__":
    main()
