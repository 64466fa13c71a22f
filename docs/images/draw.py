"""Draw the pictures of docs/pictures.md again: ``python docs/images/draw.py``.

Signals, tables and words are made up, and so is their relevance; gallery.py draws true ones.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from lrp_fx import LRPFx, visualize
from lrp_fx.zoo import load

HERE = Path(__file__).parent
PHOTOGRAPHS = HERE.parents[1] / "examples" / "photographs"
SHADES = (48, 40, 32, 24, 20, 16)  # of each primary colour
LARGEST = 60_000  # bytes


def main() -> None:
    for name, figure in [*of_photograph(), *made_up()]:
        keep(figure, HERE / f"{name}.png")


def of_photograph() -> Iterator[tuple[str, Figure]]:
    """A cup, explained by EfficientNet-Lite0."""
    loaded = load("efficientnet-lite0")
    with Image.open(PHOTOGRAPHS / "coffee.jpg") as photograph:
        x, seen = loaded.preprocess(photograph)[None], loaded.display(photograph)
    target = int(loaded.model(x).argmax())
    name = loaded.categories[target]
    relevance = LRPFx(loaded.model).attribute(x, target=target)
    yield "pictures_show", visualize.show(relevance, seen, target=name, size=224)
    post = {"smooth": 1, "colors": "black-red-yellow"}
    yield "pictures_post", visualize.show(relevance, seen, target=name, size=224, **post)
    for style in ("outlines", "fade", "contours"):
        figure = visualize.overlay(relevance, seen, style=style, smooth=1.5, target=name, size=224)
        yield f"pictures_{style}", figure


def made_up() -> Iterator[tuple[str, Figure]]:
    """Other kinds of input."""
    rng = np.random.default_rng(0)
    time = np.arange(800) / 250
    waves = ((0.15, 0.2, 0.03), (-0.1, 0.28, 0.01), (1, 0.31, 0.012), (-0.2, 0.34, 0.012))
    beat = sum(
        a * np.exp(-(((time % 0.8 - m) / s) ** 2)) for a, m, s in (*waves, (0.3, 0.55, 0.05))
    )
    ecg = np.outer([1, 0.6, -0.7], beat) + rng.normal(0, 0.01, (3, 800))
    near = np.exp(-(((time % 0.8 - 0.2) / 0.04) ** 2)) - 0.6 * np.exp(
        -(((time % 0.8 - 0.55) / 0.06) ** 2)
    )
    yield (
        "pictures_signal",
        visualize.signal(
            np.outer([1, 0.7, 0.4], near),
            ecg,
            rate=250,
            names=["I", "II", "aVR"],
            target="atrial rhythm",
        ),
    )
    rows = rng.normal(size=(150, 5)) * [3, 2, 1, 0.5, 0.3]
    table = rows * [1, -1, 1, 1, -1] + rng.normal(size=(150, 5)) * 0.4
    names = ["income", "debts", "years at address", "earlier loans", "age"]
    yield "pictures_beeswarm", visualize.beeswarm(rows, table, names, target="credit")
    words = ["the", "film", "was", "not", "un", "##believ", "##ably", "bad", ","]
    words += ["it", "was", "wonder", "##ful", "!"]
    relevance = np.array([0, 0.1, 0, 1.2, 0.3, 0.2, 0.4, -1.6, 0, 0, 0.1, 1.5, 1.3, 0.3])
    yield "pictures_tokens", visualize.tokens(words, relevance, target="positive").figure()


def keep(figure: Figure, path: Path) -> None:
    """Write a picture with so few shades that it is small enough.

    They get a palette, whose octree keeps colours that few dots have, such as those of the bar.
    """
    picture = visualize.to_pil(figure)
    for shades in SHADES:
        steps = shades - 1
        coarse = [round(round(value * steps / 255) * 255 / steps) for value in range(256)]
        drawn = io.BytesIO()
        written = picture.point(coarse * 3)
        written = written.quantize(255, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette = written.getpalette() or []
        triples = [palette[place : place + 3] for place in range(0, len(palette), 3)]
        whitened = [[255] * 3 if min(each) > 247 else each for each in triples]
        written.putpalette([value for each in whitened for value in each])
        written.save(drawn, "PNG", optimize=True)
        if drawn.tell() <= LARGEST:
            break
    path.write_bytes(drawn.getvalue())


if __name__ == "__main__":
    main()
