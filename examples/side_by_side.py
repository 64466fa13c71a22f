"""One map, drawn by five libraries: ``python examples/side_by_side.py --page docs/side_by_side.md``.

The page has the lines that each library needs, and the pictures that it makes of them. Needs
``pip install ".[docs]"``, which has shap and pytorch-grad-cam.
"""

from __future__ import annotations

import argparse
import inspect
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.zoo import load

ROOT = Path(__file__).parents[1]
HEIGHT, GAP, HEAD = 190, 14, 22
"""Of the pictures in the figure, in dots."""


def lrp_fx(relevance: Tensor, photograph: Image.Image, name: str) -> None:
    from lrp_fx import visualize

    visualize.save_heatmap(relevance, "lrp_fx.png", photograph, target=name, smooth=1)


def captum(relevance: Tensor, photograph: Image.Image, name: str) -> None:
    import numpy as np
    from captum.attr import visualization

    heat, seen = relevance[0].permute(1, 2, 0).numpy(), np.asarray(photograph)
    figure, _ = visualization.visualize_image_attr_multiple(
        heat,
        seen,
        ["original_image", "heat_map"],
        ["all", "all"],
        ["photograph", name],
        show_colorbar=True,
        use_pyplot=False,
    )
    figure.savefig("captum.png")


def zennit(relevance: Tensor, photograph: Image.Image, name: str) -> None:
    import numpy as np
    from PIL import Image
    from zennit.image import get_cmap  # its imgify() fails with Pillow 13

    heat = relevance.sum(1)[0].numpy()
    pixels = get_cmap("coldnhot")(heat / np.abs(heat).max() / 2 + 0.5)
    Image.fromarray(np.uint8(255 * pixels)).save("zennit.png")


def grad_cam(relevance: Tensor, photograph: Image.Image, name: str) -> None:
    import numpy as np
    from PIL import Image
    from pytorch_grad_cam.utils.image import show_cam_on_image

    heat = relevance.sum(1)[0].clamp(min=0)
    heat = (heat / heat.max()).numpy()
    picture = show_cam_on_image(np.float32(photograph) / 255, heat, use_rgb=True)
    Image.fromarray(picture).save("grad_cam.png")


def shap(relevance: Tensor, photograph: Image.Image, name: str) -> None:
    import matplotlib.pyplot as plt
    import numpy as np
    import shap

    heat = relevance.permute(0, 2, 3, 1).numpy()
    shap.image_plot([heat], np.float32(photograph)[None] / 255, labels=[[name]], show=False)
    plt.savefig("shap.png")


DRAWERS: tuple[Callable[[Tensor, Image.Image, str], None], ...] = (
    lrp_fx,
    captum,
    zennit,
    grad_cam,
    shap,
)


def captums_lrp(model: nn.Module, x: Tensor, target: int) -> Tensor:
    from captum.attr import LRP

    return LRP(model).attribute(x, target=target)


def zennits_lrp(model: nn.Module, x: Tensor, target: int) -> Tensor:
    import torch
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonGammaBox

    composite = EpsilonGammaBox(-1.0, 1.0, canonizers=[SequentialMergeBatchNorm()])
    with Gradient(model, composite) as attributor:
        logit = model(x)[0, target]
        _, relevance = attributor(x, torch.eye(1000)[[target]] * logit)
    return relevance


def our_lrp(model: nn.Module, x: Tensor, target: int) -> Tensor:
    from lrp_fx import LRPFx

    return LRPFx(model).attribute(x, target=target)


def lines_of(function: Callable[..., object]) -> str:
    """The body of a function as one would write it in a script."""
    _, _, body = inspect.getsource(function).partition(":\n")
    return textwrap.dedent(body).replace("return ", "relevance = ").strip()


def count(code: str) -> int:
    """Statements: lines that begin one, blank lines and continuations left out."""
    import ast

    found = 0
    for node in ast.walk(ast.parse(code)):
        found += isinstance(node, ast.stmt)
    return found


