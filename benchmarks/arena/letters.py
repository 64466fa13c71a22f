"""A reader of lines of text: does the relevance of a letter lie where the letter is?

The package ``khmer-ocr-ocm`` (MIT) ships a trained network and its fonts: convolutions as in VGG, two
bidirectional LSTMs, and for each of 127 places along the line the logits of 984 letters and of "no
letter" (CTC). So any number of lines can be drawn of which it is known where each letter stands. The
lines here are of Khmer digits, which need no ligatures. Of each line that the network reads without a
mistake one digit is explained: its logit at the place where the network says it.
"""

from __future__ import annotations

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from arena.task import Suite, Task, measure_by
from lrp_fx.evaluate import (
    SRG,
    Blur,
    CascadingRandomisation,
    Constant,
    Metric,
    Patches,
    PointingGame,
    RelevanceShare,
    Sparseness,
)

PACKAGE = "khmer_ocr_ocm"
DIGITS = [chr(0x17E0 + value) for value in range(10)]
FONTS = ("AKbalthom KhmerBasic.ttf", "Angkor.ttf", "KhmerMoul.ttf")
LENGTH = 12  # digits on a line
SIZE, MARGIN = 32, 12  # of the letters, and around the line, in pixels: the package's
HEIGHT, WIDTH = 48, 512  # of the network's input
NO_LETTER = 0
PATCHES = Patches(3, 32)  # of 16 × 16 pixels


class Reader(nn.Module):
    """The network's own logits, in one row: from lines (N, 1, 48, 512) to (N, places · letters)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)  # (places, N, letters)
        return logits.transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class Line:
    """A line of text as the network gets it.

    Args:
        text: what it says.
        picture: (1, 48, 512), from −1 (black) to 1 (white).
        ends: where each letter begins, and where the last one ends, in pixels.
    """

    text: str
    picture: Tensor
    ends: tuple[float, ...]


def line(text: str, font: Path) -> Line:
    """The line, drawn by the package itself; it is stretched to the width of the network's input."""
    from khmer_ocr_ocm.dataset import render_line
    from khmer_ocr_ocm.inference import preprocess
    from PIL import ImageFont

    letters = ImageFont.truetype(str(font), SIZE)
    left, _, right, _ = letters.getbbox(text)
    scale = WIDTH / (right - left + 2 * MARGIN)
    ends = [scale * (MARGIN + letters.getlength(text[:count])) for count in range(len(text) + 1)]
    return Line(text, preprocess(render_line(text, font, SIZE, MARGIN))[0], tuple(ends))


def said(logits: Tensor) -> list[tuple[int, int]]:
    """The letters that CTC reads and the places where it is most certain of each.

    Args:
        logits: of one line, (places, letters).
    """
    found: list[tuple[int, int]] = []
    size, letter = logits.max(1)
    before = NO_LETTER
    for place, (value, now) in enumerate(zip(size.tolist(), letter.tolist(), strict=True)):
        if now == NO_LETTER or now != before:
            if now != NO_LETTER:
                found.append((now, place))
        elif value > size[found[-1][1]]:
            found[-1] = now, place
        before = now
    return found


def task(quick: bool) -> Task:
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("the letter reader is missing: pip install khmer-ocr-ocm")
    from khmer_ocr_ocm.inference import load_model, load_vocab

    network = load_model(device="cpu").eval().requires_grad_(False)
    letters, fonts = load_vocab(), Path(package.submodule_search_locations[0], "assets/fonts/khmer")
    count, draw, drawn = 4 if quick else 16, random.Random(0), 0
    pictures, targets, places = [], [], []
    while len(pictures) < count:
        drawn += 1
        text = "".join(draw.choices(DIGITS, k=LENGTH))
        one = line(text, fonts / FONTS[drawn % len(FONTS)])
        with torch.no_grad():
            logits = network(one.picture[None])[:, 0]
        read = said(logits)
        if "".join(letters[letter] for letter, _ in read) != text:
            continue
        chosen = draw.randrange(LENGTH)
        letter, place = read[chosen]
        pictures.append(one.picture)
        targets.append(place * logits.shape[1] + letter)
        columns = torch.arange(WIDTH) + 0.5
        inside = (columns >= one.ends[chosen]) & (columns < one.ends[chosen + 1])
        places.append(inside.expand(HEIGHT, WIDTH))
    return _task(Reader(network).eval(), pictures, targets, places, drawn)


def _task(
    model: nn.Module, pictures: list[Tensor], chosen: list[int], places: list[Tensor], drawn: int
) -> Task:
    x, targets, masks = torch.stack(pictures), torch.tensor(chosen), torch.stack(places)
    metrics: dict[str, Metric] = {
        "share at the letter": RelevanceShare(masks=masks),
        "pointing game": PointingGame(masks=masks),
        "SRG, white": SRG(regions=PATCHES, imputer=Constant(1.0), output="logit", steps=5),
        "SRG, blur": SRG(regions=PATCHES, imputer=Blur(6.0), output="logit", steps=5),
        "random weights": CascadingRandomisation(model=model, regions=PATCHES),
        "sparseness": Sparseness(),
    }

    described = ("random weights", "sparseness")
    measures = {
        title: measure_by(metric, title, model, x, targets, paired=title not in described)
        for title, metric in metrics.items()
    }
    return Task(
        "letter reader",
        "convolutional",
        model,
        x,
        targets,
        measures,
        f"{len(x)} of {drawn} lines of {LENGTH} digits read without a mistake; a uniform map has "
        f"{masks.double().mean():.3f} at the letter",
        -1.0,
        1.0,
        "network.cnn.28",
        batch=4,
    )


SUITE = Suite("Letters", {"reader": task}, ("maps", "filters"))
