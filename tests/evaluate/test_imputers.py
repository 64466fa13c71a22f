"""Imputers keep what is known and fill the rest as their formula says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate import Blur, Constant, Inpainting, Mean, Noise
from lrp_fx.evaluate.imputers import fill_from_neighbours
from tests.evaluate.helpers import images

X = images(1)[0]
MASKS = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(2)) < 0.5
IMPUTERS = [Constant(), Mean(), Noise(), Blur(2.0), Inpainting()]


@pytest.mark.parametrize("imputer", IMPUTERS, ids=str)
def test_known_entries_stay(imputer) -> None:
    filled = imputer(X, MASKS)
    assert filled.shape == (3, *X.shape)
    kept = ~MASKS.expand(filled.shape)
    assert torch.equal(filled[kept], X.expand(filled.shape)[kept])
    assert not torch.equal(filled[~kept], X.expand(filled.shape)[~kept])
    assert torch.equal(imputer(X, MASKS), filled)  # the same noise


def test_values() -> None:
    mask = torch.ones(1, 1, 12, 12, dtype=torch.bool)
    assert torch.equal(Constant(3)(X, mask)[0], torch.full_like(X, 3))
    torch.testing.assert_close(Mean()(X, mask)[0, :, 5, 5], X.mean((1, 2)))
    flat = torch.ones_like(X)
    torch.testing.assert_close(Blur()(flat, mask)[0], flat)
    noise = Noise()(X, mask)[0]
    assert not torch.equal(Noise(1)(X, mask)[0], noise)


def solved(x: Tensor, mask: Tensor) -> Tensor:
    """The system of neighbours, pixel by pixel, solved at once."""
    channels, height, width = x.shape
    number = torch.arange(height * width).reshape(height, width)
    matrix = torch.eye(height * width, dtype=torch.float64)
    right = x.double().flatten(1).T.clone()
    for i, j in mask.nonzero().tolist():
        row = number[i, j]
        matrix[row, row] = 0
        right[row] = 0
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                a, b = i + down, j + across
                if (down or across) and 0 <= a < height and 0 <= b < width:
                    weight = 1 / 12 if down and across else 1 / 6
                    matrix[row, row] += weight
                    matrix[row, number[a, b]] -= weight
    return torch.linalg.solve(matrix, right).T.reshape(channels, height, width)


def test_inpainting_solves_the_system() -> None:
    """Twenty steps of conjugate gradients on each resolution suffice for such an image."""
    masks = MASKS.clone()
    masks[2] = True
    masks[2, 0, 3, 4] = False  # one pixel is known: the solution has its value everywhere
    found = fill_from_neighbours(torch.where(masks, 0.0, X).double(), masks)
    for place in range(3):
        torch.testing.assert_close(found[place], solved(X, masks[place, 0]), rtol=0, atol=0.02)
    torch.testing.assert_close(found[0], solved(X, masks[0, 0]), rtol=0, atol=1e-5)


def test_inpainting_of_everything_is_the_mean() -> None:
    mask = torch.ones(1, 1, 12, 12, dtype=torch.bool)
    filled = Inpainting(noise=0)(X, mask)[0]
    torch.testing.assert_close(filled, X.mean((1, 2), keepdim=True).expand(X.shape))


def test_wrong_use() -> None:
    tokens, mask = torch.arange(4), torch.ones(1, 4, dtype=torch.bool)
    for imputer in (Mean(), Noise(), Blur(), Inpainting()):
        with pytest.raises(InputError, match="Constant"):
            imputer(tokens, mask)
    with pytest.raises(OptionError, match="sigma"):
        Blur(0)
    with pytest.raises(OptionError, match="noise"):
        Inpainting(-1)
    with pytest.raises(OptionError, match="value"):
        Constant("a")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        *((-1, torch.uint8), (300, torch.uint8), (0.9, torch.int64), (1e30, torch.int64)),
        *((1e6, torch.float16), (1e39, torch.float32), (2, torch.bool)),
    ],
    ids=str,
)
def test_a_constant_that_the_inputs_cannot_hold(value: float, dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match="cannot hold the constant"):
        Constant(value)(torch.zeros(4, dtype=dtype), torch.ones(1, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(255, torch.uint8), (103.0, torch.int64), (-1.5, torch.float16), (True + 0, torch.bool)],
    ids=str,
)
def test_a_constant_that_the_inputs_hold(value: float, dtype: torch.dtype) -> None:
    filled = Constant(value)(torch.zeros(4, dtype=dtype), torch.ones(1, 4, dtype=torch.bool))
    assert filled.dtype == dtype
    assert filled.double().tolist() == [[value] * 4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("imputer", IMPUTERS, ids=str)
def test_half_precision_is_only_rounded_at_the_end(imputer, dtype: torch.dtype) -> None:
    x = X.to(dtype)
    filled = imputer(x, MASKS)
    assert filled.dtype == dtype
    assert torch.equal(filled, imputer(x.float(), MASKS).to(dtype))


@pytest.mark.parametrize(
    "make", [lambda: Noise(None), lambda: Inpainting(seed=1.5), lambda: Constant(float("nan"))]
)
def test_settings_are_checked_when_they_are_made(make) -> None:
    with pytest.raises(OptionError, match="must be"):
        make()