def figure(pictures: dict[str, Image.Image]) -> Image.Image:
    """The pictures beside each other, of one height."""
    scaled = {
        name: each.resize((round(each.width * HEIGHT / each.height), HEIGHT), Image.LANCZOS)
        for name, each in pictures.items()
    }
    rows = [list(scaled)[:2], list(scaled)[2:]]
    widths = [sum(scaled[name].width + GAP for name in row) + GAP for row in rows]
    sheet = Image.new("RGB", (max(widths), len(rows) * (HEIGHT + HEAD + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for down, row in enumerate(rows):
        left, top = GAP, down * (HEIGHT + HEAD + GAP)
        for name in row:
            pen.text(
                (left, top + 4), name.replace("_", "-") if name != "lrp_fx" else name, "black", font
            )
            sheet.paste(scaled[name], (left, top + HEAD))
            left += scaled[name].width + GAP
    return sheet


def outcome(function: Callable[..., Tensor], model: nn.Module, x: Tensor, target: int) -> str:
    """What a library does with the network: the sums of its map, or its error."""
    with torch.no_grad():
        logit = float(model(x)[0, target])
    try:
        relevance = function(model, x.clone(), target).detach()
    except Exception as error:  # it is what the page reports
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:110]} …"
    return (
        f"a map; logit {logit:.2f}, Σ R = {float(relevance.sum()):.3g}, "
        f"Σ ∣R∣ = {float(relevance.abs().sum()):.3g}"
    )


NOTE = (
    "<!-- not run: the script that makes the figure runs these lines, and a test compares them -->"
)
PAGE = """# Side by side

One map drawn by five libraries, each with its own function and its defaults. Written by
`python examples/side_by_side.py --page docs/side_by_side.md`. The network is EfficientNet-Lite0, the photograph
`examples/photographs/chelsea.jpg` (CC0), the map the relevance of "{name}" with the default of this library.

![One map in five pictures](images/side_by_side.jpg)

| | lrp_fx | Captum | zennit | pytorch-grad-cam | shap |
|---|---|---|---|---|---|
| statements, with imports | {counts} |
| photograph beside the map | yes | yes | no | no: under it | yes |
| what speaks against the class | blue | red | blue | cut off by the caller | blue |
| zero | white | white | black | blue: the photograph is tinted | white, over a grey photograph |
| full colour | 99.5th percentile, stated | 98 % of Σ ∣R∣ lie below it, not stated | maximum, not stated | set by the caller | 99.9th percentile, on the bar |
| what the colours mean, in words | yes | no | no | no | "SHAP value" |
| channels | summed | summed | by the caller | by the caller | summed |

Our picture has `smooth=1`, which it says under the map; without it the dots are as fine as those of the others.

What the others do better: Captum has five ways to share a panel and one function for them; zennit writes one dot for each
pixel, which is the right file for more work on the map; pytorch-grad-cam is made for maps of 7 × 7, where its smooth
colours are easy to read; shap draws many classes in a row.

## The lines

`relevance` is `(1, 3, 224, 224)`, `photograph` what the network sees of it, and `name` the class.

{drawing}
## Where the map comes from

All five draw the map of this library. These are the libraries that have LRP themselves, on the same network:

| | statements | what happens |
|---|---|---|
{sources}

The network adds its residuals by `+`, which hooks on modules do not see. There zennit's relevance doubles, so that its sum
exceeds the logit. Captum stops at the first module that it has no rule for.

{making}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, required=True, help="the page to write")
    page: Path = parser.parse_args().page.resolve()
    loaded = load("efficientnet-lite0")
    original = Image.open(ROOT / "examples" / "photographs" / "chelsea.jpg")
    x, photograph = loaded.preprocess(original)[None], loaded.display(original)
    with torch.no_grad():
        target = int(loaded.model(x).argmax())
    name = loaded.categories[target]
    relevance = LRPFx(loaded.model).attribute(x, target)
    pictures = {}
    for drawer in DRAWERS:
        file = Path(f"{drawer.__name__}.png")
        drawer(relevance, photograph, name)
        pictures[drawer.__name__] = Image.open(file).convert("RGB")
        file.unlink()
    figure(pictures).save(page.parent / "images" / "side_by_side.jpg", quality=88)
    codes = {each.__name__: lines_of(each) for each in DRAWERS}
    makers = {"lrp_fx": our_lrp, "Captum": captums_lrp, "zennit": zennits_lrp}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sources = [
            f"| {each} | {count(lines_of(maker))} | {outcome(maker, loaded.model, x, target)} |"
            for each, maker in makers.items()
        ]
    text = PAGE.format(
        name=name,
        counts=" | ".join(str(count(code)) for code in codes.values()),
        drawing="".join(
            f"{NOTE}\n```python\n# {each}\n{code}\n```\n\n" for each, code in codes.items()
        ),
        sources="\n".join(sources),
        making="".join(
            f"{NOTE}\n```python\n# {each}\n{lines_of(maker)}\n```\n\n"
            for each, maker in makers.items()
        ),
    )
    page.write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
