"""Colours: zero is the middle, both signs stand out equally, and any colour vision tells them apart."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize import color_limit, color_maps, colorize

SAFE = ("blue-orange", "purple-green")
WHITE = [name for name in color_maps() if name != "black-red-yellow"]
# Machado et al. 2009, severity 1: linear RGB as seen without the middle, the long, the short cones.
BLIND = {
    "deutan": (
        0.367322,
        0.860646,
        -0.227968,
        0.280085,
        0.672501,
        0.047413,
        -0.01182,
        0.04294,
        0.968881,
    ),
    "protan": (
        0.152286,
        1.052583,
        -0.204868,
        0.114503,
        0.786281,
        0.099216,
        -0.003882,
        -0.048116,
        1.051998,
    ),
    "tritan": (
        1.255528,
        -0.076749,
        -0.178779,
        -0.078411,
        0.930809,
        0.147602,
        0.004733,
        0.691367,
        0.3039,
    ),
}
Floats = NDArray[np.float64]


def linear(pixels: NDArray[np.uint8]) -> Floats:
    c = pixels / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(light: Floats) -> Floats:
    """CIELAB (D65) of linear RGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = np.clip(light, 0, 1) @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("name", WHITE)
def test_zero_is_exactly_white(name: str) -> None:
    assert colorize(np.zeros(3), 2.0, name).tolist() == [[255, 255, 255]] * 3


def test_the_post_has_black_red_yellow() -> None:
    found = colorize(np.array([0.0, 0.5, 1.0, -1.0]), 1.0, "black-red-yellow").tolist()
    assert found == [[0, 0, 0], [255, 0, 0], [255, 255, 0], [0, 255, 255]]


@pytest.mark.parametrize("name", [*SAFE, "blue-red"])
def test_both_signs_stand_out_equally(name: str) -> None:
    """Lightness falls on both sides alike, so R and -R draw the same attention."""
    sizes = np.linspace(0, 1, 60)
    plus, minus = (lab(linear(colorize(s * sizes, 1.0, name)))[:, 0] for s in (1, -1))
    assert (np.diff(plus) <= 0.2).all()
    assert (np.diff(minus) <= 0.2).all()
    assert np.abs(plus - minus).max() < 10


@pytest.mark.parametrize("vision", BLIND)
@pytest.mark.parametrize("name", SAFE)
def test_any_colour_vision_tells_the_signs_apart(name: str, vision: str) -> None:
    """The distance in CIELAB stays several times what the eye just sees (2.3)."""
    sizes = np.linspace(0.3, 1, 20)
    plus, minus = (
        lab(linear(colorize(s * sizes, 1.0, name)) @ np.reshape(BLIND[vision], (3, 3)).T)
        for s in (1, -1)
    )
    assert np.linalg.norm(plus - minus, axis=1).min() > 15


def test_signs_and_ends() -> None:
    """Beyond the limit is full colour; huge and tiny values are safe."""
    found = colorize(np.array([-9.0, -1.0, 1.0, 9.0]), 1.0)
    assert found[0].tolist() == found[1].tolist() == [0, 0x3F, 0xB4]
    assert found[2].tolist() == found[3].tolist() == [0x80, 0x32, 0]
    ends = colorize(np.array([-1.0, 0, 1]), 1.0)
    assert np.array_equal(colorize(np.array([-1e308, 0, 1e308]), 5e-324), ends)
    assert colorize(np.array([1.0]), 1.0, "RdBu").tolist() == [[5, 48, 97]]


@pytest.mark.parametrize("name", ["no such map", "", 3])
def test_unknown_colours(name: str) -> None:
    with pytest.raises(OptionError, match=r"'blue-orange'.*matplotlib"):
        colorize(np.zeros(1), 1.0, name)


def test_one_pixel_cannot_blank_the_map() -> None:
    heat = torch.ones(100, 100)
    heat[0, 0] = -1e6
    assert color_limit(heat) == 1.0


def test_zeros_do_not_blank_a_filtered_map() -> None:
    heat = torch.zeros(100, 100)
    heat[0, :3] = torch.tensor([2.0, -2.0, 2.0])
    assert color_limit(heat) == 2.0
    assert color_limit(torch.zeros(4, 4)) == 1.0
    assert color_limit(torch.tensor([1.0, -3.0]), 1) == 3.0


def test_bad_scales() -> None:
    with pytest.raises(InputError, match="1 of 2 values are NaN"):
        color_limit(torch.tensor([1.0, float("nan")]))
    with pytest.raises(OptionError, match="quantile"):
        color_limit(torch.ones(2), 0)
