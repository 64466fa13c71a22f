"""Do the pixels that a map calls relevant matter to the network? Measured on real photographs.

    python benchmarks/faithfulness.py --out docs/

EfficientNet-Lite0 with its ImageNet weights, on the 20 labelled photographs in the package foolbox.
Two measures:

* **pixel flipping**: patches are replaced by a blurred copy, most relevant first or least relevant
  first; the area between the two curves of the probability says how well the map ranks patches;
* **focus**: four photographs make a mosaic, one of them is explained; which share of the positive
  relevance falls into its quadrant.

All sentences of the page that compare are chosen from the measured figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import random
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from captum.attr import Attribution, InputXGradient, Saliency
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from lrp_fx import LRPFx
from lrp_fx.composites import Epsilon, EpsilonGammaBox, EpsilonPlus, EpsilonPlusFlat, ZPlus
from lrp_fx.zoo import LoadedModel, load

GRID = 14  # patches along each side: 16 pixels each
REFERENCE = "EpsilonPlus"
CHANCE = 0.25  # of the focus: four quadrants
CLEAR = 2.0  # standard errors of the paired difference that make it more than chance

# Measured earlier with zennit on the same network and photographs, also with 14x14 patches and a
# blurred copy; how strong the blur was, and in which steps patches went, is not recorded.
EARLIER = {"EpsilonGammaBox": 0.354, "EpsilonPlusFlat": 0.325, "EpsilonPlus": 0.314}

Explain = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """A way to maps: from images (N, 3, H, W) and targets (N,) to relevance of the images' shape."""

    name: str
    kind: str
    explain: Explain


@dataclass
class Result:
    """What one method reached, one value per photograph or per explanation of a mosaic."""

    name: str
    kind: str
    gaps: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    focus: list[float] = field(default_factory=list)


# --- the methods --------------------------------------------------------------------------------


def methods(loaded: LoadedModel) -> list[Method]:
    """Our presets, two of Captum's gradient methods, and chance."""
    model = loaded.model
    presets = {
        "EpsilonGammaBox": EpsilonGammaBox(*loaded.bounds),
        "EpsilonPlusFlat": EpsilonPlusFlat(),
        "EpsilonPlus": EpsilonPlus(),
        "ZPlus": ZPlus(),
        "Epsilon": Epsilon(),
    }
    return [
        *(
            Method(name, "lrp_fx", partial(by_attribution, LRPFx(model, each)))
            for name, each in presets.items()
        ),
        Method("Saliency", "Captum", partial(by_attribution, Saliency(model))),
        Method("InputXGradient", "Captum", partial(by_attribution, InputXGradient(model))),
        Method("noise", "chance", by_chance),
    ]


def by_attribution(method: Attribution, x: Tensor, target: Tensor) -> Tensor:
    with warnings.catch_warnings():  # Captum says of every plain input that it needs no gradients
        warnings.simplefilter("ignore", UserWarning)
        relevance: Tensor = method.attribute(x.clone(), target=target).detach()
    return relevance


def by_chance(x: Tensor, target: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def photographs(loaded: LoadedModel) -> tuple[Tensor, Tensor]:
    """The 20 photographs as inputs of the network, and their labels."""
    package = importlib.util.find_spec("foolbox")  # found, not imported: only its data are wanted
    if package is None:
        raise SystemExit('the photographs are missing: pip install "lrp_fx[bench]"')
    (folder,) = package.submodule_search_locations or ()
    files = sorted(Path(folder, "data").glob("imagenet_*.jpg"))
    inputs = torch.stack([loaded.preprocess(Image.open(file)) for file in files])
    return inputs, torch.tensor([int(file.stem.rpartition("_")[2]) for file in files])


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


def measure(
    method: Method, loaded: LoadedModel, x: Tensor, labels: Tensor, settings: argparse.Namespace
) -> Result:
    """All measures of one method."""
    model, result = loaded.model, Result(method.name, method.kind)
    with torch.no_grad():
        logits = model(x)
    targets = logits.argmax(1)  # what the network sees, right or wrong
    width = 2 * math.ceil(3 * settings.blur) + 1
    for place, target in enumerate(targets.tolist()):
        image = x[place]
        blurred = gaussian_blur(image, [width, width], [settings.blur, settings.blur])
        relevance = method.explain(image[None], targets[place, None])[0]
        heat = relevance.sum(0)
        gap = flipping_gap(model, image, blurred, heat, target, settings.steps)
        result.gaps.append(gap)
        result.shares.append((relevance.sum() / logits[place, target]).item())
    known = [place for place in range(len(x)) if targets[place] == labels[place]]
    for chosen in mosaics(labels, known, settings.mosaics):
        mosaic = mosaic_of(x[chosen])[None]
        for quadrant, place in enumerate(chosen):
            heat = method.explain(mosaic, labels[place, None])[0].sum(0)
            result.focus.append(focus_of(heat, quadrant))
    return result


def left_after_blurring(model: nn.Module, x: Tensor, blur: float) -> float:
    """The median probability of the explained class that is left when all patches are replaced."""
    width = 2 * math.ceil(3 * blur) + 1
    with torch.no_grad():
        target = model(x).argmax(1, keepdim=True)
        blurred = gaussian_blur(x, [width, width], [blur, blur])
        left = model(blurred).softmax(1).gather(1, target)
    return left.median().item()


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))


