"""Python code that makes a composite, as text."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from lrp_fx.composites import (
    Composite,
)
from lrp_fx.evaluate.space import Bound
from lrp_fx.rules import (
    Rule,
    ZBox,
)

IMPORT = "from lrp_fx import LRPFx"
_MATCHERS = ("convolution", "dense", "first", "last", "operation")


def code_of(composite: Composite, options: Mapping[str, str | float]) -> str:
    """Python that makes a composite of :func:`propose`, and an attribution by it."""
    lines = [f"({matcher.text}, {_written(rule)})," for matcher, rule in composite.assignments]
    text = "\n".join(lines)
    used = [name for name in _MATCHERS if re.search(rf"\b{name}\b", text)]
    rules = sorted({type(rule).__name__ for _, rule in composite.assignments})
    keywords = "".join(f", {name}={value!r}" for name, value in options.items())
    return "\n".join(
        [
            imports_of(text, "from lrp_fx import Composite, LRPFx"),
            f"from lrp_fx.composites import {', '.join(used)}",
            f"from lrp_fx.rules import {', '.join(rules)}",
            "",
            "composite = Composite(",
            "    [",
            *(f"        {line}" for line in lines),
            "    ],",
            f"    name={composite.name!r},",
            "    strict=False,",
            ")",
            f"lrp = LRPFx(model, composite{keywords})",
        ]
    )


def imports_of(text: str, imports: str) -> str:
    """The lines that import what a text needs."""
    return f"import torch\n{imports}" if "torch." in text else imports


def _written(rule: Rule) -> str:
    if isinstance(rule, ZBox):
        return f"ZBox({text_of(rule.low)}, {text_of(rule.high)})"
    return str(rule)


def text_of(bound: Bound) -> str:
    """A bound as Python."""
    if isinstance(bound, torch.Tensor):
        return f"torch.tensor({bound.tolist()})"
    return repr(bound)
