"""Patches: only the region changes, and it becomes what its kind says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from lrp_fx.app import KINDS, cover
from lrp_fx.errors import InputError, OptionError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
PIXELS = np.asarray(PICTURE).astype(int)


@pytest.mark.parametrize("kind", KINDS)
def test_rest_stays(kind: str) -> None:
    """Outside of the square every pixel is as it was, and the picture itself is not changed."""
    before = PIXELS.copy()
    found = np.asarray(cover(PICTURE, (30, 20), kind=kind, size=10, seed=0)).astype(int)
    inside = np.zeros((40, 60), bool)
    inside[15:25, 25:35] = True
    assert (found[~inside] == before[~inside]).all()
    assert (found[inside] != before[inside]).any()
    assert (np.asarray(PICTURE) == before).all()


def test_kinds() -> None:
    """The values of each kind, by hand."""
    region = PIXELS[10:21, 5:16]
    corners = (5, 10), (15, 20)

    def covered(kind: str) -> np.ndarray:
        return np.asarray(cover(PICTURE, *corners, kind=kind))[10:21, 5:16].astype(int)

    assert (covered("black") == 0).all()
    assert (covered("white") == 255).all()
    assert (covered("grey") == 128).all()
    assert (covered("mean") == np.rint(region.mean((0, 1)))).all()
    assert covered("blur").std() < region.std() / 2
    assert covered("noise").std() > 50
    assert (covered("noise") != covered("noise")).any()


@given(
    st.tuples(st.integers(0, 59), st.integers(0, 39)),
    st.tuples(st.integers(0, 59), st.integers(0, 39)),
)
def test_rectangles_have_no_direction(start: tuple[int, int], end: tuple[int, int]) -> None:
    """Dragging from either corner covers the same pixels, both corners among them."""
    found = np.asarray(cover(PICTURE, start, end, kind="black"))
    assert (found == np.asarray(cover(PICTURE, end, start, kind="black"))).all()
    assert (found[start[1], start[0]] == 0).all()
    assert (found[end[1], end[0]] == 0).all()
    size = (abs(start[0] - end[0]) + 1) * (abs(start[1] - end[1]) + 1)
    assert (found != PIXELS).any(2).sum() <= size


def test_squares_are_cut_at_the_border() -> None:
    """A square around a corner of the picture."""
    found = np.asarray(cover(PICTURE, (0, 0), kind="black", size=20))
    assert (found[:10, :10] == 0).all()
    assert (found[10:] == PIXELS[10:]).all()


def test_errors() -> None:
    """Outside of the picture, and unknown kinds and sizes."""
    with pytest.raises(InputError, match="outside of the picture of 60 × 40"):
        cover(PICTURE, (60, 0))
    with pytest.raises(OptionError, match="kind must be one of 'mean'"):
        cover(PICTURE, (0, 0), kind="pink")
    with pytest.raises(OptionError, match="size must be an int"):
        cover(PICTURE, (0, 0), size=0)
