"""Copies of random generators: each starts somewhere else, as the next call of the model will.

A copy that started where the original is would draw the same numbers in each run. A random model would
then look as if it were fixed.
"""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import numpy
import torch

_OF_NUMPY = (numpy.random.Generator, numpy.random.BitGenerator)
GENERATORS = (torch.Generator, random.Random, numpy.random.RandomState, *_OF_NUMPY)
"""Types of objects that draw random numbers from a state of their own."""


def reseeded(generator: Any) -> Any:
    """A copy of a random generator, in another state."""
    if isinstance(generator, torch.Generator):
        twin: Any = torch.Generator(generator.device)
        twin.seed()
        return twin
    twin = deepcopy(generator)
    if isinstance(twin, _OF_NUMPY):
        bits = twin.bit_generator if isinstance(twin, numpy.random.Generator) else twin
        bits.state = type(bits)().state
    else:
        twin.seed()
    return twin
