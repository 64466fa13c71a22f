"""``with_options``: the same reading, explained with other options."""

from __future__ import annotations

import pytest
import torch

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.attribution import cache
from lrp_fx.errors import OptionError
from tests.helpers.models import normed_cnn
from tests.helpers.numbers import numbers

CHANGES = [
    {"composite": "epsilon", "top_k": 0.3},
    {"start": "one_hot", "bias": "distribute"},
    {"propagation": "gradient", "optimize": False},
    {"filters": [("conv1", 0.2)]},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_other_options_give_the_map_of_a_new_attribution(changes: dict[str, object]) -> None:
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model, "z_plus")
    before = first.attribute(x, 1)
    options = {"composite": "z_plus", **changes}
    expected = LRPFx(model, **options).attribute(x, 1)
    assert not torch.equal(expected, before) or "propagation" in changes
    assert torch.equal(first.with_options(**changes).attribute(x, 1), expected)
    assert torch.equal(first.attribute(x, 1), before)
    layer = LayerLRPFx(model, model.conv1, "z_plus")
    expected = LayerLRPFx(model, model.conv1, **options).attribute(x, 1)
    assert torch.equal(layer.with_options(**changes).attribute(x, 1), expected)


def test_the_model_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    own = cache.read

    def counted(*arguments: object) -> object:
        reads.append("read")
        return own(*arguments)

    monkeypatch.setattr(cache, "read", counted)
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    first = LRPFx(model)
    first.attribute(x, 1)
    for changes in CHANGES:
        first.with_options(**changes).attribute(x, 1)
    assert len(reads) == 1
    first.with_options(capture="export").attribute(x, 1)  # the reading is of another way
    assert len(reads) == 2


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(OptionError, match=r"with_options has no option 'topk'.*top_k"):
        LRPFx(normed_cnn()).with_options(topk=0.5)
    with pytest.raises(OptionError, match="start must be one of"):
        LRPFx(normed_cnn()).with_options(start="logits")
