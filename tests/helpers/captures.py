"""Reading a model by itself: small models around a function, their graphs and their relevance."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.canonize.pipeline import canonize
from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.reading import read
from lrp_fx.capture.running import run_model
from lrp_fx.graph import module_path
from lrp_fx.graph.calls import name_of
from lrp_fx.meaning.facts import analyse
from tests.helpers.models import everything
from tests.helpers.numbers import numbers

both_ways = pytest.mark.parametrize("way", ["symbolic", "export"])
all_ways = pytest.mark.parametrize("way", ["symbolic", "export", "auto"])
recorded_too = pytest.mark.parametrize("way", ["symbolic", "export", "record"])


@dataclass
class Log:
    """What models write to."""

    steps: int = 0
    seen: list[int] = field(default_factory=list)


class After(nn.Module):
    """A function, or a module, behind a layer that makes its input signed and of a known size."""

    def __init__(self, function: Callable[..., Any], stem: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1) if stem is None else stem
        self.function = function

    def forward(self, x: Tensor, *others: Any) -> Any:
        return self.function(self.stem(x), *others)


def after(function: Callable[..., Any], stem: Callable[[], nn.Module] | None = None) -> nn.Module:
    torch.manual_seed(0)
    return After(function, None if stem is None else stem()).double().eval()


def captured(model: nn.Module, *inputs: Any, way: str = "symbolic") -> Captured:
    """The model as the captures read it; the reading is verified."""
    arguments = Arguments.of(inputs)
    return read(model, arguments, way, run_model(model, arguments))


def operations(model: nn.Module, *inputs: Any, way: str = "symbolic") -> list[str]:
    """The names of the calls on the input in the canonical graph, the stem's aside."""
    canonical = canonize(captured(model, *inputs, way=way))
    facts = analyse(canonical.module.graph, canonical.placeholders())
    calls = [node for node in canonical.module.graph.nodes if node in facts.dynamic]
    return [name_of(n) for n in calls if n.op == "call_function" and module_path(n) != "stem"]


def relevance(model: nn.Module, *inputs: Tensor, way: str = "symbolic", **options: Any) -> Tensor:
    """All relevance of a model's output, under ε."""
    lrp = LRPFx(model, "epsilon", start=everything, capture=way, **options)
    found = lrp.attribute(inputs if len(inputs) > 1 else inputs[0])
    return torch.cat([each.flatten() for each in found]) if len(inputs) > 1 else found


def signal(model: nn.Module) -> Tensor:
    """An input for ``after``: an image, or what its stem takes."""
    stem = model.get_submodule("stem")
    if isinstance(stem, nn.Conv1d):
        return numbers(2, 3, 9)
    if isinstance(stem, nn.Conv3d):
        return numbers(2, 3, 4, 5, 6)
    return numbers(2, 3, 6, 8)


def line_of(function: Callable[..., Any], text: str) -> str:
    """Where a line of a function or class with this text stands, as graphs note it."""
    lines, first = inspect.getsourcelines(function)
    (offset,) = (i for i, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(function)}:{first + offset}"
