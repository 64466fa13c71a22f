"""Whatever is passed to a picture: the right picture, or a documented error that says what to pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st
from PIL import Image
from torch import Tensor

from lrp_fx import visualize
from lrp_fx.errors import InputError, OptionError

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.bool, torch.int8, torch.uint8, torch.int32, torch.int64),
)
FILLS = ("mixed", "zero", "positive", "negative", "one", "tiny", "huge", "nan", "inf", "-inf")
FORMS = ("plain", "strided", "gradient", "numpy", "numpy strided", "tuple", "sparse")
FULL = visualize.colorize(np.array([-1.0, 0.0, 1.0]), 1.0)
ADVICE = ("must", "needs", "need", "pass", "no ", "not ", "overflows", "looks as if")
"""One of these stands in every message: it says what is wrong and what is wanted."""


@st.composite
def relevance(draw: Any, dims: int) -> Any:
    """Relevance of images (2), signals (1), volumes (3) or rows (0), in any form."""
    size = st.integers(1, 9)
    shape = [draw(size) for _ in range(dims)]
    shape = [draw(st.integers(1, 4)), *shape] if dims else [draw(size)]
    if draw(st.booleans()):
        shape = [draw(st.integers(1, 3)), *shape]
    if draw(st.integers(0, 19)) == 0:
        shape = draw(st.sampled_from([[], [0], [2, 0, 3], [1, 0, 4, 4], [2] * 6]))
    return formed(
        torch.Size(shape),
        draw(st.sampled_from(FILLS)),
        draw(st.sampled_from(DTYPES)),
        draw(st.sampled_from(FORMS)),
    )


def formed(shape: torch.Size, fill: str, dtype: torch.dtype, form: str) -> Any:
    values = filled(shape, fill)
    if dtype.is_floating_point or values.isfinite().all():
        values = (
            values.clamp(-100, 100).to(dtype) if not dtype.is_floating_point else values.to(dtype)
        )
    if form == "strided" and values.dim():
        values = torch.stack([values, values], -1)[..., 0]
    if form == "gradient" and values.is_floating_point():
        values = values.requires_grad_()
    if form == "sparse" and values.dim():
        values = values.to_sparse()
    if form.startswith("numpy") and values.dtype != torch.bfloat16:
        array = values.numpy()
        return array[..., ::-1] if form == "numpy strided" and array.ndim else array
    return (values,) if form == "tuple" else values


def filled(shape: torch.Size, fill: str) -> Tensor:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flat = values.reshape(-1)
    if fill in ("nan", "inf", "-inf") and flat.numel():
        flat[0] = float(fill)
    scale = {"tiny": 1e-300, "huge": 1e300}.get(fill, 1.0)
    return {
        "zero": values * 0,
        "positive": values.abs(),
        "negative": -values.abs(),
        "one": torch.ones_like(values),
    }.get(fill, values * scale)


def plain(value: Any) -> np.ndarray[Any, Any]:
    """The values in float64."""
    only = value[0] if isinstance(value, tuple) else value
    if isinstance(only, Tensor):
        only = (
            (only.detach().to_dense() if only.layout != torch.strided else only.detach())
            .double()
            .numpy()
        )
    return np.asarray(only, dtype=np.float64)


def drawn(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function returns; None if it refuses the arguments with a message that helps."""
    try:
        return function(*arguments, **options)
    except (InputError, OptionError) as error:
        message = str(error)
    assert any(word in message for word in ADVICE), message
    return None


def has_picture(figure: Any) -> None:
    assert visualize.to_bytes(figure).startswith(b"\x89PNG")


def check_show(value: Any, function: Callable[..., Any] = visualize.show) -> None:
    figure, numbers = drawn(function, value), plain(value)
    fits = numbers.ndim in (3, 4) and numbers.size > 0
    if not (fits and np.isfinite(numbers).all()):
        assert figure is None
        return
    if figure is None:  # channels that look as if they came last, or a sum that overflows
        with pytest.raises(InputError, match=r"channels came last|overflows"):
            function(value)
        return
    heat = np.atleast_3d(numbers.sum(-3)) if numbers.ndim == 4 else numbers.sum(-3)[None]
    panels = [axes.images[0].get_array() for axes in figure.axes if axes.images][: len(heat)]
    for one, pixels in zip(heat, panels, strict=True):
        high, wide = pixels.shape[0] // one.shape[0], pixels.shape[1] // one.shape[1]
        middle = np.asarray(pixels)[high // 2 :: high, wide // 2 :: wide, :3].astype(int)
        assert (middle[one == 0] == FULL[1]).all()
        strong = np.abs(one) >= np.abs(one).max() / 2
        red, blue = middle[..., 0], middle[..., 2]
        assert (red > blue)[(one > 0) & strong].all()
        assert (red < blue)[(one < 0) & strong].all()


@given(relevance(2))
@FEW
def test_any_images(value: Any) -> None:
    check_show(value)


@pytest.mark.slow
@given(relevance(2))
@MANY
def test_very_many_images(value: Any) -> None:
    check_show(value)


OTHERS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "overlay": (2, lambda r: visualize.overlay(r, np.zeros((*plain(r).shape[-2:], 3), np.uint8))),
    "contours": (2, lambda r: visualize.show(r, smooth=1, contours=(0.5,))),
    "grid": (2, lambda r: visualize.grid({"a": r, "b": r})),
    "signal": (1, lambda r: visualize.signal(r, plain(r))),
    "channel_map": (1, visualize.channel_map),
    "volume": (3, visualize.volume),
    "bar": (0, visualize.bar),
    "beeswarm": (0, lambda r: visualize.beeswarm(r, plain(r))),
    "tokens": (
        0,
        lambda r: visualize.tokens([str(i) for i in range(max(1, plain(r).size))], r).figure(),
    ),
}


