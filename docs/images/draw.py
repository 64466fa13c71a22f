"""Draw the pictures of the README and of docs/pictures.md again: ``python docs/images/draw.py``.

Those of the README are what ``lrp-fx explain examples/photographs`` draws, with fewer colours to be
small. Signals, tables and volumes are made up, and so is their relevance.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from lrp_fx import LRPFx, visualize
from lrp_fx.zoo import load

HERE = Path(__file__).parent
PHOTOGRAPHS = HERE.parents[1] / "examples" / "photographs"
SHADES = (48, 40, 32, 24, 20, 16)  # of each primary colour
LARGEST = 60_000  # bytes


def main() -> None:
    for name, figure in [*of_photographs(), *made_up()]:
        keep(figure, HERE / f"{name}.png")


def of_photographs() -> Iterator[tuple[str, Figure]]:
    """The two photographs, explained by EfficientNet-Lite0."""
    loaded = load("efficientnet-lite0")
    lrp = LRPFx(loaded.model)
    contrast = lrp.with_options(start="against_rest")
    for file in sorted(PHOTOGRAPHS.glob("*.jpg")):
        photograph = Image.open(file)
        x = loaded.preprocess(photograph).unsqueeze(0)
        with torch.no_grad():
            probabilities = loaded.model(x)[0].softmax(0)
        target = int(probabilities.argmax())
        name, seen = loaded.categories[target], loaded.display(photograph)
        relevance = lrp.attribute(x, target=target)
        maps = {
            "relevance": relevance,
            "against other classes": contrast.attribute(x, target=target),
        }
        title = f"{name} ({probabilities[target]:.1%})"
        yield file.stem, visualize.explanation_figure(seen, maps, title=title, target=name)
        if file.stem == "coffee":
            yield "pictures_show", visualize.show(relevance, seen, target=name, size=224)
            yield (
                "pictures_post",
                visualize.show(
                    relevance, seen, target=name, size=224, smooth=1, colors="black-red-yellow"
                ),
            )
            for style in ("outlines", "fade", "contours"):
                yield (
                    f"pictures_{style}",
                    visualize.overlay(
                        relevance, seen, style=style, smooth=1.5, target=name, size=224
                    ),
                )


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
    """Write a picture; those of docs/pictures.md with so few shades that they are small enough.

    They get a palette, whose octree keeps colours that few dots have, such as those of the bar.
    """
    small = path.name.startswith("pictures_")
    picture = visualize.to_pil(figure)
    for shades in SHADES:
        steps = shades - 1
        coarse = [round(round(value * steps / 255) * 255 / steps) for value in range(256)]
        drawn = io.BytesIO()
        written = picture.point(coarse * 3)
        if small:
            written = written.quantize(255, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            palette = written.getpalette() or []
            triples = [palette[place : place + 3] for place in range(0, len(palette), 3)]
            whitened = [[255] * 3 if min(each) > 247 else each for each in triples]
            written.putpalette([value for each in whitened for value in each])
        written.save(drawn, "PNG", optimize=True)
        if drawn.tell() <= LARGEST or not small:
            break
    path.write_bytes(drawn.getvalue())


if __name__ == "__main__":
    main()
