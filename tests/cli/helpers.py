"""A small model of one's own in a file, photographs, and the command line within this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from lrp_fx.cli.commands import app

MODELS = '''
import torch
from torch import nn
from lrp_fx.zoo import Preprocessing

def net(channels=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(36, 4),
    )

def make():
    return net(), Preprocessing(18, 16, (0.5,) * 3, (0.25,) * 3), ["cat", "tiger cat", "dog", "cup"]

def function():
    return net(), lambda photograph: torch.full((3, 8, 8), 0.5), {0: "a", 1: "b", 2: "c", 3: "d"}

def grey():
    return net(1)

def table():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))

def wrong():
    return "no model"

def fails():
    raise ZeroDivisionError("my mistake")

class Branches(nn.Module):
    """Python that tracing cannot follow without an example."""

    def forward(self, x):
        return x.flatten(1)[:, :4] * len(x.tolist())

a_model = net()
'''


def run(*arguments: object) -> Result:
    """``lrp-fx`` with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_sentence(result: Result, *parts: str, code: int = 2) -> None:
    """The command refused in one line, on purpose, and the line holds ``parts``."""
    assert result.exit_code == code, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.output
    for part in parts:
        assert part in lines[0]


def photograph(file: Path, seed: int = 0) -> Path:
    """A small photograph of noise in a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file
