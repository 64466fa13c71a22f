"""The first map of a model, by stages, and the first map for another shape.

    python benchmarks/first_map.py --out docs/performance.md

CPU seconds on one thread, batch 1. The last columns show the first map of a process that finds the graph
in a folder (``cache=``), and what comes on top of a later map in the first one for another shape (another
batch size, and for texts another length).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from harness.contestants import TARGET, quietly
from harness.networks import Bert, settle_batch_norm, torchvision_network
from harness.results import Results, Run, measure, with_results
from harness.tables import put, say, shown, table
from harness.timing import environment, quartiles, timed
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.attribution import cache
from lrp_fx.capture import reading

LENGTH, OTHER_LENGTH = 128, 57
STAGES = {
    "model": "run of the model",
    "capture": "capture",
    "verify": "verification",
    "canonize": "canonization",
    "plan": "plan",
    "rewrite": "rewriting",
    "rest": "weights, first run",
}
CALLS: dict[str, tuple[tuple[Any, str], ...]] = {
    "model": ((cache, "run_followed"),),
    "capture": ((reading, "_captured"), (reading, "observers")),
    "verify": (
        (reading, "reproduces"),
        (cache, "reproduces"),
        (cache, "leaves_same_trail"),
    ),
    "canonize": ((cache, "canonize"),),
    "plan": ((cache, "plan_of_view"),),
    "rewrite": ((cache, "rewrite"),),
}
"""The functions whose time counts for each stage; what is left belongs to the last one."""


class LanguageModel(nn.Module):
    """A GPT-2 that predicts the next token."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.network = GPT2LMHeadModel(GPT2Config())

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=tokens).logits[:, -1]
        return logits


class Encoder(nn.Module):
    """A classifier of sequences with two layers of torch's encoder."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x).mean(1))
        return logits


class Recurrent(nn.Module):
    """A classifier of sequences with two LSTM layers of both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LSTM(64, 128, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(x)[0].mean(1))
        return logits


