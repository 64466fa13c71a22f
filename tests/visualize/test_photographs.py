"""Photographs of every kind become the pixels that a person would expect."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lrp_fx.errors import InputError
from lrp_fx.visualize import as_pixels, overlay, show
from lrp_fx.visualize.photographs import as_picture, sketch

GREY = [[0, 51], [102, 255]]


def of_mode(mode: str) -> Image.Image:
    """The picture GREY in a mode of PIL."""
    if mode in ("I;16", "I;16B"):
        raw = (np.array(GREY) * 257).astype("<u2" if mode == "I;16" else ">u2")
        return Image.frombytes(mode, (2, 2), raw.tobytes())
    if mode in ("I", "F"):
        return Image.fromarray(np.array(GREY, dtype=np.int32 if mode == "I" else np.float32) * 7)
    return Image.fromarray(np.array(GREY, dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize(
    "mode",
    ["L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I;16B", "I", "F"],
)
def test_every_mode_of_pil(mode: str) -> None:
    pixels = as_pixels(of_mode(mode))
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array(GREY)[..., None]).max() <= 1
    assert show(torch.zeros(1, 2, 2), of_mode(mode)).axes


def test_black_and_white_alpha_and_twelve_bits() -> None:
    assert as_pixels(of_mode("1").convert("1")).max() == 255
    clear = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    assert as_pixels(clear).tolist() == [[[255, 255, 255]]]
    half = as_pixels(Image.new("LA", (1, 1), (0, 128))).ravel()
    assert np.abs(half.astype(int) - 127).max() <= 1
    palette = Image.new("P", (1, 1))
    palette.putpalette([9, 8, 7])
    palette.info["transparency"] = 0
    assert as_pixels(palette).tolist() == [[[255, 255, 255]]]
    twelve = Image.frombytes("I;16", (2, 1), np.array([0, 4095], "<u2").tobytes())
    assert as_pixels(twelve)[0, 1].tolist() == [255] * 3
    assert as_picture(twelve).words == "12-bit photograph"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_normalised_tensors(dtype: torch.dtype) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.1, 0.05)
    pixels = torch.tensor([0.25, 0.5, 0.75])[:, None, None].expand(3, 2, 2)
    normalised = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    found = as_pixels(normalised.to(dtype), mean, std)
    assert np.abs(found[0, 0].astype(int) - [64, 128, 191]).max() <= 1
    again = as_pixels(normalised[None].to(dtype), torch.tensor(mean), std)
    assert np.abs(again.astype(int) - found).max() <= 1
    with pytest.raises(InputError, match="one for each of 3 channels"):
        as_pixels(normalised, (0.5, 0.5), std)
    with pytest.raises(InputError, match="belong to normalised tensors"):
        as_pixels(Image.new("L", (2, 2)), 0.5, 0.5)


@pytest.mark.parametrize(
    ("array", "expected", "words"),
    [
        (np.array([[0, 255]], dtype=np.uint8), [0, 255], "input"),
        (np.array([[0, 65535]], dtype=np.uint16), [0, 255], "16-bit photograph"),
        (np.array([[0, 4095]], dtype=np.uint16), [0, 255], "12-bit photograph"),
        (np.array([[-0.1, 0.2, 1.12]]), [0, 51, 255], "input"),
        (np.array([[-9.0, 51.0, 270.0]]), [0, 51, 255], "input"),
        (np.array([[-0.1, 0.1]]), [0, 255], "input, from -0.1 (black) to 0.1 (white)"),
        (np.array([[0.0, 0.2]]), [0, 51], "input"),
        (np.array([[0.0, 51.0]]), [0, 51], "input"),
        (np.array([[-1.0, 3.0]]), [0, 255], "input, from -1 (black) to 3 (white)"),
        (np.array([[-1e308, 1e308]]), [0, 255], "input, from -1e+308 (black) to 1e+308 (white)"),
        (np.array([[-2.0, -2.0]]), [128, 128], "input, one constant value"),
        (np.array([[True, False]]), [255, 0], "input"),
    ],
)
def test_ranges(array: Any, expected: list[int], words: str) -> None:
    found = as_picture(array)
    assert found.pixels[0, :, 0].tolist() == expected
    assert found.words == words


def test_channels_first_and_last() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(as_pixels(image), image)
    assert np.array_equal(as_pixels(image.transpose(2, 0, 1)), image)
    assert np.array_equal(as_pixels(torch.from_numpy(image).permute(2, 0, 1)), image)
    assert np.array_equal(as_pixels(torch.from_numpy(image)), image)
    assert as_picture(torch.zeros(12, 5, 7)).words == "input, mean of 12 channels"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("cat.jpg", "a picture of PIL"),
        (torch.zeros(3), r"\(C, H, W\)"),
        (np.zeros((0, 4)), r"\(C, H, W\)"),
        (np.array([[1j]]), "real numbers"),
        (np.array([[np.nan]]), "NaN"),
        (Image.new("L", (0, 3)), "no pixels"),
    ],
)
def test_what_is_no_photograph(wrong: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_pixels(wrong)
    with pytest.raises(InputError):
        overlay(torch.zeros(3, 2, 2), wrong)


def test_outlines_lie_at_edges() -> None:
    """Even parts are paper, exactly; a line runs along the dark side of an edge."""
    halves = np.full((12, 12), 230, dtype=np.uint8)
    halves[:, 6:] = 40
    drawn = sketch(as_picture(halves), sigma=1.0)
    assert (drawn[:, [0, 1, 10, 11]] == 1).all()
    assert (drawn[:, 6] < 0.5).all()


def test_a_fourth_channel_is_transparency_in_pixels_only() -> None:
    clear = np.array([[[200, 100, 0, 0]]], dtype=np.uint8)
    assert as_pixels(clear).tolist() == [[[255, 255, 255]]]
    found = as_picture(torch.tensor([0.0, 0.4, 0.8, 0.8])[:, None, None])
    assert found.pixels.tolist() == [[[round(255 * 0.5)] * 3]]
    assert found.words == "input, mean of 4 channels"
    assert as_pixels(torch.zeros(4, 1, 1), 0.2, 1.0).tolist() == [[[51] * 3]]


def test_pixels_were_never_normalised() -> None:
    for dtype in (np.uint8, np.uint16, np.int64):
        with pytest.raises(InputError, match="belong to normalised floats"):
            as_pixels(np.full((2, 2, 3), 7, dtype=dtype), mean=0.5)


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_colours_that_are_multiplied_with_alpha(mode: str) -> None:
    half = Image.new("LA", (1, 1), (0, 128))
    half = half.convert(mode) if mode == "La" else half.convert("RGBA").convert(mode)
    assert np.abs(as_pixels(half).astype(int) - 127).max() <= 1
