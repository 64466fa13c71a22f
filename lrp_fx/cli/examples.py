"""An example input of a model, for commands that need its shape rather than a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import Tensor

from lrp_fx.cli.explained import array_of, input_of
from lrp_fx.cli.inputs import Sample, read_samples
from lrp_fx.errors import OptionError
from lrp_fx.zoo import LoadedModel

SIDE = 256
"""Of the plain square that stands for a photograph."""

Example = Annotated[
    Path | None,
    typer.Option(
        "--input", help="A photograph, array or table as the example.", show_default="a grey square"
    ),
]
Shape = Annotated[
    str | None, typer.Option(help="The shape of the input instead, with the batch: 1,3,224,224.")
]


def example_of(loaded: LoadedModel, file: Path | None, shape: str | None) -> Tensor:
    """An input of the model, (1, …): from a file, of a shape, or made of a plain square.

    Raises:
        LRPError: if the file cannot be read, or the shape is none.
    """
    if file is not None and shape is not None:
        raise OptionError("--input and --shape both say what the example is: pass one of them")
    if file is not None:
        for sample in read_samples(file):
            return input_of(loaded, sample)
    if shape is not None:
        return array_of(loaded, torch.full(_sizes(shape), 0.5))
    square = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    return input_of(loaded, Sample(Path("example"), square))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(each) for each in text.split(","))
    except ValueError:
        sizes = ()
    total = 1
    for size in sizes:
        total *= size
    if len(sizes) < 2 or min(sizes) < 1 or total > 2**28:
        raise OptionError(
            f"shape must be numbers with commas, the batch first, such as 1,3,224,224, got {text!r}"
        )
    return sizes