@dataclass(frozen=True)
class Case:
    """A network, and inputs of two shapes."""

    title: str
    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((1, 3, 224, 224), (2, 3, 224, 224))
    tokens: int = 0

    def make(self) -> nn.Module:
        torch.manual_seed(0)
        model = self.build().eval()
        if not self.tokens and len(self.shapes[0]) == 4:
            settle_batch_norm(model, torch.randn(2, *self.shapes[0][1:]))
        return model.eval().requires_grad_(False)

    def inputs(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        if self.tokens:
            return [torch.randint(self.tokens, s, generator=generator) for s in self.shapes]
        return [torch.randn(s, generator=generator) for s in self.shapes]


def _vision(name: str, title: str) -> Case:
    kind = "vision transformer" if name.startswith("vit") else "convolutional"
    return Case(title, torchvision_network(name, title, kind).build)  # type: ignore[arg-type]


_TEXT = ((1, LENGTH), (2, OTHER_LENGTH))
CASES = {
    "resnet50": _vision("resnet50", "ResNet-50"),
    "mobilenet_v2": _vision("mobilenet_v2", "MobileNet-V2"),
    "convnext_tiny": _vision("convnext_tiny", "ConvNeXt-T"),
    "vit_b_16": _vision("vit_b_16", "ViT-B/16"),
    "swin_t": _vision("swin_t", "Swin-T"),
    "bert": Case(f"BERT-base, {LENGTH} tokens", partial(Bert, 12), _TEXT, 30522),
    "gpt2": Case(f"GPT-2, {LENGTH} tokens", LanguageModel, _TEXT, 50257),
    "lstm": Case("BiLSTM of 2 layers, 400 steps", Recurrent, ((1, 400, 64), (2, 300, 64))),
    "encoder": Case("encoder of 2 layers", Encoder, ((1, 20, 64), (3, 33, 64))),
}


@contextmanager
def stages() -> Iterator[dict[str, float]]:
    """CPU seconds in each stage, without those of the stages inside."""
    found: dict[str, float] = dict.fromkeys(CALLS, 0.0)
    inside: list[float] = []

    def watched(stage: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        inside.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            used = time.process_time() - began
            found[stage] += used - inside.pop()
            if inside:
                inside[-1] += used

    with ExitStack() as patches:
        for stage, places in CALLS.items():
            for owner, name in places:
                new = partial(watched, stage, getattr(owner, name))
                patches.enter_context(mock.patch.object(owner, name, new))
        yield found


def first_map(name: str, repeats: int) -> Run:
    """CPU seconds of the stages of a first map, of a later one, and of one for another shape."""
    quietly()
    torch.set_num_threads(1)
    LRPFx(Encoder().eval()).attribute(torch.randn(2, 5, 64), target=0)  # loads code
    case = CASES[name]
    model, (x, other) = case.make(), case.inputs()
    clock = time.process_time
    found: dict[str, list[float]] = {}

    def forward() -> None:
        with torch.no_grad():
            model(x)

    forward()
    folder = TemporaryDirectory()
    LRPFx(model, cache=folder.name).plan(x)
    for _ in range(repeats):
        lrp = LRPFx(model, cache=folder.name)
        kept = timed(partial(lrp.attribute, x, target=TARGET), clock=clock)
        lrp = LRPFx(model)
        call = partial(lrp.attribute, x, target=TARGET)
        with stages() as parts:
            first = timed(call, clock=clock)
        run = {
            **parts,
            "rest": first - sum(parts.values()),
            "first": first,
            "kept": kept,
            "later": timed(call, clock=clock),
            "forward": timed(forward, 2, clock=clock),
        }
        call = partial(lrp.attribute, other, target=TARGET)
        run["other first"], run["other later"] = (timed(call, clock=clock) for _ in range(2))
        for key, seconds in run.items():
            found.setdefault(key, []).append(seconds)
    return {
        "environment": environment(),
        "seconds": found,
        "way": lrp.plan(x).way,
        "readings": sum(map(len, lrp._explainer._readings.values())),
    }


def measure_all(settings: argparse.Namespace) -> None:
    for name in settings.models:
        run = measure(settings.results, "fixed", f"first {name}", first_map, name, settings.repeats)
        if run:
            first = quartiles(run["seconds"]["first"]).median
            say(f"{name}: first map {first:.2f} s, {run['way']}, {run['readings']} reading(s)")


def tables(results: Results) -> dict[str, list[str]]:
    rows = []
    for name, case in CASES.items():
        runs = results.of("fixed", f"first {name}")
        if not runs:
            continue
        run, seconds = runs[-1], runs[-1]["seconds"]
        pairs = list(zip(seconds["first"], seconds["forward"], strict=True))
        beyond = quartiles([first - 2 * forward for first, forward in pairs])
        others = zip(seconds["other first"], seconds["other later"], strict=True)
        kept = zip(seconds.get("kept", []), seconds["forward"], strict=False)
        found = [first - 2 * forward for first, forward in kept]
        added = quartiles([first - later for first, later in others])
        rows.append(
            [
                case.title,
                run["way"],
                f"{quartiles(seconds['forward']).median:.2f}",
                *(f"{quartiles(seconds[stage]).median:.2f}" for stage in STAGES),
                f"{quartiles(seconds['later']).median:.2f}",
                shown(beyond),
                f"{quartiles(found).median:.2f}" if found else "",
                f"{added.median:.2f}",
            ]
        )
    head = ["", "capture", "plain forward", *STAGES.values()]
    head += ["a later map", "first map beyond two forwards", "the same with a cache"]
    head += ["another shape, beyond a later map"]
    return {"": table(head, rows)}


def main() -> None:
    parser = with_results(__doc__)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    settings = parser.parse_args()
    if not settings.only_tables:
        measure_all(settings)
    put(settings.out, "first_map", tables(Results.read(settings.results)))


if __name__ == "__main__":
    main()
