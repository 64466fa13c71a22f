"""What leaving out zeros behind the filter brings: whole explanations on real photographs.

    python benchmarks/sparsity.py --out docs/sparsity.md

Each explanation runs without a filter, with the filter before dense kernels, and with the forms that
leave out what is multiplied with zero, in turn. EfficientNet-Lite0 has its ImageNet weights, VGG-16 and
ResNet-50 random ones; the photographs are those in the package foolbox.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from direct_vs_gradient import keep_memory
from harness.tables import put
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from lrp_fx import LRPFx, Optimizations
from lrp_fx.relevance.edges.top_k import TopKFilter
from lrp_fx.zoo import load

NETWORKS = {
    "efficientnet-lite0": "EfficientNet-Lite0",
    "vgg16": "VGG-16",
    "resnet50": "ResNet-50",
}
REAL = "efficientnet-lite0"
WAYS = ("unfiltered", "dense", "sparse")
WITHOUT = Optimizations(sparse=False)
TOP_K, BATCHES = 0.05, (1, 8)


# --- networks and photographs -------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network, and the photographs as its inputs (20, 3, 224, 224)."""

    name: str
    model: nn.Module
    inputs: Tensor


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


# --- whole runs ---------------------------------------------------------------------------------


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


def runs(subject: Network, batch: int, rounds: int) -> Run:
    """Explain without filter, with the filter before dense kernels, and with sparse ones."""
    x = subject.inputs[8 : 8 + batch]
    with torch.no_grad():
        target = subject.model(x).argmax(1)
    ways = {
        "unfiltered": LRPFx(subject.model, "epsilon_plus"),
        "dense": LRPFx(subject.model, "epsilon_plus", top_k=TOP_K, optimize=WITHOUT),
        "sparse": LRPFx(subject.model, "epsilon_plus", top_k=TOP_K),
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


def table(rounds: int) -> list[str]:
    """Each network and batch as a line: the time as a multiple of the unfiltered one."""
    lines = [
        "| network | batch | unfiltered | filtered, dense | filtered, sparse |",
        "|---|---|---|---|---|",
    ]
    for name, label in NETWORKS.items():
        subject = network(name)
        for batch in BATCHES:
            run = runs(subject, batch, rounds)
            cells = [f"{run.ratio(way):.2f} ({run.ratio(way, False):.2f})" for way in WAYS[1:]]
            base = statistics.median(run.seconds["unfiltered"]) * 1e3
            lines.append(f"| {label} | {batch} | {base:.0f} ms | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="the page whose table is written anew")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    put(options.out, "sparsity", {"": table(options.rounds)})


if __name__ == "__main__":
    main()