def check_other(name: str, data: Any) -> None:
    dims, function = OTHERS[name]
    value = data.draw(relevance(dims))
    figure = drawn(function, value)
    if figure is None:
        return
    assert np.isfinite(plain(value)).all()
    has_picture(figure)


@pytest.mark.parametrize("name", OTHERS)
@given(data=st.data())
@settings(FEW, max_examples=8)
def test_any_others(name: str, data: Any) -> None:
    check_other(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
@given(data=st.data())
@settings(MANY, max_examples=150)
def test_very_many_others(name: str, data: Any) -> None:
    check_other(name, data)


@given(relevance(2))
@example(np.array([[[np.inf]], [[-np.inf]]], dtype=np.float32))
@example(np.full((2, 1, 1), 3e38, dtype=np.float32))
@settings(FEW, max_examples=60)
def test_numbers_of_any_relevance(value: Any) -> None:
    """What draws nothing: the sum, the scale, the grid, the colours."""
    numbers = plain(value)
    finite = bool(np.isfinite(numbers).all()) and numbers.size > 0
    for function in (visualize.color_limit, visualize.stride_grid):
        assert finite or drawn(function, value) is None
    limit = drawn(visualize.color_limit, value)
    assert limit is None or limit > 0
    summed = drawn(visualize.heatmap, value)
    if summed is not None:
        assert isinstance(summed, np.ndarray) == isinstance(value, np.ndarray)
        assert tuple(summed.shape) == numbers.shape[:-3] + numbers.shape[-2:]
    colors = drawn(visualize.colorize, value, 1.0)
    assert (colors is not None) == finite
    if colors is not None:
        assert colors.shape == (*numbers.shape, 3)
        assert colors.dtype == np.uint8


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf"), "1", None, True])
def test_a_limit_that_is_none(limit: Any) -> None:
    with pytest.raises(OptionError, match="limit must be"):
        visualize.colorize(np.ones((2, 2)), limit)


MODES = (
    *(
        "1",
        "L",
        "LA",
        "La",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
    ),
    *("I", "F", "I;16", "I;16B", "I;16L"),
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (4, 2)])
def test_any_mode_of_pil(mode: str, size: tuple[int, int]) -> None:
    picture = Image.new(mode, size)
    pixels = drawn(visualize.as_pixels, picture)
    if pixels is None:
        with pytest.raises(InputError, match=r"convert\('RGB'\)"):
            visualize.as_pixels(picture)
        return
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.dtype == np.uint8
    assert visualize.show(torch.ones(1, size[1], size[0]), picture) is not None


def test_modes_keep_their_colours() -> None:
    """A grey, a colour, an alpha, a palette and inks, each seen as it is meant."""
    grey = Image.new("L", (2, 2), 100)
    colour = Image.new("RGB", (2, 2), (200, 100, 50))
    cases: list[tuple[Image.Image, tuple[int, ...]]] = [
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (grey, (100, 100, 100)),
        (Image.new("LA", (2, 2), (100, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (200, 100, 50, 255)), (200, 100, 50)),
        (colour.quantize(4), (200, 100, 50)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), (0, 0, 0)),
        (colour.convert("YCbCr"), (200, 100, 50)),
    ]
    for picture, expected in cases:
        found = visualize.as_pixels(picture)
        assert np.abs(found.astype(int) - np.array(expected)).max() <= 2, picture.mode


@st.composite
def photograph(draw: Any) -> Any:
    """A photograph of 4 × 4 pixels, or something like it, as a tensor or an array."""
    shape = draw(
        st.sampled_from([(3, 4, 4), (1, 3, 4, 4), (1, 4, 4), (4, 4), (4, 4, 3), (5, 4, 4)])
    )
    return formed(
        torch.Size(shape),
        draw(st.sampled_from(FILLS)),
        draw(st.sampled_from(DTYPES)),
        draw(st.sampled_from(FORMS[:5])),
    )


@given(photograph())
@settings(FEW, max_examples=60)
def test_any_photograph(value: Any) -> None:
    pixels = drawn(visualize.as_pixels, value)
    if pixels is not None:
        assert np.isfinite(plain(value)).all()
        assert pixels.shape[-1] == 3
        assert pixels.dtype == np.uint8
    figure = drawn(visualize.overlay, torch.ones(1, 4, 4), value)
    assert figure is None or figure.axes


@pytest.mark.parametrize("value", [None, 5, "map.png", b"", object(), [], {}, [[1, 2], [3]], ()])
def test_what_is_no_relevance(value: Any) -> None:
    for function in (
        *(visualize.show, visualize.heatmap, visualize.color_limit, visualize.stride_grid),
        *(visualize.channel_map, visualize.volume, visualize.bar, visualize.beeswarm),
        lambda each: visualize.grid({"a": each}),
        lambda each: visualize.tokens(["a"], each),
        lambda each: visualize.signal(each, np.zeros((1, 2))),
        lambda each: visualize.colorize(each, 1.0),
    ):
        assert drawn(function, value) is None
