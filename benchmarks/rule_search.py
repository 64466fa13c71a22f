"""Search the rules of two networks, and judge what is found on samples that the search did not see.

    python benchmarks/rule_search.py --out docs/search.md
    python benchmarks/rule_search.py --networks digits

The first reads scikit-learn's digits; for each seed they are split anew, half for the search and half
held out. The other is EfficientNet-Lite0: the search sees the photographs of one package, and those of
two other packages are held out. The search maximizes SRG with one imputer; the last column judges the
same maps with an imputer that it did not see. Needs optuna and scikit-learn, and for the photographs
foolbox, gradio and scikit-image.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from harness.networks import loaded, other_photographs, photographs
from harness.tables import options, put, say, table
from sklearn.datasets import load_digits
from torch import Tensor, nn

import lrp_fx
from lrp_fx.evaluate import (
    SRG,
    Blur,
    Estimate,
    Mean,
    Metric,
    Patches,
    SearchResult,
    Space,
    evaluate,
)

PATCHES, STEPS = Patches(8), 16
STEPS_ON_PHOTOGRAPHS = 4
HEAD = ("seed", "best preset", "chosen", "cost", "gain, searched", "gain, unseen", "seconds")
NETWORKS = ("digits", "photographs")


def digits() -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) with values from 0 to 1, and their classes."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def trained(images: Tensor, classes: Tensor) -> nn.Module:
    """A network of four convolutions and two dense layers, trained for a few seconds."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inside, outside in ((1, 16), (16, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if inside == outside == 16 else []
    layers += [nn.Flatten(), nn.Linear(32 * 16, 32), nn.ReLU(), nn.Linear(32, 10)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(8):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), classes[batch]).backward()
            optimizer.step()
    return model.eval()


def best_preset(found: SearchResult) -> str:
    """The preset that was best on the samples of the search."""
    presets = [each for each in found.trials if not each.candidate.name.startswith("trial")]
    return max(presets, key=lambda each: each.score).candidate.name


def row(
    seed: int,
    model: nn.Module,
    held_out: tuple[Tensor, Tensor],
    found: SearchResult,
    other: Metric,
    seconds: float,
) -> tuple[str, ...]:
    """What was chosen by the search, minus the best preset, by the searched metric and another."""
    rival, name = best_preset(found), found.chosen.name
    pair = {each.name: each for each in found.candidates if each.name in (rival, name)}
    methods = {
        key: lrp_fx.evaluate.explain_with(each.attribution(model)) for key, each in pair.items()
    }
    report = evaluate(model, methods, [other], *held_out)
    searched = found.held_out.differences(rival).cells.get((name, found.metric.name))
    unseen = report.differences(rival).cells.get((name, other.name))
    return (
        *(str(seed), rival, name, f"{found.trial(name).cost:.1f}"),
        *(_cell(searched), _cell(unseen), f"{seconds:.0f}"),
    )


def _cell(difference: Estimate | None) -> str:
    return (
        "the same" if difference is None else f"{difference.text('+')} {difference.interval('+')}"
    )


def on_digits(trials: int, samples: int, seeds: int) -> dict[str, list[str]]:
    """The tables of the digits."""
    images, classes = digits()
    model = trained(images[:1200], classes[:1200])
    x = images[1200 : 1200 + samples]
    with torch.no_grad():
        t = model(x).argmax(1)
        accuracy = (model(images[1200:]).argmax(1) == classes[1200:]).float().mean()
    say(f"accuracy on {len(images) - 1200} other digits: {accuracy:.3f}")
    metric = SRG(regions=PATCHES, imputer=Mean(), steps=STEPS)
    other = SRG(regions=PATCHES, imputer=Blur(1.5), steps=STEPS)
    rows, results = [], []
    for seed in range(seeds):
        began = time.perf_counter()
        space = Space(bounds=(0.0, 1.0))
        found = lrp_fx.search(model, x, t, metric, trials=trials, seed=seed, space=space)
        results.append(found)
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
        held = order[: len(found.held_out.samples)]
        seconds = time.perf_counter() - began
        rows.append(row(seed, model, (x[held], t[held]), found, other, seconds))
        say(found.chosen.code)
    candidates = results[0].to_markdown().splitlines()
    return {"gain": table(HEAD, rows, "   rrrr"), "candidates": candidates}


def on_photographs(trials: int, count: int) -> dict[str, list[str]]:
    """The tables of EfficientNet-Lite0."""
    model, began = loaded().model, time.perf_counter()
    searched, held_out = (
        (x, classes_of(model, x)) for x in (photographs()[0][:count], other_photographs())
    )
    found = lrp_fx.search(
        model,
        *searched,
        SRG(steps=STEPS_ON_PHOTOGRAPHS),
        trials=trials,
        held_out=held_out,
        space=Space(bounds=loaded().bounds),
        batch_size=1,
    )
    say(found.chosen.code)
    seconds = time.perf_counter() - began
    gain = row(0, model, held_out, found, SRG(imputer=Mean(), steps=STEPS_ON_PHOTOGRAPHS), seconds)
    return {
        "gain on photographs": table(HEAD, [gain], "   rrrr"),
        "candidates on photographs": [*found.to_markdown().splitlines(), "", *_code(found)],
    }


def _code(found: SearchResult) -> list[str]:
    return ["What was chosen:", "", "```text", *found.chosen.code.splitlines(), "```"]


@torch.no_grad()
def classes_of(model: nn.Module, x: Tensor) -> Tensor:
    """What the network sees, (N,)."""
    classes: Tensor = model(x).argmax(1)
    return classes


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--samples", type=int, default=120, help="digits")
    parser.add_argument("--photographs", type=int, default=20, help="that the search sees")
    parser.add_argument("--seeds", type=int, default=3, help="searches on digits")
    given = parser.parse_args()
    tables: dict[str, list[str]] = {}
    if "digits" in given.networks:
        tables |= on_digits(given.trials, given.samples, given.seeds)
    if "photographs" in given.networks:
        tables |= on_photographs(given.trials, given.photographs)
    put(given.out, "rule_search", tables)


if __name__ == "__main__":
    main()
