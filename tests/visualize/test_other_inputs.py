"""Figures of signals, volumes, tables and tokens: colours at known places, and odd input."""

import io
import sys
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from rich.console import Console
from torch import Tensor

from lrp_fx.errors import InputError, LRPError, OptionError
from lrp_fx.visualize import (
    as_pixels,
    bar,
    beeswarm,
    channel_map,
    color_key,
    color_maps,
    colorize,
    signal,
    to_pil,
    tokens,
    volume,
    volume_slider,
)
from lrp_fx.visualize.colors import hex_of
from tests.visualize.helpers import panel, texts

FULL = colorize(np.array([-1.0, 0.0, 1.0]), 1.0)
NAN = torch.tensor([[float("nan"), 1.0]])


def test_a_trace_is_coloured_where_there_is_relevance() -> None:
    """One stroke for each sample with relevance, in its colour; the others stay grey."""
    relevance = torch.zeros(2, 50)
    relevance[0, 10], relevance[1, 20] = 4.0, -4.0
    values = torch.sin(torch.arange(100.0)).reshape(2, 50)
    figure = signal(relevance[None], values, names=["Cz", "Pz"], target="left hand")
    first, second = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    for strokes, sample, color in ((first, 10, FULL[2]), (second, 20, FULL[0])):
        assert len(strokes.get_segments()) == 1
        assert strokes.get_segments()[0][1, 0] == sample
        assert (np.rint(strokes.get_colors()[0, :3] * 255) == color).all()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Cz", "Pz"]
    assert "speaks for left hand" in texts(figure)


def test_traces_keep_their_shape() -> None:
    """Each channel is drawn from its minimum, below, to its maximum, above."""
    values = np.array([[0.0, 1.0, 0.5], [7.0, 7.0, 7.0]])
    lines = signal(np.zeros((2, 3)), values).axes[0].lines
    assert lines[0].get_ydata() == pytest.approx([0.42, -0.42, 0.0])
    assert lines[1].get_ydata() == pytest.approx([1, 1, 1])


