"""What a notebook shows: valid HTML with escaped names, bounded where it is huge, or a text."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, explain
from lrp_fx.concepts.graph import AttributionGraph, Concept, Edge
from lrp_fx.visualize import tokens

LARGEST = 400_000
"""Letters of HTML that a notebook may hold for one object: a file of 0.4 MB opens at once."""
VOID = {"br", "wbr", "img", "hr"}


class Checker(HTMLParser):
    """Every element is closed in order; it collects the elements and the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    assert checker.elements <= {
        *("div", "table", "thead", "tbody", "tr", "th", "td", "span", "wbr"),
    }
    assert len(page) < LARGEST
    return checker


EVIL = "<script>&</table>"


class Named(nn.Module):
    """A layer whose path holds markup."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleDict({EVIL: nn.Linear(4, 4)})
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers[EVIL](x).relu())


X = torch.rand(2, 4)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids).sum(1))


def graph() -> AttributionGraph:
    upper, lower = Concept(EVIL, 1, 2.0), Concept("b", 3, -1.0)
    return AttributionGraph((upper, lower), (Edge(upper, lower, -1.0),), 2.0)


def text() -> Any:
    return explain(
        LRPFx(Words()), torch.tensor([[1, 2]]), 0, words=[EVIL, "b"], names=[EVIL, "x", "y"]
    )


SHOWN: dict[str, Callable[[], Any]] = {
    "plan": lambda: LRPFx(Named()).plan(),
    "ledger": lambda: LRPFx(Named()).audit(X, 1),
    "graph": graph,
    "tokens": lambda: tokens([EVIL, "b"], torch.tensor([1.0, -1.0]), target=EVIL),
    "text": text,
}


@pytest.mark.parametrize("name", SHOWN)
def test_names_are_escaped_and_elements_closed(name: str) -> None:
    found = checked(SHOWN[name]()._repr_html_())
    assert any(EVIL in each for each in found.texts)


@cache
def deep() -> Any:
    """The plan of 900 layers."""
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(900)))
    return LRPFx(model, "epsilon").plan()


HUGE: dict[str, tuple[Callable[[], Any], str]] = {
    "plan": (deep, "400 of 900 rows are left out"),
    "tokens": (lambda: tokens(["word"] * 20_000, torch.ones(20_000)), "and 16000 more tokens"),
    "graph": (
        lambda: AttributionGraph(tuple(Concept("a", i, 1.0) for i in range(5000)), (), 1.0),
        "4500 of 5000 rows are left out",
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_objects_are_bounded_and_say_so(name: str) -> None:
    make, words = HUGE[name]
    page = make()._repr_html_()
    if name == "tokens":
        assert len(page) < 3 * LARGEST  # the colours of 4,000 tokens
        assert words in page
        return
    assert words in " ".join(checked(page).texts)


def test_both_ends_of_a_long_table_stay() -> None:
    plan = deep()
    found = checked(plan._repr_html_())
    assert found.texts.count("0") >= 1
    assert found.texts.count("899") >= 1
    assert str(plan).count("\n") > 900
    lengthy = AttributionGraph((Concept("a" * 10_000, 1, 1.0),), (), 1.0)
    assert len(lengthy._repr_html_()) < 2000


def test_other_objects_show_their_picture() -> None:
    image = explain(LRPFx(nn.Sequential(nn.Flatten(), nn.Linear(48, 3))), torch.rand(1, 3, 4, 4), 0)
    assert image._repr_html_() is None
    assert image._repr_png_().startswith(b"\x89PNG")
    flat = explain(LRPFx(nn.Linear(4, 3)), torch.rand(1, 4), 0)
    assert flat._repr_html_() is None
    assert flat._repr_png_().startswith(b"\x89PNG")
    many = explain(
        LRPFx(nn.Sequential(nn.Flatten(), nn.Linear(8, 3))), torch.rand(1, 2, 1, 2, 1, 2), 0
    )
    assert many._repr_png_() is None
    assert "explanation of class 0" in repr(many)


WITHOUT = """
import sys
import torch
from torch import nn
from lrp_fx import ConceptLRPFx, LRPFx, explain
for name in [*sys.modules, "matplotlib"]:  # Captum imports it, if only for itself
    if name.partition(".")[0] == "matplotlib":
        sys.modules[name] = None
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
x = torch.rand(1, 1, 4, 4)
lrp = LRPFx(model)
image = explain(lrp, x, 0)
assert image._repr_png_() is None and image._repr_html_() is None
assert "class 0" in repr(image)
assert "<table" in lrp.plan()._repr_html_()
assert "<table" in lrp.audit(x, 0)._repr_html_()
assert "<table" in ConceptLRPFx(model).attribution_graph(x, 0, ["1", "0"])._repr_html_()

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)
    def forward(self, ids):
        return self.head(self.table(ids).sum(1))

text = explain(LRPFx(Words()), torch.tensor([[1, 2]]), 0, words=["a", "b"])
assert text._repr_png_() is None
assert "<span" in text._repr_html_()
print("fine")
"""


def test_without_matplotlib_there_is_text() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr
