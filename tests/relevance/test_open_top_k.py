"""The filter whose share is a tensor keeps what the filter of a fixed share keeps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import OptionError
from lrp_fx.relevance import FILTER_BY, FilterBy, OpenTopKFilter, relevance_filter

SAME = 1e-6
"""Of max |R| in float32: an exported program sums in another order."""


def _open(relevance: Tensor, shares: list[float], by: FilterBy, renormalize: bool) -> Tensor:
    found = OpenTopKFilter(by, renormalize)(relevance, relevance.shape, torch.tensor(shares))
    assert isinstance(found, Tensor)
    return found


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=60),
    st.integers(1, 100),
    st.sampled_from(FILTER_BY),
    st.booleans(),
)
def test_keeps_what_the_fixed_filter_keeps(
    values: list[int], percent: int, by: FilterBy, renormalize: bool
) -> None:
    """Small integers, so many ties: the same values are left, each as often, in their places."""
    relevance = torch.tensor([values], dtype=torch.float64)
    share = percent / 100
    found = _open(relevance, [share], by, renormalize)
    expected = relevance_filter(relevance, share, by=by, renormalize=renormalize)
    if by == "value":  # which of two equal |R| is left decides about the sign
        assert torch.allclose(found.sort().values, expected.sort().values)
    if not renormalize:
        assert ((found == 0) | (found == relevance)).all()
        kept = max(1, len(values) * percent // 100)
        sizes = relevance if by == "value" else relevance.abs()
        threshold = sizes.flatten().sort(descending=True).values[kept - 1]
        assert int((found != 0).sum()) == int(
            ((sizes >= threshold) & (relevance != 0)).sum()
        ) - max(0, int((sizes >= threshold).sum()) - kept) * int(threshold != 0)


def test_first_of_equal_values_is_kept() -> None:
    """Exactly k values, the first ones of those that are equal; k is exact in decimals."""
    ones = torch.ones(2, 100)
    found = _open(ones, [0.29, 1.0], "value", False)
    assert found[0].nonzero().flatten().tolist() == list(range(29))
    assert (found[1] == 1).all()


def test_each_sample_has_its_share() -> None:
    """Samples of a batch do not know of each other, whatever their shape."""
    relevance = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    shares = [0.01, 0.3, 1.0]
    found = _open(relevance, shares, "magnitude", False)
    for sample, share in enumerate(shares):
        expected = relevance_filter(relevance[sample : sample + 1], share, by="magnitude")
        assert torch.equal(found[sample : sample + 1], expected)


def test_exported_program_takes_the_share() -> None:
    """One program, every share: that of ``attribute`` with this ``top_k``; single filters stay."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5)).eval()
    x = torch.randn(2, 30)
    lrp = LRPFx(model, "epsilon", filters=[("0", 0.4)])
    program = lrp.export(x, filter_input=True).module()
    for share in (0.05, 0.5, 1.0):
        output, relevance = program(x, torch.tensor([1, 2]), torch.full((2,), share))
        assert torch.allclose(output, model(x), rtol=SAME, atol=SAME)
        expected = lrp.with_options(top_k=share).attribute(x, [1, 2])
        assert (relevance - expected).abs().max() <= SAME * expected.abs().max()


def test_flag_is_checked() -> None:
    """``filter_input`` is True or False."""
    with pytest.raises(OptionError, match="filter_input"):
        LRPFx(nn.Linear(3, 2)).export(torch.ones(1, 3), filter_input="yes")
