"""The preprocessing of models of timm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lrp_fx import LRPFx, explain
from lrp_fx.adapters import timm_keywords
from lrp_fx.errors import OptionError


def test_a_photograph_to_its_picture() -> None:
    """timm is large and downloads weights, so it is no package of the tests."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False, num_classes=5).eval()
    keywords = timm_keywords(model)
    assert tuple(keywords["mean"]) == tuple(timm.data.resolve_model_data_config(model)["mean"])
    for mode in ("RGB", "L", "RGBA", "P", "CMYK"):
        x = keywords["preprocess"](Image.new(mode, (300, 260)))
        assert x.shape == (3, 224, 224)
    found = explain(LRPFx(model), Image.new("RGB", (300, 260), (200, 100, 50)), 3, **keywords)
    assert found.picture is not None
    assert np.abs(found.picture.astype(int) - [200, 100, 50]).max() <= 1
    assert found.relevance.shape == (1, 3, 224, 224)


def test_a_missing_timm_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(OptionError, match="pip install timm"):
        timm_keywords(torch.nn.Linear(1, 1))