def test_the_ground_of_a_band_and_a_map() -> None:
    """Zero is white; rows are channels, columns are samples."""
    relevance = np.zeros((2, 4))
    relevance[0, 0], relevance[1, 3] = 1, -1
    dots = panel(figure := channel_map(relevance), figure.axes[0])
    high, wide = dots.shape[:2]
    assert dots[high // 4, wide // 8].tolist() == FULL[2].tolist()
    assert dots[3 * high // 4, 7 * wide // 8].tolist() == FULL[0].tolist()
    assert dots[high // 4, wide // 2].tolist() == [255, 255, 255]
    dots = panel(figure := signal(relevance, np.zeros((2, 4)), style="band"), figure.axes[0])
    high = dots.shape[0]
    assert dots[high // 8, wide // 8].tolist() == FULL[2].tolist()
    assert dots[high // 8, wide // 2].tolist() == [255, 255, 255]


@pytest.mark.parametrize("length", [1, 300])
@pytest.mark.parametrize("scale", [0.0, 1.0, -1e300, 1e-320])
def test_odd_signals_are_safe(length: int, scale: float) -> None:
    values = np.linspace(-1, 1, length) * scale
    assert to_pil(signal(values, values, style="trace" if length > 1 else "band", rate=100.0))
    assert to_pil(channel_map(values, smooth=2.0))


def test_many_channels_are_safe() -> None:
    names = [f"{n:030}" for n in range(150)]
    axes = channel_map(np.ones((150, 2)), names=names).axes[0]
    assert len(axes.get_yticklabels()) == 50


@pytest.mark.parametrize(
    ("relevance", "options"),
    [
        (torch.zeros(2, 3, 4), {}),
        (NAN, {}),
        (torch.zeros(2, 4), {"names": ["a"]}),
        (torch.zeros(2, 4), {"rate": 0}),
        (torch.zeros(2, 4), {"rate": "fast"}),
        (torch.zeros(2, 4), {"smooth": -1}),
        (torch.zeros(2, 4), {"colors": "x"}),
    ],
    ids=str,
)
def test_wrong_signals(relevance: Tensor, options: dict[str, Any]) -> None:
    with pytest.raises(LRPError):
        channel_map(relevance, **options)
    with pytest.raises(LRPError):
        signal(relevance, torch.zeros(relevance.shape), **options)
    with pytest.raises(InputError, match="needs the shape of the relevance"):
        signal(torch.zeros(2, 4), torch.zeros(2, 5))


def test_slices_go_through_the_strongest_voxel() -> None:
    relevance = torch.zeros(1, 2, 4, 6, 5)
    relevance[0, :, 1, 4, 3] = -2.0
    figure = volume(relevance, torch.rand(4, 6, 5), size=60)
    assert [axes.get_label() for axes in figure.axes[:3]] == ["D = 1", "H = 4", "W = 3"]
    assert "voxel (1, 4, 3), where |relevance| is largest: -4" in texts(figure)
    for axes, (row, column) in zip(figure.axes[:3], ((4, 3), (1, 3), (1, 4)), strict=True):
        pixels = np.asarray(axes.images[0].get_array())
        zoom = pixels.shape[0] // (6 if axes.get_label() == "D = 1" else 4)
        small = pixels[::zoom, ::zoom]
        assert small[row, column].tolist() == FULL[0].tolist()
        assert (small != 255).any(axis=2).sum() == 1
    chosen = volume(relevance, at=(0, 0, 0))
    assert chosen.axes[0].get_label() == "D = 0"
    assert "as chosen" in texts(chosen)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 1), (2, 40, 40), (3, 1, 2, 2)])
def test_odd_volumes_are_safe(shape: tuple[int, ...]) -> None:
    for relevance in (np.zeros(shape), np.full(shape, -1e300)):
        assert to_pil(volume(relevance, np.ones(shape), smooth=1.0))


@pytest.mark.parametrize(
    ("relevance", "options"),
    [
        (torch.zeros(4, 4), {}),
        (torch.zeros(2, 1, 3, 3, 3), {}),
        (torch.full((2, 2, 2), float("nan")), {}),
        (torch.zeros(2, 2, 2), {"at": (0, 0)}),
        (torch.zeros(2, 2, 2), {"at": (0, 0, 2)}),
        (torch.zeros(2, 2, 2), {"at": 1}),
        (torch.zeros(2, 2, 2), {"values": torch.zeros(2, 2, 3)}),
    ],
    ids=lambda value: str(getattr(value, "shape", value))[:40],
)
def test_wrong_volumes(relevance: Tensor, options: dict[str, Any]) -> None:
    with pytest.raises(LRPError):
        volume(relevance, **options)


def test_sliders_name_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(
        OptionError, match=r"^sliders need the package ipywidgets: pip install ipyw"
    ):
        volume_slider(torch.zeros(2, 2, 2))


def test_bars_are_sorted_and_nothing_is_lost() -> None:
    """The bars sum up to the relevance, because the last one is the sum of all others."""
    relevance = torch.tensor([[0.5, -3.0, 2.0, 0.25, -0.125]])
    figure = bar(relevance, list("abcde"), torch.arange(5.0), most=2, target="good")
    axes = figure.axes[0]
    assert [patch.get_width() for patch in axes.patches] == [-3.0, 2.0, 0.625]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["b = 1", "c = 2", "3 others together"]
    blue, orange = axes.patches[0].get_facecolor(), axes.patches[1].get_facecolor()
    assert blue[2] > blue[0]
    assert orange[0] > orange[2]
    assert "speaks for good" in texts(figure)


def test_a_swarm_has_a_dot_for_each_row() -> None:
    relevance = np.array([[1.0, 5.0], [-1.0, 6.0], [1.0, -7.0]])
    values = np.array([[0.0, 1.0], [5.0, 1.0], [10.0, 1.0]])
    axes = beeswarm(relevance, values, ["age", "income"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["income", "age"]
    age = axes.collections[1]
    assert np.asarray(age.get_offsets())[:, 0].tolist() == [1, -1, 1]
    low, _, high = (np.asarray(color)[:3] for color in age.get_facecolors())
    assert low[2] > low[0]  # dark blue
    assert high[0] > high[2]  # yellow
    places = np.asarray(age.get_offsets())[:, 1]
    assert len({(x, y) for x, y in zip([1, -1, 1], places, strict=True)}) == 3
    assert np.abs(places - 1).max() < 0.5


@pytest.mark.parametrize("size", [0.0, 1.0, -1e300, 1e-300])
def test_odd_tables_are_safe(size: float) -> None:
    assert to_pil(bar(np.full(30, size), ["$x_1$ " * 20] * 30, np.full(30, size)))
    assert to_pil(beeswarm(np.full((1, 1), size)))
    assert to_pil(beeswarm(np.full((300, 3), size), np.full((300, 3), size)))


@pytest.mark.parametrize(
    ("draw", "relevance", "options"),
    [
        (bar, torch.zeros(2, 3), {}),
        (bar, NAN, {}),
        (bar, torch.zeros(3), {"names": ["a"]}),
        (bar, torch.zeros(3), {"values": torch.zeros(2)}),
        (bar, torch.zeros(3), {"most": 0}),
        (bar, torch.zeros(0), {}),
        (bar, torch.tensor(1.0), {}),
        (beeswarm, torch.zeros(2, 3, 4), {}),
        (beeswarm, NAN, {}),
        (beeswarm, torch.zeros(2, 3), {"values": torch.zeros(3, 2)}),
        (beeswarm, torch.zeros(2, 3), {"names": ["a", "b"]}),
    ],
)
def test_wrong_tables(draw: Any, relevance: Tensor, options: dict[str, Any]) -> None:
    with pytest.raises(LRPError):
        draw(relevance, **options)


class Row:
    """What a row of pandas is to NumPy."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.values, dtype=dtype or object)


@pytest.mark.parametrize("form", [list, tuple, Row, np.array, torch.tensor])
def test_values_in_any_form(form: Any) -> None:
    figure = bar(torch.ones(3), ["a" * 50, "b", "c"], form([12345678.0, 0.5, float("nan")]))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a" * 22 + "… = 12345678", "b = 0.5", "c = missing"]
    assert signal(torch.ones(3), form([1.0, 2.0, 3.0])).axes


def test_errors_name_what_is_wrong() -> None:
    ones = torch.ones(2, 2, 2)
    with pytest.raises(InputError, match=r"^the signal must be finite"):
        signal(ones[0], NAN.expand(2, 2))
    with pytest.raises(InputError, match=r"^the volume must be finite"):
        volume(ones, NAN.expand(2, 2, 2))
    with pytest.raises(InputError, match=r"^the table must be finite.* infinite$"):
        beeswarm(ones[0], ones[0] / 0)
    for wrong in (["a", "b"], {"a": 1}, [[1, 2], [3]], np.array([1j, 2])):
        with pytest.raises(InputError, match=r"^the table must"):
            bar(ones[0, 0], values=wrong)  # type: ignore[arg-type]


def test_missing_values_are_grey() -> None:
    table = np.array([[np.nan, 1], [5, np.nan], [10, np.nan]])
    figure = beeswarm(np.ones((3, 2)), table)
    grey, low, high = np.asarray(figure.axes[0].collections[0].get_facecolors())[:, :3].tolist()
    assert len(set(grey)) == 1
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert "Grey: the value is missing" in texts(figure)
    assert "missing" not in texts(beeswarm(np.ones((3, 2)), np.ones((3, 2))))


@pytest.mark.parametrize("draw", [bar, lambda r: beeswarm(r[None])])
def test_tiny_numbers_are_written_in_full(draw: Any) -> None:
    figure = draw(np.array([1e-10, 3e-10]))
    to_pil(figure)
    axis = figure.axes[0].xaxis
    assert axis.get_offset_text().get_text() == ""
    assert any(label.get_text().endswith("e−10") for label in axis.get_ticklabels())


def test_tokens_in_html_are_escaped() -> None:
    found = tokens(["<script>", "a&b", '"'], [[1.0, -1.0, 0.0]] * np.ones((1, 3)), target="<b>")
    page = found.html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "speaks for &lt;b&gt;" in page
    assert "a&amp;b" in page
    assert "background:#ffffff" in page  # zero is white
    assert "background:#803200;color:#ffffff" in page
    assert found._repr_html_() == page


def test_the_key_has_the_colours_of_the_map_and_breaks_between_its_parts() -> None:
    for name in color_maps():
        low, high = (hex_of(each) for each in colorize(np.array([-1.0, 1.0]), 1.0, name))
        key = color_key(name, "<b>", 0.25)
        parts = key.split('<span style="display:inline-block')[1:]
        expected = (f"{low}", "against &lt;b&gt;"), (f"{high}", "for &lt;b&gt;"), ("±0.25", "")
        assert len(parts) == len(expected)
        for part, words in zip(parts, expected, strict=True):
            assert all(word in part for word in words)
    assert "full colour" not in color_key()


@pytest.mark.parametrize(
    ("words", "texts_", "joined"),
    [
        (["un", "##like", "##ly", "##"], ("un", "like", "ly", "##"), (False, True, True, False)),
        (["Ġthe", "Ġcat", "s", "Ġ"], ("the", "cat", "s", "␣"), (False, False, True, False)),
        (["▁the", "▁cat", "s"], ("the", "cat", "s"), (False, False, True)),
        (["a", "\n", ""], ("a", "⏎", "␣"), (False, False, False)),
    ],
)
def test_marks_of_tokenizers(
    words: list[str], texts_: tuple[str, ...], joined: tuple[bool, ...]
) -> None:
    found = tokens(words, np.ones(len(words)))
    assert found.texts == texts_
    assert found.joined == joined


def test_special_tokens_stand_alone() -> None:
    found = tokens(["<s>", "The", "Ġcat", "s", "</s>", "[PAD]"], np.ones(6))
    assert found.joined == (False, False, False, True, False, False)


def test_a_long_token_fits_into_the_line() -> None:
    axes = tokens(["W" * 300, "b"], np.ones(2)).figure().axes[0]
    text, (box, _) = axes.texts[0].get_text(), axes.patches
    assert text.endswith("W…")
    assert 600 < box.get_width() <= 720  # type: ignore[attr-defined]
    assert tokens(["W" * 300], np.ones(1)).texts == ("W" * 300,)


def test_tokens_in_the_terminal_and_as_a_figure() -> None:
    found = tokens(["good", "[red]", "日本", "$x"], torch.tensor([[2.0, -2.0, 0.0, 0.0]]))
    console = Console(file=(file := io.StringIO()), force_terminal=True, color_system="truecolor")
    console.print(found)
    assert "[red]" in file.getvalue()
    assert "48;2;128;50;0" in file.getvalue()
    figure = found.figure("Review")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == ["good", "[red]", "▯▯", "$x"]
    grounds = [np.rint(np.array(p.get_facecolor()[:3]) * 255) for p in figure.axes[0].patches]
    assert [ground.tolist() for ground in grounds[:3]] == FULL[[2, 0, 1]].tolist()
    assert to_pil(figure)
    assert to_pil(tokens(["word"] * 300, np.zeros(300)).figure())


def test_relevance_of_features_is_summed_over_them() -> None:
    relevance = torch.arange(6.0).reshape(1, 3, 2)
    for form in (relevance, relevance[0], (relevance,)):
        assert tokens(list("abc"), form).relevance == (1, 5, 9)
    assert tokens("word", torch.ones(1)).texts == ("word",)
    for wrong in (torch.zeros(2, 4), torch.zeros(4), NAN):
        with pytest.raises(InputError):
            tokens(list("abc"), wrong)
    with pytest.raises(OptionError, match="percentile"):
        tokens(["a"], torch.ones(1), percentile=0)


@pytest.mark.parametrize("package", ["matplotlib", "PIL"])
def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    name = {"PIL": "pillow"}.get(package, package)
    monkeypatch.delitem(sys.modules, "lrp_fx._common.figure", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptionError, match=rf"need the package {name}: pip install {name}, or"):
        as_pixels("cat.jpg") if package == "PIL" else channel_map(torch.zeros(2, 3))  # type: ignore
