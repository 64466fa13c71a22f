"""A small classifier, samples, and comparisons of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lrp_fx.dataset import Run

SIZE, CLASSES = 8, 5


def classifier(seed: int = 0) -> nn.Module:
    """From (N, 3, 8, 8) to five logits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, CLASSES)
        ).eval()


def samples(count: int, seed: int = 1) -> Tensor:
    """Inputs of the classifier."""
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def preprocess(image: Image.Image) -> Tensor:
    """The classifier's input of a photograph."""
    pixels = torch.from_numpy(np.array(image.resize((SIZE, SIZE)))).permute(2, 0, 1)
    return pixels.float() / 255 - 0.5


def pictures(folder: Path, count: int, *, by_class: bool = False) -> list[Path]:
    """Image files of random colours."""
    chance = np.random.default_rng(0)
    files = []
    for n in range(count):
        file = folder / (f"c{n % 2}" if by_class else "") / f"{n:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(file)
        files.append(file)
    return files


def same(found: Run, expected: Run) -> bool:
    """Whether two runs hold the same bits, but for the times."""
    tables = [run.table.drop(["seconds"]) for run in (found, expected)]
    return tables[0].equals(tables[1]) and all(
        np.array_equal(found.array(name)[:], expected.array(name)[:], equal_nan=True)
        for name in expected.arrays
    )
