"""Localisation, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate import MosaicFocus, Patches, PointingGame, RelevanceShare
from lrp_fx.evaluate.localisation import (
    choose_mosaics,
    mosaic,
    quadrant_share,
    quadrants,
    shrunk,
)

HEAT = torch.tensor([[[0.0, 1.0, -5.0], [2.0, 1.0, 0.0]]])
PLACE = torch.tensor([[[False, True, True], [False, False, False]]])
ANY = torch.zeros(1, dtype=torch.long)


def test_share_and_hit_by_hand() -> None:
    x = HEAT[:, None]
    assert RelevanceShare(masks=PLACE)(None, lambda x, t: x, x, ANY).tolist() == [0.25]
    assert PointingGame(masks=PLACE)(None, lambda x, t: x, x, ANY).tolist() == [0]
    near = PointingGame(masks=PLACE, tolerance=1)
    assert near(None, lambda x, t: x, x, ANY).tolist() == [1]
    assert near.name == "pointing game (tolerance=1)"


def test_maps_that_say_nothing_get_chance() -> None:
    x = HEAT[:, None]
    nothing = torch.zeros_like(x)
    assert RelevanceShare(masks=PLACE)(None, lambda x, t: nothing - 1, x, ANY).tolist() == [2 / 6]
    assert PointingGame(masks=PLACE)(None, lambda x, t: nothing, x, ANY).tolist() == [2 / 6]


def test_places_of_tokens() -> None:
    tokens, place = torch.tensor([[5, 6, 7]]), torch.tensor([[False, True, False]])
    relevance = torch.tensor([[1.0, 3.0, -9.0]])
    assert RelevanceShare(masks=place)(None, lambda x, t: relevance, tokens, ANY).tolist() == [0.75]
    assert PointingGame(masks=place)(None, lambda x, t: relevance, tokens, ANY).tolist() == [1]


def test_mosaics_hold_four_classes_and_the_image() -> None:
    targets = [3, 3, 1, 2, 0, 5, 3]
    chosen = choose_mosaics(targets, 3, seed=0)
    assert len(chosen) == 21
    for number, (four, quadrant) in enumerate(chosen):
        assert four[quadrant] == number // 3
        assert len({targets[each] for each in four}) == 4
    assert {quadrant for _, quadrant in chosen} == {0, 1, 2, 3}
    assert chosen != choose_mosaics(targets, 3, seed=1)


def test_focus_by_hand() -> None:
    four = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 3)
    heat = mosaic(four)[0]
    assert heat.tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2
    parts = quadrants(heat.expand(4, -1, -1)).flatten(2)
    shares = quadrant_share(parts, torch.arange(4))
    assert shares.tolist() == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert quadrant_share(-parts, torch.arange(4)).tolist() == [0.25] * 4
    assert torch.equal(quadrants(torch.ones(2, 5, 7)), torch.ones(2, 4, 2, 3))


def test_focus_of_regions_lets_neighbours_cancel() -> None:
    """Next to the evidence, a checkerboard: by pixels it counts, by regions it is nothing."""
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    evidence = torch.full((8, 8), 1.0)

    def explain(x: Tensor, targets: Tensor) -> Tensor:
        # each image is filled with its class, so the mosaic shows which quadrant is explained
        own = x[:, 0] == targets[:, None, None]
        return torch.where(own, evidence.repeat(2, 2), board.repeat(2, 2))[:, None]

    x = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8).clone()
    targets = torch.arange(4)
    by_pixels = MosaicFocus()(None, explain, x, targets)
    by_regions = MosaicFocus(regions=Patches(4))(None, explain, x, targets)
    assert by_pixels.tolist() == pytest.approx([64 / (64 + 3 * 32)] * 4)
    assert by_regions.tolist() == [1.0] * 4


@pytest.mark.parametrize("shrink", [False, True])
def test_focus_finds_the_explained_image(shrink: bool) -> None:
    """Image n has the value n everywhere, and the map is one where the target's value is."""
    x = torch.arange(5.0)[:, None, None, None].expand(5, 1, 4, 4)
    seen = []

    def right(images: Tensor, targets: Tensor) -> Tensor:
        seen.append(images.shape[1:])
        return (images == targets[:, None, None, None]).float()

    targets = torch.arange(5)
    metric = MosaicFocus(shrink=shrink, batch_size=3)
    assert metric(None, right, x, targets).tolist() == [1.0] * 5
    assert set(seen) == {(1, 4, 4) if shrink else (1, 8, 8)}
    assert metric(None, lambda images, t: images * 0 + 1, x, targets).tolist() == [0.25] * 5


