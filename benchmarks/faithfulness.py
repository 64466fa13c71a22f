"""Do the pixels that a map calls relevant matter to the network? Measured on real photographs.

    python benchmarks/faithfulness.py

EfficientNet-Lite0 with its ImageNet weights, on the 20 labelled photographs in the package foolbox.
The table, which no page shows, has two measures:

* **SRG**, by pixel flipping: patches are replaced by a blurred copy, most relevant first or least
  relevant first. The area between the two curves of the probability says how well the map ranks patches;
  0 is chance.
* **focus**: four photographs make a mosaic, one of them is explained. It is the share of the positive
  relevance that falls into its quadrant; a quarter is chance.

*noise* is a map of random numbers. Figures are means with their standard errors over the photographs. The
differences from ``EpsilonPlus`` are paired, photograph by photograph.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from captum.attr import Attribution, InputXGradient, Saliency
from harness.networks import loaded, photographs
from harness.tables import options, put, say, table
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from lrp_fx import LRPFx
from lrp_fx.composites import Epsilon, EpsilonGammaBox, EpsilonPlus, EpsilonPlusFlat, ZPlus

GRID = 14  # patches along each side: 16 pixels each
REFERENCE = "EpsilonPlus"
NO_SHARES = ("Saliency", "noise")  # their sums are no shares of the output
CHANCE = 0.25  # of the focus: four quadrants

Explain = Callable[[Tensor, Tensor], Tensor]
"""From images (N, 3, H, W) and targets (N,) to relevance of the images' shape."""


@dataclass
class Result:
    """What one method reached, one value per photograph or per explanation of a mosaic."""

    gaps: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    focus: list[float] = field(default_factory=list)


def methods() -> dict[str, Explain]:
    """Our presets, two of Captum's gradient methods, and chance."""
    model = loaded().model
    presets = {
        "EpsilonGammaBox": EpsilonGammaBox(*loaded().bounds),
        "EpsilonPlusFlat": EpsilonPlusFlat(),
        "EpsilonPlus": EpsilonPlus(),
        "ZPlus": ZPlus(),
        "Epsilon": Epsilon(),
    }
    return {
        **{name: partial(by_attribution, LRPFx(model, each)) for name, each in presets.items()},
        "Saliency": partial(by_attribution, Saliency(model)),
        "InputXGradient": partial(by_attribution, InputXGradient(model)),
        "noise": by_chance,
    }


def by_attribution(method: Attribution, x: Tensor, target: Tensor) -> Tensor:
    with warnings.catch_warnings():  # Captum says of every plain input that it needs no gradients
        warnings.simplefilter("ignore", UserWarning)
        relevance: Tensor = method.attribute(x.clone(), target=target).detach()
    return relevance


