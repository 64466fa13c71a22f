"""Every figure looks as it did: small pictures that were looked at once.

``python -m tests.visualize.test_references`` writes them again; look at them before they are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from lrp_fx import ConceptLRPFx, LRPFx, visualize

FOLDER = Path(__file__).with_name("references")
WIDE = 96
"""The width of a reference in dots. Letters are a grey of their own size there, whatever the font."""
ALIKE = 5.0
"""Mean difference of the colours, of 255. Other versions of matplotlib and its font move letters and
lines by a dot, which changes up to a tenth of the dots by some thirty."""
APART = 60.0
"""The difference of a patch of 8 × 8 dots, of 255: less than that of a panel's colours, more than that
of a word that moved."""
FAST = {"show", "overlay outlines", "signal", "beeswarm", "tokens", "plan_figure"}


def image(sign: float = 1.0) -> Tensor:
    """A disc of positive relevance on the left, a square of negative relevance on the right."""
    ys, xs = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    disc = ((ys - 11) ** 2 + (xs - 6) ** 2 < 16).float()
    square = ((ys - 11).abs() < 4).float() * ((xs - 18).abs() < 4).float()
    return sign * (disc - square)[None]


def photograph() -> Image.Image:
    ramp = np.linspace(60, 200, 24).astype(np.uint8)
    return Image.fromarray(
        np.stack([np.tile(ramp, (24, 1)), np.tile(ramp[:, None], 24)] * 2, -1)[..., :3]
    )


def series(sign: float = 1.0) -> Tensor:
    """Two leads; the first has its relevance in front, the second at the end."""
    relevance = torch.zeros(2, 60)
    relevance[0, 5:20], relevance[1, 40:55] = sign, -sign
    return relevance


WAVES = torch.stack([torch.sin(torch.arange(60.0) / 4), torch.cos(torch.arange(60.0) / 6)])


def table(sign: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.linspace(-1, 1, 40)[:, None] * np.array([1.0, -1.0, 0.5])
    return sign * values * np.array([3.0, 1.0, 2.0]) ** 2, values


def scan(sign: float = 1.0) -> Tensor:
    volume = torch.zeros(8, 8, 8)
    volume[2:5, 2:5, 2:5], volume[5:7, 5:7, 5:7] = sign, -sign / 2
    return volume


@cache
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)]
    return nn.Sequential(*layers).eval()


X = torch.linspace(-1, 1, 36).reshape(1, 1, 6, 6)


def slider(sign: float) -> Any:
    """What the slider draws; a stand-in takes the place of ipywidgets, which tests do not need."""
    drawn: list[Any] = []

    class IntSlider:
        def __init__(self, value: int, **rest: Any) -> None:
            self.value = value

    def interactive(function: Any, **sliders: IntSlider) -> None:
        drawn.append(function(**{name: each.value for name, each in sliders.items()}))

    widgets: Any = ModuleType("ipywidgets")
    widgets.IntSlider, widgets.interactive = IntSlider, interactive
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ipywidgets", widgets)
        visualize.volume_slider(scan(sign), target="cat")
    return drawn[0]


FIGURES: dict[str, Callable[[float], Any]] = {
    "show": lambda sign: visualize.show(image(sign), photograph(), target="cat"),
    "overlay outlines": lambda sign: visualize.overlay(image(sign), photograph(), target="cat"),
    "overlay fade": lambda sign: visualize.overlay(image(sign), photograph(), style="fade"),
    "overlay contours": lambda sign: visualize.overlay(image(sign), photograph(), style="contours"),
    "grid": lambda sign: visualize.grid(
        {"a": image(sign), "b": image(-sign)}, photograph(), scale="shared"
    ),
    "show marks": lambda sign: visualize.show(
        image(sign), photograph(), marks=[(11, 6), (6, 14, 16, 23)]
    ),
    "graph": lambda sign: visualize.graph(
        sign * torch.tensor([1.0, -0.5, 0.0, 0.3]),
        [(0, 1), (1, 2, 2), (2, 3)],
        [(0, 0), (1, 0), (1.5, 1), (2.5, 1)],
        ["C", "O", "N", "C"],
        target="acid",
    ),
    "token_pairs": lambda sign: visualize.token_pairs(
        ["a", "cat"],
        ["the", "kit", "##ten"],
        sign * torch.tensor([[0.0, 0.1, -0.3], [0.1, 0.5, 1.0]]),
        target="likeness",
    ),
    "explanation_figure": lambda sign: visualize.explanation_figure(
        photograph(), {"a": image(sign), "b": image(-sign)}, title="cat", target="cat"
    ),
    "signal": lambda sign: visualize.signal(series(sign), WAVES, names=["I", "II"], target="cat"),
    "signal band": lambda sign: visualize.signal(series(sign), WAVES, style="band"),
    "channel_map": lambda sign: visualize.channel_map(series(sign), names=["I", "II"]),
    "bar": lambda sign: visualize.bar(sign * torch.tensor([3.0, -2.0, 1.0]), ["a", "b", "c"]),
    "beeswarm": lambda sign: visualize.beeswarm(*table(sign), ["a", "b", "c"]),
    "volume": lambda sign: visualize.volume(scan(sign), target="cat"),
    "volume_slider": slider,
    "tokens": lambda sign: visualize.tokens(
        ["a", "wonderful", "film", ",", "not", "dull"],
        sign * torch.tensor([0.0, 1.0, 0.2, 0.0, -0.6, -1.0]),
    ).figure("review"),
    "plan_figure": lambda sign: visualize.plan_figure(LRPFx(model()).plan()),
    "ledger_figure": lambda sign: visualize.ledger_figure(LRPFx(model()).audit(X, 1)),
    "concept_figure": lambda sign: visualize.concept_figure(
        ConceptLRPFx(model()).attribution_graph(X, 1, ["1", "0"], width=2)
    ),
    "colorize": lambda sign: visualize.colorize(image(sign)[0], 1.0),
    "as_pixels": lambda sign: visualize.as_pixels(
        photograph() if sign > 0 else photograph().rotate(180)
    ),
}
"""What is drawn of relevance, or of its opposite."""
UNSIGNED = {"plan_figure", "ledger_figure", "concept_figure"}
ELSEWHERE = {
    *("save", "save_heatmap", "save_overlay", "to_bytes", "to_pil"),
    *("heatmap", "color_limit", "color_maps", "stride_grid", "StrideGrid", "Tokens"),
}
"""Of these the files are those of a figure above (below), or the result is a number or a name."""
DRAWN = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in FIGURES]


def small(drawn: Any) -> NDArray[np.float64]:
    """A figure, or its pixels, as a small picture."""
    whole = Image.fromarray(drawn) if isinstance(drawn, np.ndarray) else visualize.to_pil(drawn)
    high = round(WIDE * whole.height / whole.width)
    return np.asarray(whole.resize((WIDE, high), Image.Resampling.BOX), dtype=np.float64)


def differences(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """The mean difference of two pictures, and that of the patch that differs most."""
    apart = np.abs(one - other).mean(-1)
    high, wide = (size // 8 * 8 for size in apart.shape)
    patches = apart[:high, :wide].reshape(high // 8, 8, wide // 8, 8).mean((1, 3))
    return float(apart.mean()), float(patches.max(initial=0.0))


def reference(name: str) -> NDArray[np.float64]:
    with Image.open(FOLDER / f"{name.replace(' ', '_')}.png") as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float64)


@pytest.mark.parametrize("name", DRAWN)
def test_it_looks_as_it_did(name: str) -> None:
    found, expected = small(FIGURES[name](1.0)), reference(name)
    assert abs(found.shape[0] - expected.shape[0]) <= 1  # a line of notes would be several dots
    rows = min(found.shape[0], expected.shape[0])
    mean, worst = differences(found[:rows], expected[:rows])
    assert mean < ALIKE, f"{name}: the mean difference is {mean:.1f}"
    assert worst < APART, f"{name}: a patch differs by {worst:.1f}"


@pytest.mark.parametrize("name", [each for each in DRAWN if each.values[0] not in UNSIGNED])
def test_the_opposite_relevance_looks_different(name: str) -> None:
    """The tolerances see what matters: other signs are another picture."""
    expected, other = reference(name), small(FIGURES[name](-1.0))
    rows = min(len(expected), len(other))
    assert np.abs(other[:rows] - expected[:rows]).max() > APART / 2
    mean, _ = differences(other[:rows], expected[:rows])
    again = differences(small(FIGURES[name](1.0))[:rows], expected[:rows])
    assert mean > 2 * again[0] + 0.3


def test_every_public_function_is_here() -> None:
    drawn = {name.partition(" ")[0] for name in FIGURES}
    assert drawn | ELSEWHERE == set(visualize.__all__)
    assert not drawn & ELSEWHERE
    sizes = [path.stat().st_size for path in FOLDER.glob("*.png")]
    assert len(sizes) == len(FIGURES)
    assert max(sizes) < 12_000


def test_files_hold_the_picture_of_the_figure(tmp_path: Path) -> None:
    shown, laid = FIGURES["show"](1.0), FIGURES["overlay outlines"](1.0)
    paths = {
        visualize.save(shown, tmp_path / "a.png"): shown,
        visualize.save_heatmap(image(), tmp_path / "b.png", photograph(), target="cat"): shown,
        visualize.save_overlay(image(), photograph(), tmp_path / "c.png", target="cat"): laid,
    }
    for path, figure in paths.items():
        with Image.open(path) as picture:
            assert np.array_equal(np.asarray(picture.convert("RGB")), visualize.to_pil(figure))
    small_one = visualize.save_heatmap(image(), tmp_path / "e.png", size=100, contours=(0.5,))
    with Image.open(small_one) as one, Image.open(tmp_path / "a.png") as other:
        assert one.height < other.height


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        picture = Image.fromarray(small(draw(1.0)).astype(np.uint8))
        picture.save(FOLDER / f"{name.replace(' ', '_')}.png", optimize=True)