def above(result: Result, other: Result) -> tuple[float, float]:
    """By how much a method's gap is above another's on the same photographs, and the error."""
    return mean_and_error([a - b for a, b in zip(result.gaps, other.gaps, strict=True)])


# --- the page -----------------------------------------------------------------------------------


def shown(values: Sequence[float]) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.3f} ± {error:.3f}".replace("-", "−")


def joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def table(results: Sequence[Result]) -> list[str]:
    has_focus = bool(results[0].focus)
    names = ["method", "SRG", f"SRG above {REFERENCE}", "Σ relevance / output"]
    names += ["focus"] if has_focus else []
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    reference = by_name(results, REFERENCE)
    for result in results:
        same = result is reference
        conserving = result.name not in ("Saliency", "noise")
        difference, error = above(result, reference)
        cells = [
            f"{result.name} ({result.kind})",
            shown(result.gaps),
            "" if same else f"{difference:+.3f} ± {error:.3f}".replace("-", "−"),
            f"{statistics.median(result.shares):.2g}".replace("-", "−") if conserving else "",
        ]
        cells += [shown(result.focus)] if has_focus else []
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def by_name(results: Sequence[Result], name: str) -> Result:
    return next(result for result in results if result.name == name)


def ranking(results: Sequence[Result]) -> str:
    """Which differences of the flipping measure are more than chance."""
    best = max(results, key=lambda result: statistics.mean(result.gaps))
    level, worse = [], []
    for result in results:
        if result is not best:
            difference, error = above(best, result)
            (worse if difference > CLEAR * error else level).append(result.name)
    text = f"{best.name} ranks the patches best"
    if worse:
        text += f", clearly ({CLEAR:g} standard errors of the paired difference) above "
        text += joined(worse)
    return text + (f"; {joined(level)} cannot be told from it here." if level else ".")


def conservation(results: Sequence[Result]) -> str:
    """What the sums of relevance say of faithfulness, by the rank of both over our presets."""
    ours = [result for result in results if result.kind == "lrp_fx"]
    nearest = min(ours, key=lambda r: abs(statistics.median(r.shares) - 1))
    best = max(ours, key=lambda r: statistics.mean(r.gaps))
    share = f"{statistics.median(nearest.shares):.2g}".replace("-", "−")
    verdict = (
        f"and it is also the best in this measure ({shown(nearest.gaps)})"
        if nearest is best
        else f"but its SRG is {shown(nearest.gaps)}, that of {best.name} {shown(best.gaps)}"
    )
    return (
        "Little of the explained output reaches the pixels under any of these rules: the folded "
        "batch norms leave large biases, which keep their share. Nor does a sum near the output "
        f"make a good map: {nearest.name} comes nearest with a median share of {share}, {verdict}."
    )


