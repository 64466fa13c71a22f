"""How sparse is filtered relevance, in forms that a kernel could use? Measured on real photographs.

    python benchmarks/sparsity.py --out docs/

The filter keeps 5 % of the relevance that enters each layer, so 95 % of the multiplications behind it
have a factor zero. Whether they can be left out depends on where the kept entries lie. For the
relevance as it really arrives, behind all the filters above, this measures for each layer the share of
entries, positions, channels, blocks and tiles that hold at least one kept entry; of one sample, and of
the union over a batch.

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from lrp_fx import LRPFx
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


@dataclass(frozen=True)
class Layer:
    """One linear operation of a run, with all that its relevance node gets."""

    name: str
    module: LinearRelevance
    relevance: Tensor
    input: Tensor
    output: Tensor | None
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]

    @property
    def kind(self) -> str:
        if self.weight.dim() == 2:
            return "linear"
        if self.options.get("groups", 1) > 1:
            return "depthwise"
        return "pointwise" if self.weight[0, 0].numel() == 1 else "k×k"

    def forward_work(self, samples: int) -> int:
        """Multiply-adds of the operation itself, per sample."""
        return self.relevance.numel() // samples * self.weight[0].numel()

    def work(self, samples: int) -> int:
        """Multiply-adds of the rule: an adjoint for each branch, and its denominator if not known."""
        passes = 0
        for group in self.module.table:
            own = self.module._is_own_output(group.branches)
            passes += len(group.branches) * (1 if own else 2)
        return passes * self.forward_work(samples)


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
    lrp = LRPFx(subject.model, subject.composite, top_k=top_k)
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


# --- the page -----------------------------------------------------------------------------------


def page(rows: Sequence[Densities], settings: argparse.Namespace) -> str:
    lines = [
        "<!-- written by benchmarks/sparsity.py: change that file, not this one -->",
        "# Sparse propagation: what the filter leaves to compute",
        "",
        f"With `top_k={settings.top_k:g}` each layer is reached by {settings.top_k:.0%} of its "
        "relevance. All multiplications with the rest are multiplications with zero. Here is where the "
        "kept entries lie, on 20 photographs, as the relevance really arrives: behind the filters of "
        "all layers above.",
        "",
        *density_section(rows, settings),
        *method_section(settings),
    ]
    return "\n".join(lines)


def density_section(rows: Sequence[Densities], settings: argparse.Namespace) -> list[str]:
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
        f"Densities: 20 photographs, unions over full batches of {settings.batch}.",
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
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--json", type=Path, help="also write the figures of every layer here")
    return options


def main() -> None:
    settings = parser().parse_args()
    torch.set_num_threads(settings.threads)
    rows: list[Densities] = []
    for name in settings.networks:
        rows += densities(network(name), settings.top_k, settings.batch)
        print(f"densities: {NETWORKS[name]}", file=sys.stderr, flush=True)
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "sparsity.md").write_text(page(rows, settings), encoding="utf-8")
    if settings.json:
        data = {"densities": [asdict(row) for row in rows]}
        settings.json.write_text(json.dumps(data, indent=1), encoding="utf-8")
    print(f"written: {settings.out}/sparsity.md", file=sys.stderr)


if __name__ == "__main__":
    main()