def by_chance(x: Tensor, target: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


# --- pixel flipping -----------------------------------------------------------------------------


def flipping_gap(
    model: nn.Module, image: Tensor, blurred: Tensor, heat: Tensor, target: int, steps: int
) -> float:
    """SRG, the symmetric relevance gain: area under least-relevant-first less most-relevant-first.

    Args:
        model: from images to logits.
        image: (3, H, W).
        blurred: what patches are replaced by, (3, H, W).
        heat: relevance per pixel, (H, W).
        target: the class whose probability is followed.
        steps: in how many steps all patches go.
    """
    size = image.shape[-1] // GRID
    order = F.avg_pool2d(heat[None, None], size).flatten().argsort(descending=True)
    most, least = (
        flipping_area(model, image, blurred, each, target, steps) for each in (order, order.flip(0))
    )
    return least - most


@torch.no_grad()
def flipping_area(
    model: nn.Module, image: Tensor, blurred: Tensor, order: Tensor, target: int, steps: int
) -> float:
    """The mean probability of the target while patches are replaced in the given order."""
    size = image.shape[-1] // GRID
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.reshape(GRID, GRID).repeat_interleave(size, 0).repeat_interleave(size, 1)
    replaced = [round(len(order) * step / steps) for step in range(steps + 1)]
    images = torch.stack([torch.where(rank < count, blurred, image) for count in replaced])
    curve = model(images).softmax(1)[:, target]
    return ((curve[1:] + curve[:-1]) / 2).mean().item()


# --- focus --------------------------------------------------------------------------------------


def mosaics(labels: Tensor, known: Sequence[int], count: int) -> list[list[int]]:
    """``count`` choices of four photographs of four classes, among those that the network knows."""
    draw = random.Random(0)
    found: list[list[int]] = []
    while len(found) < count:
        four = draw.sample(known, 4)
        if len({int(labels[each]) for each in four}) == 4:
            found.append(four)
    return found


def mosaic_of(four: Tensor) -> Tensor:
    """Four images (4, 3, H, W) as one of twice the size, (3, 2H, 2W)."""
    rows = torch.cat([four[:2], four[2:]], dim=2)
    return torch.cat([rows[0], rows[1]], dim=2)


def focus_of(heat: Tensor, quadrant: int) -> float:
    """The share of the positive relevance (2H, 2W) that lies in the quadrant of :func:`mosaic_of`.

    A map without positive relevance (z⁺ everywhere, for a class whose logit is negative) points
    nowhere and gets what chance would.
    """
    height, width = (size // 2 for size in heat.shape)
    row, column = divmod(quadrant, 2)
    positive = heat.clamp(min=0)
    inside = positive[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return (inside.sum() / positive.sum()).item() if positive.any() else CHANCE


# --- measuring ----------------------------------------------------------------------------------


def measure(explain: Explain, x: Tensor, labels: Tensor, settings: argparse.Namespace) -> Result:
    """All measures of one method."""
    model, result = loaded().model, Result()
    with torch.no_grad():
        logits = model(x)
    targets = logits.argmax(1)  # what the network sees, right or wrong
    width = 2 * math.ceil(3 * settings.blur) + 1
    for place, target in enumerate(targets.tolist()):
        image = x[place]
        blurred = gaussian_blur(image, [width, width], [settings.blur, settings.blur])
        relevance = explain(image[None], targets[place, None])[0]
        gap = flipping_gap(model, image, blurred, relevance.sum(0), target, settings.steps)
        result.gaps.append(gap)
        result.shares.append((relevance.sum() / logits[place, target]).item())
    known = [place for place in range(len(x)) if targets[place] == labels[place]]
    for four in mosaics(labels, known, settings.mosaics):
        mosaic = mosaic_of(x[four])[None]
        for quadrant, place in enumerate(four):
            heat = explain(mosaic, labels[place, None])[0].sum(0)
            result.focus.append(focus_of(heat, quadrant))
    return result


def shown(values: Sequence[float], sign: str = "") -> str:
    """The mean and its standard error."""
    if len(values) < 2:
        return ""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):{sign}.3f} ± {error:.3f}".replace("-", "−")


def rows(results: dict[str, Result]) -> list[list[str]]:
    """A line for each method, the best first."""
    reference = results[REFERENCE].gaps
    return [
        [
            name,
            shown(result.gaps),
            shown([a - b for a, b in zip(result.gaps, reference, strict=True)], "+"),
            ""
            if name in NO_SHARES
            else f"{statistics.median(result.shares):.2g}".replace("-", "−"),
            shown(result.focus),
        ]
        for name, result in sorted(results.items(), key=lambda item: -statistics.mean(item[1].gaps))
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--blur", type=float, default=10.0, help="σ of the blurred copy, pixels")
    parser.add_argument("--steps", type=int, default=28, help="of the flipping curve")
    parser.add_argument("--mosaics", type=int, default=8, help="for the focus; 0 for none")
    parser.add_argument("--photographs", type=int, default=20, help="how many")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    x, labels = (each[: settings.photographs] for each in photographs())
    results = {}
    for name, explain in methods().items():
        results[name] = measure(explain, x, labels, settings)
        say(f"{name}: SRG {shown(results[name].gaps)}, focus {shown(results[name].focus)}")
    head = ["method", "SRG", f"SRG above {REFERENCE}", "Σ relevance / output, median", "focus"]
    put(settings.out, "faithfulness", {"": table(head, rows(results))})


if __name__ == "__main__":
    main()