def earlier(results: Sequence[Result]) -> str:
    """How the figures compare with those measured earlier with zennit."""
    compared, outside = [], []
    for name, value in EARLIER.items():
        mean, error = mean_and_error(by_name(results, name).gaps)
        compared.append(f"{name} {value} there and {mean:.3f} here")
        if abs(mean - value) > error:
            outside.append(name)
    verdict = (
        "all within one standard error"
        if not outside
        else f"{joined(outside)} not within one standard error"
    )
    return (
        "An earlier measurement with zennit, on the same network and photographs and of the same "
        f"kind, found {joined(compared)}: {verdict}. The maps themselves are the same "
        "(`tests/promises/test_photographs.py` compares them pixel by pixel), so what differs is the "
        "flipping: how strong that blur was and in which steps the patches went is not recorded."
    )


def page(results: Sequence[Result], settings: argparse.Namespace, left: float) -> str:
    ordered = sorted(results, key=lambda result: -statistics.mean(result.gaps))
    size = 224 // GRID
    lines = [
        "<!-- written by benchmarks/faithfulness.py: change that file, not this one -->",
        "# Faithfulness: do the maps point at what the network uses?",
        "",
        "EfficientNet-Lite0 (ImageNet weights, batch norm folded by lrp_fx), the 20 labelled "
        "photographs of the package foolbox, explained for the class that the network sees.",
        "",
        *table(ordered),
        "",
        "Means and standard errors over the photographs; the differences are paired, photograph by "
        "photograph, and have smaller errors than the means. The share of the output is a median. "
        "*noise* is a map of random numbers: what chance reaches.",
        "",
        f"- {ranking(results)}",
        f"- {conservation(results)}",
        f"- {earlier(results)}",
        "",
        "## What is measured",
        "",
        f"**SRG** (symmetric relevance gain): {GRID} × {GRID} patches of {size} × {size} pixels are "
        f"replaced by a blurred copy of the photograph (Gaussian, σ = {settings.blur:g} pixels) in "
        f"{settings.steps} steps, once the least relevant first and once the most relevant first. "
        "The difference of the areas under the two curves of the class's probability is the SRG: "
        "the larger, the better the map ranks the patches; 0 is chance. With all patches replaced "
        f"a probability of {left:.2g} is left (median).",
        "",
    ]
    if settings.mosaics:
        lines += [
            "**Focus**: four photographs of different classes make a mosaic of 448 × 448 pixels "
            f"({settings.mosaics} mosaics, {4 * settings.mosaics} explanations); the share of the "
            "positive relevance that lies in the quadrant of the explained class. Chance is "
            f"{CHANCE}.",
            "",
        ]
    lines += [
        "Twenty photographs and one network are few: the order of neighbours in the table may turn "
        "elsewhere, and pixel flipping depends on what replaces the patches.",
        "",
        "```",
        command(settings),
        "```",
        "",
    ]
    return "\n".join(lines)


def command(settings: argparse.Namespace) -> str:
    """The command line that repeats this run."""
    words = ["python benchmarks/faithfulness.py --out docs/"]
    for name, default in vars(parser().parse_args([])).items():
        value = getattr(settings, name)
        if name not in ("out", "threads") and value != default:
            words.append(f"--{name} {value:g}")
    return " ".join(words)


# --- the command --------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description="Measure how faithful relevance maps are; write a page."
    )
    options.add_argument("--out", type=Path, default=Path("docs"), help="directory for the page")
    options.add_argument("--blur", type=float, default=10.0, help="σ of the blurred copy, pixels")
    options.add_argument("--steps", type=int, default=28, help="of the flipping curve")
    options.add_argument("--mosaics", type=int, default=8, help="for the focus; 0 for none")
    options.add_argument("--threads", type=int, default=1)
    return options


def main() -> None:
    settings = parser().parse_args()
    torch.set_num_threads(settings.threads)
    loaded = load("efficientnet-lite0")
    x, labels = photographs(loaded)
    results = []
    for method in methods(loaded):
        results.append(measure(method, loaded, x, labels, settings))
        focus = f", focus {shown(results[-1].focus)}" if settings.mosaics else ""
        print(f"{method.name}: SRG {shown(results[-1].gaps)}{focus}", file=sys.stderr, flush=True)
    left = left_after_blurring(loaded.model, x, settings.blur)
    settings.out.mkdir(parents=True, exist_ok=True)
    text = page(results, settings, left)
    (settings.out / "faithfulness.md").write_text(text, encoding="utf-8")
    print(f"written: {settings.out}/faithfulness.md", file=sys.stderr)


if __name__ == "__main__":
    main()
