"""Draw the README's pictures again: ``python docs/images/draw.py``.

Each is what ``lrp-fx explain examples/photographs`` draws, with fewer shades to be small.
"""

import io
from pathlib import Path

from PIL import Image

from lrp_fx import LRPFx
from lrp_fx.visualize import explanation_figure
from lrp_fx.zoo import load

HERE = Path(__file__).parent
PHOTOGRAPHS = HERE.parents[1] / "examples" / "photographs"
TOP_K = 0.05
SHADES = 48  # of each primary colour


def main() -> None:
    loaded = load("efficientnet-lite0")
    steps = SHADES - 1
    coarse = [round(round(value * steps / 255) * 255 / steps) for value in range(256)]
    shares = {"relevance": 1.0, f"relevance, top {100 * TOP_K:g} %": TOP_K}
    for file in sorted(PHOTOGRAPHS.glob("*.jpg")):
        photograph = Image.open(file)
        x = loaded.preprocess(photograph).unsqueeze(0)
        probabilities = loaded.model(x)[0].softmax(0)
        target = int(probabilities.argmax())
        maps = {
            name: LRPFx(loaded.model, top_k=share).attribute(x, target=target)[0]
            for name, share in shares.items()
        }
        title = f"{loaded.categories[target]} ({probabilities[target]:.1%})"
        drawn = io.BytesIO()
        explanation_figure(loaded.display(photograph), maps, title=title).savefig(drawn)
        picture = Image.open(drawn).convert("RGB").point(coarse * 3)
        picture.save(HERE / f"{file.stem}.png", optimize=True)


if __name__ == "__main__":
    main()
