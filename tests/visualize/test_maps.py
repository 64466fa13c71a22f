"""Pictures of images show what the relevance says: right sums, honest scales, white zeros."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from lrp_fx.errors import InputError, LRPError, OptionError
from lrp_fx.visualize import (
    bar,
    colorize,
    explanation_figure,
    grid,
    heatmap,
    overlay,
    show,
    stride_grid,
    tokens,
)
from lrp_fx.visualize.look import contour_levels
from lrp_fx.visualize.smoothing import smoothed
from tests.visualize.helpers import panel, texts

PHOTOGRAPH = Image.new("RGB", (6, 4), (10, 200, 30))
Drawing = Callable[..., Figure]


def ramp() -> Tensor:
    """(3, 4, 6) with the map -12 … 11 / 8, whose zero is the pixel (2, 0)."""
    return ((torch.arange(24.0).reshape(4, 6) - 12) / 8).expand(3, 4, 6) / 3


def test_heatmap_sums_channels() -> None:
    """A heatmap is the plain sum over channels: no absolute values, no scaling, per sample."""
    relevance = torch.tensor([[[[1.0, -2.0]], [[3.0, -4.0]]], [[[5.0, 0.0]], [[-5.0, 0.5]]]])
    expected = torch.tensor([[[4.0, -6.0]], [[0.0, 0.5]]])
    assert torch.equal(heatmap(relevance), expected)
    assert torch.equal(heatmap(relevance[0]), expected[0])
    assert torch.equal(heatmap((relevance,)), expected)
    assert np.array_equal(heatmap(relevance.numpy()), expected.numpy())
    assert torch.equal(heatmap(relevance[:, :, 0], dims=1), expected[:, 0])
    assert torch.equal(heatmap(relevance[:, :, None]), expected[:, None])
    assert torch.equal(heatmap(relevance[0][:, None], dims=3), expected[0][None])


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((4, 4), None), ((4,), None), ((2,) * 6, None), ((2, 3, 4, 5), 1), ((3,), 1)],
)
def test_heatmap_refuses_other_shapes(shape: tuple[int, ...], dims: int | None) -> None:
    """A map that was already summed must not be summed again over its rows."""
    with pytest.raises(InputError, match=r"of shape \(C, .*not \(") as error:
        heatmap(torch.zeros(shape), dims)
    assert ("dims=1" in str(error.value)) == (dims is None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)), "one input, not of 2"),
        (torch.zeros(1, 2, 2, dtype=torch.complex64), "real numbers"),
        (torch.zeros(1, 2, 2, device="meta"), "device meta"),
        (np.array([["a"]]), "real numbers"),
        (None, "a tensor or a NumPy array"),
    ],
)
def test_what_is_no_relevance(wrong: Any, words: str) -> None:
    for function in (heatmap, show):
        with pytest.raises(InputError, match=words):
            function(wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int32])
@pytest.mark.parametrize("form", ["tensor", "array", "captum", "gradient", "batch"])
def test_every_form_gives_the_same_picture(form: str, dtype: torch.dtype) -> None:
    relevance = torch.tensor([[[1, -2], [0, 2]]], dtype=dtype)
    plain = np.asarray(panel(figure := show(torch.tensor([[[1.0, -2], [0, 2]]])), figure.axes[0]))
    if form == "array":
        passed: Any = relevance.float().numpy()
    else:
        passed = {
            "tensor": relevance,
            "captum": (relevance[None],),
            "gradient": relevance.requires_grad_() if dtype.is_floating_point else relevance,
            "batch": relevance[None],
        }[form]
    found = show(passed)
    assert np.array_equal(panel(found, found.axes[0]), plain)


def test_every_pixel_has_its_colour_and_the_same_size() -> None:
    """A saved map is the relevance, each pixel a square of equally many dots, without smoothing."""
    relevance = ramp()
    figure = show(relevance, scale=1.0, size=120)
    dots = panel(figure, figure.axes[0])
    assert dots.shape == (80, 120, 3)
    expected = colorize(relevance.sum(0).double().numpy(), 1.0).repeat(20, 0).repeat(20, 1)
    assert np.array_equal(dots[2:-2, 2:-2], expected[2:-2, 2:-2])
    assert dots[50, 10].tolist() == [255, 255, 255]  # zero is white, not nearly
    assert dots[70, 110].tolist() == colorize(np.ones(1), 1.0)[0].tolist()


def test_the_photograph_does_not_tint_the_map() -> None:
    figure = show(torch.zeros(3, 4, 6), PHOTOGRAPH, size=60)
    photograph, map_ = (panel(figure, axes) for axes in figure.axes[:2])
    assert (photograph[5:-5, 5:-5] == [10, 200, 30]).all()
    assert (map_[2:-2, 2:-2] == 255).all()
    assert [axes.get_label() for axes in figure.axes[:2]] == ["photograph", "relevance"]


@pytest.mark.parametrize("style", ["outlines", "fade", "contours"])
def test_zero_relevance_shows_no_hue(style: Any) -> None:
    """Over a grey photograph nothing has a hue where there is no relevance."""
    rng = np.random.default_rng(0)
    photograph = Image.fromarray(rng.integers(0, 256, (20, 20), dtype=np.uint8))
    figure = overlay(torch.zeros(3, 20, 20), photograph, style=style, size=40)
    dots = panel(figure, figure.axes[0]).astype(int)
    assert (dots.max(axis=2) == dots.min(axis=2)).all()
    if style == "outlines":  # an even photograph has no outlines: zero is white
        even = overlay(torch.zeros(3, 20, 20), Image.new("L", (20, 20), 90), size=40)
        assert (panel(even, even.axes[0])[2:-2, 2:-2] == 255).all()


def test_fade_covers_from_half_of_full_colour() -> None:
    relevance = torch.tensor([[[0.5, -1.0], [0.0, 1.0]]])
    photograph = Image.new("L", (2, 2), 255)
    figure = overlay(relevance, photograph, style="fade", scale=1.0, size=40)
    dots = panel(figure, figure.axes[0])
    assert dots[10, 10].tolist() == colorize(np.array([0.5]), 1.0)[0].tolist()
    assert dots[30, 30].tolist() == colorize(np.array([1.0]), 1.0)[0].tolist()
    assert dots[30, 10].tolist() == [217] * 3  # 0.85 of white


def test_words_and_scale_stand_in_the_picture() -> None:
    said = texts(show(ramp(), target="tiger cat", title="5 $ and 6 $"))
    for words in ("speaks for tiger cat", "speaks against tiger cat", "99.5th percentile", "$ and"):
        assert words in said
    said = texts(show(ramp(), target="日\x00", title="猫"))
    assert "speaks for ▯▯" in said
    assert said.startswith("▯ ")
    said = texts(show(ramp(), smooth=2, contours=(0.5,), scale=1))
    for words in ("σ = 2 pixels", "50%", "|relevance| = 1, as chosen", "the explained class"):
        assert words in said
    assert "All relevance is zero" in texts(show(torch.zeros(3, 4, 4)))


def test_own_and_shared_scales() -> None:
    """With a shared scale equal |R| gets equal colour; with own scales each picture says its own."""
    maps = torch.stack([ramp(), 10 * ramp()])
    own, shared = show(maps, size=60), show(maps, scale="shared", size=60)
    first, second = (panel(own, axes) for axes in own.axes[:2])
    assert np.array_equal(first, second)
    assert "own scale" in texts(own)
    assert texts(own).count("full colour at ±") == 2
    first, second = (panel(shared, axes) for axes in shared.axes[:2])
    assert first[35, 55].astype(int).sum() > second[35, 55].astype(int).sum() + 200
    assert "One scale for all maps" in texts(shared)


def test_targets_of_a_batch_are_titles() -> None:
    figure = show(torch.ones(2, 3, 4, 6), target=["cat", "dog"], titles=["a", "b"])
    assert [axes.get_label() for axes in figure.axes[:2]] == ["a · cat", "b · dog"]
    assert "speaks for the explained class" in texts(figure)


def test_a_row_for_each_sample_a_column_for_each_map() -> None:
    batch = torch.rand(2, 3, 4, 6)
    figure = grid(
        {"z+": batch, "ε": batch.numpy()}, [PHOTOGRAPH, PHOTOGRAPH], titles=["a", "b"], size=60
    )
    assert len([axes for axes in figure.axes if axes.get_label() != "colour bar"]) == 6
    assert [axes.get_label() for axes in figure.axes[:3]] == ["photograph", "z+", "ε"]
    with pytest.raises(InputError, match="'z' has 2, 'e' has 1"):
        grid({"z": batch, "e": batch[:1]})
    with pytest.raises(InputError, match="mapping from titles"):
        grid(batch)  # type: ignore[arg-type]


def test_the_command_lines_figure() -> None:
    maps = {"relevance": ramp(), "top 5 %": ramp() * 1e-9}
    figure = explanation_figure(PHOTOGRAPH, maps, title="tiger cat (39.5%)")
    assert [axes.get_label() for axes in figure.axes[:3]] == ["photograph", *maps]
    assert figure.texts[0].get_text() == "tiger cat (39.5%)"
    with pytest.raises(InputError, match="'relevance' has 6 × 4 positions"):
        explanation_figure(PHOTOGRAPH, {"relevance": torch.zeros(3, 6, 4)})


def test_relevance_of_a_layer_covers_whole_pixels() -> None:
    """A map of 2 × 3 on a photograph of 4 × 6: each value is a square of 2 × 2 pixels."""
    relevance = torch.tensor([[[1.0, 0, -1], [0, 1, 0]]])
    figure = overlay(relevance, PHOTOGRAPH, scale=1.0, size=60)
    dots = panel(figure, figure.axes[0])
    assert dots.shape == (40, 60, 3)
    assert dots[30, 10].tolist() == dots[25, 15].tolist() == [255, 255, 255]
    assert dots[10, 10].tolist() == dots[15, 15].tolist() != [255, 255, 255]
    with pytest.raises(InputError, match="as the model saw it"):
        overlay(torch.zeros(1, 3, 3), PHOTOGRAPH)


@pytest.mark.parametrize("draw", [show, lambda r: overlay(r, torch.zeros(r.shape[-2:]))])
@pytest.mark.parametrize(
    "relevance",
    [
        torch.zeros(3, 1, 1),
        torch.ones(1, 1, 1),
        -torch.ones(3, 2, 5),
        torch.full((1, 2, 2), 1e-320, dtype=torch.float64),
        torch.tensor([[[1.7e308, -1.7e308]]], dtype=torch.float64),
        torch.ones(1, 1, 300),
        torch.ones(1, 300, 1),
        torch.zeros(2, 3, 5, 5),
        torch.ones(1, 2, 2, dtype=torch.bool),
    ],
    ids=lambda r: f"{tuple(r.shape)}-{r.flatten()[0].item():.2g}",
)
def test_odd_maps_are_safe(draw: Drawing, relevance: Tensor) -> None:
    if relevance.ndim == 4 and draw is not show:
        with pytest.raises(InputError, match="2 maps need as many photographs, got 1"):
            draw(relevance)
        return
    figure = draw(relevance)
    dots = panel(figure, figure.axes[0])
    assert min(dots.shape[:2]) >= 16
    assert max(dots.shape[:2]) <= 1200


def test_huge_maps_are_reduced_and_say_so() -> None:
    relevance = np.zeros((1, 2500, 2500), dtype=np.float32)
    relevance[0, :3, :3] = 9
    figure = show(relevance)
    dots = panel(figure, figure.axes[0])
    assert dots.shape[:2] == (834, 834)
    assert "mean of 3 × 3 pixels" in texts(figure)
    assert (dots[3:-3, 3:-3] == 255).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_an_error(value: float) -> None:
    relevance = torch.zeros(3, 4, 6)
    relevance[0, 0, 0] = value
    for draw in (show, lambda r: overlay(r, PHOTOGRAPH), lambda r: grid({"a": r}), stride_grid):
        with pytest.raises(InputError, match="1 of 72 values are NaN or infinite"):
            draw(relevance)


@pytest.mark.parametrize(
    "options",
    [
        {"colors": "no such map"},
        {"scale": "mine"},
        {"scale": 0},
        {"scale": float("nan")},
        {"percentile": 0},
        {"percentile": 101},
        {"percentile": "all"},
        {"smooth": -1},
        {"smooth": float("inf")},
        {"contours": (1.5,)},
        {"contours": 0.5},
        {"size": 0},
        {"titles": ["a", "b"]},
        {"target": ["a", "b"]},
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(LRPError):
        show(ramp(), **options)
    with pytest.raises(InputError, match="overlay needs the photographs"):
        overlay(ramp(), None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="style"):
        overlay(ramp(), PHOTOGRAPH, style="x")  # type: ignore[arg-type]


def test_smoothing_keeps_the_sum() -> None:
    """Also at the border, and with weights that are wider than the map."""
    heat = np.random.default_rng(0).normal(size=(7, 9))
    for sigma in (0.5, 2.0, 15.0):
        assert smoothed(heat, sigma).sum() == pytest.approx(heat.sum(), abs=1e-12)
    far = np.zeros((1, 41))
    far[0, 20] = 1
    weights = np.exp(-0.5 * ((np.arange(41) - 20) / 3.0) ** 2)
    assert smoothed(far, 3.0)[0, 15:26] == pytest.approx((weights / weights.sum())[15:26], rel=0.01)


@pytest.mark.parametrize("shape", [(4, 4), (4,), (1, 2, 3, 4, 5)])
def test_other_shapes_name_their_figure(shape: tuple[int, ...]) -> None:
    for draw in (show, stride_grid, lambda r: overlay(r, PHOTOGRAPH), lambda r: grid({"a": r})):
        with pytest.raises(InputError, match=r"images need.*volume for volumes, bar for rows"):
            draw(torch.zeros(shape))


def test_contours_hold_their_share() -> None:
    """By hand: 5 + 3 of 10 is the smallest region with at least half of what is positive and 80 %."""
    heat = np.array([[5.0, 3.0, 2.0], [-4.0, -1.0, 0.0]])
    assert contour_levels(heat, 0.45) == (None, None)  # the level is the largest value itself
    assert contour_levels(heat, 0.7) == (3.0, None)
    assert contour_levels(heat, 0.9) == (2.0, -1.0)
    assert contour_levels(np.zeros((2, 2)), 0.5) == (None, None)


def test_contours_are_drawn_on_what_is_large() -> None:
    relevance = torch.zeros(1, 40, 40)
    relevance[0, 10:20, 10:20] = 1
    figure = show(relevance, contours=(0.5,), size=80)
    (lines,) = figure.axes[0].collections
    ends = lines.get_paths()[0].vertices
    assert 15 < ends.min() < 28
    assert 32 < ends.max() < 45


def test_strides_leave_a_grid() -> None:
    """Relevance of a convolution with stride 2 and a kernel of 3 has a grid of 2; with 2 it has none."""
    torch.manual_seed(0)
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    for kernel, expected in ((3, 2), (2, None)):
        conv = nn.Conv2d(1, 1, kernel, stride=2)
        nn.init.ones_(conv.weight)
        (gradient,) = torch.autograd.grad(conv(x).sum(), x)
        found = stride_grid((x * gradient)[:, :, 1:, 1:] if kernel == 3 else x * gradient)
        assert (found.period if found else None) == expected
    assert stride_grid(torch.rand(3, 64, 64)) is None
    assert stride_grid(torch.zeros(3, 64, 64)) is None
    assert stride_grid(torch.rand(3, 5, 5)) is None
    comb = torch.zeros(1, 64, 64)
    comb[:, ::4, ::4] = torch.rand(16, 16)
    said = texts(show(comb))
    assert "period of 4 pixels" in said
    assert "period" not in texts(show(comb, smooth=2))


def test_figures_are_not_registered() -> None:
    """A figure leaves nothing in pyplot's list of open figures."""
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    show(ramp(), PHOTOGRAPH)
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("shape", [(9, 8, 3), (9, 8, 1), (2, 9, 8, 4)])
def test_channels_that_come_last_are_refused(shape: tuple[int, ...]) -> None:
    """Their rows would be summed as if they were channels."""
    for draw in (show, heatmap):
        with pytest.raises(InputError, match=r"relevance\.transpose\(2, 0, 1\)"):
            draw(torch.zeros(shape))
    first = np.moveaxis(np.zeros(shape), -1, -3)
    assert heatmap(first).shape == shape[:-1]
    assert show(first).axes
    assert show(torch.zeros(64, 4, 4)).axes  # a small layer
    assert show(heatmap(torch.zeros(shape), dims=2)[..., None, :, :]).axes  # if it was meant


