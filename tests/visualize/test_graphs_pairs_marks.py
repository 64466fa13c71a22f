"""Graphs, pairs of texts and marks: colours and lines at known places, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import Circle, Rectangle

from lrp_fx import visualize
from lrp_fx.errors import InputError, OptionError
from tests.visualize.helpers import texts

FULL = visualize.colorize(np.array([-1.0, 0.0, 1.0]), 1.0)
PLACES = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]


def grounds(figure: Any, kind: type) -> list[list[int]]:
    """The colours of the discs or rectangles that have one."""
    patches = [each for each in figure.axes[0].patches if isinstance(each, kind)]
    return [
        np.rint(np.array(each.get_facecolor()[:3]) * 255).astype(int).tolist() for each in patches
    ]


def test_nodes_have_the_colour_of_their_relevance() -> None:
    """Features are summed; rows behind the last place are padding."""
    relevance = torch.tensor([[2.0, -1.0], [0.5, -0.5], [0.0, -1.0], [0.0, 0.0]])
    figure = visualize.graph(
        relevance[None], [(0, 1), (1, 2, 3)], PLACES, list("CNO"), target="acid"
    )
    assert grounds(figure, Circle) == [FULL[2].tolist(), FULL[1].tolist(), FULL[0].tolist()]
    assert [text.get_text() for text in figure.axes[0].texts] == ["C", "N", "O"]
    assert len(figure.axes[0].lines) == 1 + 3
    assert "speaks for acid" in texts(figure)


def test_a_graph_is_not_stretched() -> None:
    circles: Any = visualize.graph(torch.ones(3), [], PLACES).axes[0].patches
    (x0, y0), (x1, y1), (x2, y2) = (each.center for each in circles)
    assert y0 == y1
    assert x1 == x2
    assert x1 - x0 == pytest.approx(y2 - y1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"places": [(0, 0)]}, "1 places need"),
        ({"places": [0, 1, 2]}, "(V, 2)"),
        ({"edges": [(0, 3)]}, "nodes 0 to 2"),
        ({"edges": [(0, 1, 0)]}, "nodes 0 to 2"),
        ({"edges": [5]}, "nodes 0 to 2"),
        ({"names": ["C"]}, "3 names"),
        ({"relevance": torch.full((3, 2), 1.7e308, dtype=torch.float64)}, "overflows"),
    ],
)
def test_what_is_no_graph(options: dict[str, Any], words: str) -> None:
    given = {"relevance": torch.ones(3), "edges": [(0, 1)], "places": PLACES, **options}
    with pytest.raises(InputError) as caught:
        visualize.graph(**given)
    assert words in str(caught.value)


def test_the_widest_line_joins_the_strongest_pair() -> None:
    relevance = torch.tensor([[[0.02, 0.0, -0.5], [0.0, 1.0, 0.0]]])
    figure = visualize.token_pairs(["a", "cat"], ["the", "kit", "##ten"], relevance)
    weaker, strongest = figure.axes[0].lines  # 0.02 is too weak to be drawn
    assert strongest.get_linewidth() > weaker.get_linewidth()
    places = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert list(strongest.get_xdata()) == pytest.approx([places["cat"], places["kit"]])
    assert list(weaker.get_xdata()) == pytest.approx([places["a"], places["ten"]])
    words = grounds(figure, Rectangle)
    assert words[1] == words[3] == FULL[2].tolist()  # cat, kit


def test_pieces_of_a_word_touch() -> None:
    figure = visualize.token_pairs(["a"], ["the", "kit", "##ten"], torch.ones(1, 3))
    boxes = [each.get_bbox() for each in figure.axes[0].patches[1:]]
    assert boxes[2].x0 == pytest.approx(boxes[1].x1)
    assert boxes[1].x0 > boxes[0].x1 + 1


def test_pairs_must_fit() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 2\)"):
        visualize.token_pairs(["a"], ["b", "c"], torch.ones(2, 1))


def test_marks_lie_on_their_pixels() -> None:
    """In pixels of the photograph, also for the coarser map of a layer."""
    photograph, layer = torch.zeros(1, 8, 16), torch.ones(1, 4, 8)
    figure = visualize.show(layer, photograph, marks=[(3, 5), (2, 4, 6, 12)], size=160)
    for axes in figure.axes[:2]:
        (x0, x1), (y1, y0) = axes.get_xlim(), axes.get_ylim()
        wide, high = (x1 - x0) / 16, (y1 - y0) / 8
        cross = axes.lines[-1]
        assert (cross.get_xdata()[0] - x0) / wide == pytest.approx(5.5)
        assert (cross.get_ydata()[0] - y0) / high == pytest.approx(3.5)
        box = axes.patches[-1].get_bbox()
        assert [(box.x0 - x0) / wide, (box.x1 - x0) / wide] == pytest.approx([4, 12])
        assert [(box.y0 - y0) / high, (box.y1 - y0) / high] == pytest.approx([2, 6])


@pytest.mark.parametrize("marks", [5, "ab", [3], [(1, 2, 3)], [(1, "a")], [(0, float("nan"))]])
def test_what_is_no_mark(marks: Any) -> None:
    with pytest.raises(OptionError, match="pixels"):
        visualize.overlay(torch.ones(1, 4, 4), torch.ones(1, 4, 4), marks=marks)
