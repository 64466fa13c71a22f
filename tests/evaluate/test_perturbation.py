"""Region perturbation, by hand and by a slow twin."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate import (
    ABPC,
    SRG,
    Bootstrap,
    CascadingRandomisation,
    ClassCorrelation,
    Comprehensiveness,
    Constant,
    LeastRelevantFirst,
    Mean,
    MosaicFocus,
    MostRelevantFirst,
    Noise,
    Patches,
    Positions,
    Sufficiency,
)
from lrp_fx.evaluate.perturbation import ranks_of, share_of
from tests.evaluate.helpers import FIRST, ONES, by_contribution, images, linear, small_network


def test_abpc_by_hand() -> None:
    """Most first the logit is 10, 6, 3, 1, 0; least first 10, 9, 7, 4, 0: areas 3.75 and 6.25."""
    assert ABPC()(linear, by_contribution, ONES, FIRST).tolist() == [2.5]
    assert ABPC()(linear, lambda x, t: -by_contribution(x, t), ONES, FIRST).tolist() == [-2.5]


def test_erasing_by_hand() -> None:
    """The top position has 4 of 10, the top two have 7."""
    shares = (0.25, 0.5)
    logit = {"shares": shares, "output": "logit"}
    assert Comprehensiveness(**logit)(linear, by_contribution, ONES, FIRST).tolist() == [5.5]
    assert Sufficiency(**logit)(linear, by_contribution, ONES, FIRST).tolist() == [4.5]


def slow_area(model, x: Tensor, heat: Tensor, target: int, *, grid: tuple[int, int], steps: int):
    """The area with the most relevant first, patch by patch and pixel by pixel."""
    (rows, columns), (_, height, width) = grid, x.shape
    patch = {}
    for i in range(height):
        for j in range(width):
            patch.setdefault((i * rows // height, j * columns // width), []).append((i, j))
    means = {
        key: sum(float(heat[p]) for p in places) / len(places) for key, places in patch.items()
    }
    order = sorted(means, key=lambda key: -means[key])
    values = []
    for step in range(steps + 1):
        changed = x.clone()
        for key in order[: round(len(order) * step / steps)]:
            for i, j in patch[key]:
                changed[:, i, j] = x.mean((1, 2))
        with torch.no_grad():
            values.append(float(model(changed[None]).softmax(1)[0, target]))
    return sum((a + b) / 2 for a, b in pairwise(values)) / steps


def test_patches_are_those_of_the_twin() -> None:
    """Also where the grid does not divide the image, and in batches of any size."""
    model, x = small_network(), images()
    heat = torch.randn(x.shape)
    target = torch.tensor([0, 3, 1])
    settings = {"regions": Patches(5, 4), "imputer": Mean(), "steps": 7}
    for batch_size in (1, 7, 100):
        most = MostRelevantFirst(**settings, batch_size=batch_size)
        least = LeastRelevantFirst(**settings, batch_size=batch_size)
        both = SRG(**settings, batch_size=batch_size)
        found = most(model, lambda x, t: heat, x, target)
        for place in range(3):
            twin = slow_area(
                model, x[place], heat[place].sum(0), int(target[place]), grid=(5, 4), steps=7
            )
            assert found[place] == pytest.approx(twin, abs=1e-6)
        reverse = least(model, lambda x, t: -heat, x, target)
        torch.testing.assert_close(found, reverse, rtol=0, atol=1e-6)
        gain = both(model, lambda x, t: heat, x, target)
        expected = least(model, lambda x, t: heat, x, target) - found
        torch.testing.assert_close(gain, expected, rtol=0, atol=1e-6)


def test_relevance_without_channels_is_enough() -> None:
    model, x = small_network(), images()
    heat, target = torch.randn(x.shape), torch.tensor([0, 3, 1])
    metric = SRG(regions=Patches(4))
    with_channels = metric(model, lambda x, t: heat, x, target)
    assert torch.equal(metric(model, lambda x, t: heat.sum(1), x, target), with_channels)


def test_equal_regions_have_no_place_of_their_own() -> None:
    """Zeros of a filter would else go from the top left, where no object is."""
    ranks = ranks_of(torch.zeros(2, 50), 0)
    assert torch.equal(ranks[0], ranks[1])
    assert not torch.equal(ranks[0], torch.arange(50))
    assert not torch.equal(ranks, ranks_of(torch.zeros(2, 50), 1))
    ordered = ranks_of(torch.tensor([[0.0, 5.0, 0.0, 7.0]]), 3)[0]
    assert ordered[[3, 1]].tolist() == [0, 1]


def test_time_and_features() -> None:
    """Along time (N, C, T) in windows, and along embedded tokens (N, T, D)."""
    assert Positions(2, width=2)((3, 5)).tolist() == [[0, 0, 1, 1, 2]]
    assert Positions(1)((4, 2)).tolist() == [[0], [1], [2], [3]]
    tokens = torch.ones(1, 4, 3)

    def model(x: Tensor) -> Tensor:
        return linear(x[..., 0])

    def explain(x: Tensor, target: Tensor) -> Tensor:
        return by_contribution(x[..., 0], target)  # (N, T), as LRPFx gives for tokens

    assert ABPC()(model, explain, tokens, FIRST).tolist() == [2.5]


def test_tokens_are_integers() -> None:
    tokens = torch.ones(1, 4, dtype=torch.long)
    metric = ABPC(imputer=Constant(0))
    assert metric(lambda x: linear(x.float()), by_contribution, tokens, FIRST).tolist() == [2.5]


def test_names_state_the_imputer_and_what_is_not_the_default() -> None:
    assert SRG().name == "SRG (blur 10)"
    assert SRG(regions=Patches(7), imputer=Mean(), batch_size=1).name == "SRG (7 × 7 patches, mean)"
    assert SRG(steps=3, seed=2).name == "SRG (blur 10, seed=2, steps=3)"
    assert ABPC().name == "ABPC (constant 0)"


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: SRG(steps=0), "steps"),
        (lambda: SRG(output="odds"), "output"),
        (lambda: SRG(seed="a"), "seed"),
        (lambda: Sufficiency(shares=(0.0,)), "shares"),
        (lambda: Patches(0), "rows"),
        (lambda: Positions(0), "dim"),
    ],
)
def test_wrong_settings(make, part: str) -> None:
    with pytest.raises(OptionError, match=part):
        make()


def test_wrong_inputs() -> None:
    with pytest.raises(InputError, match="Positions"):
        SRG()(linear, by_contribution, ONES, FIRST)
    with pytest.raises(InputError, match=r"\(1, 3\)"):
        ABPC()(linear, lambda x, t: torch.zeros(1, 3), ONES, FIRST)
    with pytest.raises(InputError, match="NaN"):
        ABPC()(linear, lambda x, t: x * torch.nan, ONES, FIRST)
    with pytest.raises(InputError, match="logits of shape"):
        ABPC()(lambda x: x.sum(1), by_contribution, ONES, FIRST)


@pytest.mark.parametrize("metric", [SRG, MostRelevantFirst, Comprehensiveness])
def test_one_output_has_no_probability(metric) -> None:
    """Its softmax is always 1, so every map would get the same score."""

    def one(x: Tensor) -> Tensor:
        return linear(x)[:, :1]

    settings = {"regions": Positions(), "imputer": Constant()}
    with pytest.raises(InputError, match=r"one output.*output='logit'"):
        metric(**settings)(one, by_contribution, ONES, FIRST)
    advised = metric(**settings, output="logit")(one, by_contribution, ONES, FIRST)
    assert (
        advised.tolist()
        == metric(**settings, output="logit")(linear, by_contribution, ONES, FIRST).tolist()
    )


def test_shares_are_not_rounded_up_by_an_error() -> None:
    """0.07 · 100 is a little more than 7 in floating point."""
    assert [share_of(share, 100) for share in (0.07, 0.071, 0.29, 1)] == [7, 8, 29, 100]
    assert share_of(1e-12, 5) == 1


def test_regions_along_channels_need_relevance_of_channels() -> None:
    x = images(1)
    metric = ABPC(regions=Positions(1))
    with pytest.raises(InputError, match="divide dimension 1 into 2 entries"):
        metric(small_network(), lambda x, t: x.sum(1), x, FIRST)
    assert metric(small_network(), lambda x, t: x, x, FIRST).shape == (1,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Comprehensiveness(shares=("a",)),
        lambda: Comprehensiveness(shares="ab"),
        lambda: Sufficiency(shares=0.5),
        lambda: Sufficiency(shares=(True,)),
        lambda: Positions(1.5),
        lambda: Positions(None),
        lambda: SRG(seed=None),
        lambda: SRG(seed=2**70),
        lambda: Noise(2**70),
        lambda: Bootstrap(seed=2**70),
        lambda: SRG(imputer=3),
        lambda: SRG(imputer=Mean),
        lambda: SRG(regions=Patches),
        lambda: MosaicFocus(regions=14),
        lambda: ClassCorrelation(regions=None),
        lambda: CascadingRandomisation(model=3),
    ],
)
def test_settings_are_checked_when_they_are_made(make) -> None:
    with pytest.raises(OptionError, match="must be"):
        make()