def test_a_map_covers_squares() -> None:
    """A map of 2 × 4 over 8 × 8 pixels belongs to another photograph."""
    with pytest.raises(InputError, match="a square of pixels"):
        show(torch.zeros(1, 2, 4), torch.zeros(3, 8, 8))


def test_maps_without_channels_are_named() -> None:
    with pytest.raises(InputError, match=r"pass heatmap\[:, None\]"):
        show(torch.zeros(2, 4, 4), torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_are_finite(dtype: torch.dtype) -> None:
    relevance = torch.full((2, 2, 2), 60000.0, dtype=dtype)
    assert heatmap(relevance).tolist() == relevance.double().sum(0).tolist()
    if dtype == torch.float16:
        assert np.isfinite(heatmap(relevance.numpy())).all()


def test_targets_may_be_indices() -> None:
    for target in (7, np.int64(7), torch.tensor(7)):
        assert "speaks for class 7" in texts(show(ramp(), target=target))
        assert "speaks for class 7" in texts(show(torch.zeros(2, 3, 4, 4), target=target))
    figure = show(ramp(), target=None, title=None)  # type: ignore[arg-type]
    assert "speaks for the explained class" in texts(figure)
    assert "None" not in texts(figure)
    assert "class 1" in texts(show(torch.zeros(2, 3, 4, 4), target=torch.tensor([1, 2])))
    assert "3" in texts(show(ramp(), title=3))  # type: ignore[arg-type]
    assert "speaks for class 0" in texts(bar(torch.ones(2), target=0))
    assert "for class 0" in tokens(["a"], torch.ones(1), target=0).html()


def test_each_photograph_states_its_stretch() -> None:
    photographs = torch.stack([torch.full((3, 4, 6), -1.0), torch.full((3, 4, 6), -1.0)])
    photographs[0, 0, 0, 0], photographs[1, 0, 0, 0] = 3, 5
    maps = torch.stack([ramp(), ramp()])
    for figure in (
        grid({"a": maps}, photographs),
        show(maps, photographs, titles=["one", "two"]),
        show(maps, photographs),
    ):
        for high in (3, 5):
            assert f"to {high} (white)" in texts(figure)


def test_zero_maps_beside_others_say_so() -> None:
    written = texts(grid({"a": ramp(), "b": ramp() * 0}))
    assert "all zero" in written
    assert "±1" not in written


def test_reduced_maps_state_what_is_true() -> None:
    """The limits belong to what is drawn, each axis is said, and cancelling is too."""
    assert "mean of 1 × 3 pixels" in texts(show(np.ones((1, 1, 2500))))
    checkered = np.indices((2, 2400)).sum(0)[None] % 2 * 2.0 - 1
    checkered[0, 0, :2] = 1
    figure = show(checkered, percentile=100)
    assert "100% of |relevance| cancels" in texts(figure)
    dots = panel(figure, figure.axes[0])
    assert dots[0, 0].tolist() != [255] * 3
    assert "cancels" not in texts(show(np.ones((1, 2, 2400))))


def test_photographs_stay_multiples_of_their_maps() -> None:
    """1500 pixels over a map of 500: a half would give values of one and of two dots."""
    relevance = np.zeros((1, 500, 1))
    relevance[0, ::2] = 1
    figure = overlay(relevance, np.zeros((1500, 3), dtype=np.uint8), style="fade", scale=1.0)
    column = panel(figure, figure.axes[0])[:, 0, 0].astype(int)
    assert len(column) % 500 == 0
    assert len(set(column[3:-3].tolist())) == 2
