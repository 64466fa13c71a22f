"""Search the rules of a small network that reads digits, and judge what is found on held-out samples.

    python benchmarks/rule_search.py --out docs/search.md

Needs optuna and scikit-learn, whose digits are the data. For each seed the samples are split anew,
half for the search and half held out. The search maximizes SRG with one imputer; the last columns
judge the same maps with an imputer that it did not see.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from harness.tables import options, put, say, table
from sklearn.datasets import load_digits
from torch import Tensor, nn

import lrp_fx
from lrp_fx.evaluate import SRG, Blur, Estimate, Mean, Patches, SearchResult, Space, evaluate

PATCHES, STEPS = Patches(8), 16


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
    seed: int, model: nn.Module, x: Tensor, t: Tensor, found: SearchResult, seconds: float
) -> tuple[str, ...]:
    """What was chosen by the search, minus the best preset, by both imputers."""
    rival, name = best_preset(found), found.chosen.name
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held = order[: len(found.held_out.samples)]
    other = SRG(regions=PATCHES, imputer=Blur(1.5), steps=STEPS)
    pair = {each.name: each for each in found.candidates if each.name in (rival, name)}
    methods = {
        key: lrp_fx.evaluate.explain_with(each.attribution(model)) for key, each in pair.items()
    }
    report = evaluate(model, methods, [other], x[held], t[held])
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


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--samples", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    images, classes = digits()
    model = trained(images[:1200], classes[:1200])
    x = images[1200 : 1200 + given.samples]
    with torch.no_grad():
        t = model(x).argmax(1)
        accuracy = (model(images[1200:]).argmax(1) == classes[1200:]).float().mean()
    say(f"accuracy on {len(images) - 1200} other digits: {accuracy:.3f}")
    metric = SRG(regions=PATCHES, imputer=Mean(), steps=STEPS)
    rows, results = [], []
    for seed in range(given.seeds):
        began = time.perf_counter()
        space = Space(bounds=(0.0, 1.0))
        found = lrp_fx.search(model, x, t, metric, trials=given.trials, seed=seed, space=space)
        results.append(found)
        rows.append(row(seed, model, x, t, found, time.perf_counter() - began))
        say(found.chosen.code)
    head = ("seed", "best preset", "chosen", "cost", "gain, mean", "gain, blur", "seconds")
    candidates = results[0].to_markdown().splitlines()
    put(
        given.out,
        "rule_search",
        {"gain": table(head, rows, "   rrrr"), "candidates": candidates},
    )


if __name__ == "__main__":
    main()