def test_wrong_inputs() -> None:
    with pytest.raises(InputError, match="four classes"):
        MosaicFocus()(None, lambda x, t: x, torch.rand(3, 1, 2, 2), torch.arange(3))
    with pytest.raises(InputError, match="masks"):
        RelevanceShare(masks=PLACE)(None, lambda x, t: x, torch.rand(1, 1, 5, 5), ANY)
    with pytest.raises(InputError, match="bool"):
        RelevanceShare(masks=HEAT)(None, lambda x, t: x, HEAT[:, None], ANY)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((1, 2, 4), (0, slice(None), 3)),  # time series
        ((1, 4, 2), (0, 3)),  # tokens
        ((1, 1, 3), (0, 0, 1)),  # the method has summed the channels
        ((1, 2, 3, 4, 5), (0, slice(None), 1, 2, 3)),  # a volume
        ((1, 2, 4, 4), (0, slice(None), 1, 2)),
    ],
)
def test_channels_are_summed_in_inputs_of_every_kind(shape, place) -> None:
    """Relevance 3 and −1 in the channels of the place are 2 there, and a hit; 2 lie elsewhere."""
    relevance = torch.zeros(shape)
    relevance[place] = 2.0 if relevance[place].numel() == 1 else torch.tensor([3.0, -1.0])
    relevance.view(-1)[0] = 2.0
    dim = 2 if shape == (1, 4, 2) else 1
    masks = torch.zeros(shape, dtype=torch.bool)
    masks[place] = True
    for mask in (masks.amax(dim), masks.amax(dim, keepdim=True)):
        share = RelevanceShare(masks=mask)(None, lambda x, t: relevance, relevance, ANY)
        assert share.tolist() == [0.5]
        game = PointingGame(masks=mask)(None, lambda x, t: relevance, relevance, ANY)
        assert game.tolist() == [0.5]
        near = PointingGame(masks=mask, tolerance=4)(None, lambda x, t: relevance, relevance, ANY)
        assert near.tolist() == [1]


def test_a_mask_that_fits_two_dimensions_is_an_error_whose_advice_works() -> None:
    heat = torch.tensor([[[1.0, 1.0], [-1.0, 5.0]]])  # sums (2, 4) over features, (0, 6) in time
    last = torch.tensor([[False, True]])
    with pytest.raises(InputError, match=r"either dimension.*\(N, T, 1\).*\(N, 1, T\)"):
        RelevanceShare(masks=last)(None, lambda x, t: heat, heat, ANY)
    for dim, expected in ((2, 4 / 6), (1, 1.0)):
        metric = RelevanceShare(masks=last.unsqueeze(dim))
        assert metric(None, lambda x, t: heat, heat, ANY).tolist() == [expected]


def test_masks_with_a_channel_of_size_one() -> None:
    x = HEAT[:, None]
    for tolerance, expected in ((0, 0), (1, 1)):
        game = PointingGame(masks=PLACE[:, None], tolerance=tolerance)
        assert game(None, lambda x, t: x, x, ANY).tolist() == [expected]
    apart = torch.cat([x, x - 9], 1)  # a place in one channel
    places = torch.stack([PLACE, ~PLACE & False], 1)
    game = PointingGame(masks=places, tolerance=1)
    assert game(None, lambda x, t: x, apart, ANY).tolist() == [1]
    with pytest.raises(InputError, match="bool tensor"):
        PointingGame(masks=[[True]])(None, lambda x, t: x, x, ANY)


@pytest.mark.parametrize("kind", [RelevanceShare, PointingGame])
def test_several_places_are_told_apart(kind) -> None:
    eyes, mouth = kind(masks=PLACE, label="eyes"), kind(masks=~PLACE, label="mouth")
    assert eyes.name == f"{kind(masks=PLACE).name} (eyes)" != mouth.name
    assert "masks=bool (1, 2, 3)" in repr(eyes)
    assert "label='eyes'" in repr(eyes)
    for label in (3, ""):
        with pytest.raises(OptionError, match="label must be"):
            kind(masks=PLACE, label=label)


@pytest.mark.parametrize("tolerance", [-1, 0.5, None], ids=str)
def test_the_tolerance_may_be_zero(tolerance) -> None:
    with pytest.raises(OptionError, match="at least 0"):
        PointingGame(masks=PLACE, tolerance=tolerance)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64], ids=str)
def test_shrunk_images_have_the_mean_of_their_pixels(dtype: torch.dtype) -> None:
    x = torch.tensor([[[[0, 3], [4, 4]]]]).to(dtype)
    small = shrunk(x, (1, 1))
    assert small.dtype == dtype
    assert small.item() == (3 if dtype == torch.uint8 else 2.75)
