"""Relevance as a step of scikit-learn: arrays, data frames, pipelines."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lrp_fx import LRPFx
from lrp_fx.adapters import relevance_transformer
from lrp_fx.errors import InputError, OptionError, TargetError

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

ROWS = np.random.default_rng(0).normal(size=(7, 4))
NAMES = ["age", "dose", "rate", "mass"]


def classifier(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs)).eval()


def predicted(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(ROWS).float()).argmax(1)


def test_rows_are_explained_for_their_predicted_class() -> None:
    model = classifier()
    lrp = LRPFx(model)
    expected = lrp.attribute(ROWS, predicted(model))
    for batch_size in (1, 3, 100):
        found = relevance_transformer(lrp, batch_size=batch_size).explain(ROWS)
        assert found.dtype == ROWS.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(
        relevance_transformer(lrp, 2).explain(ROWS), lrp.attribute(ROWS, 2)
    )
    labels = np.arange(7) % 3
    by_label = relevance_transformer(lrp, batch_size=3).explain(ROWS, labels)
    np.testing.assert_allclose(by_label, lrp.attribute(ROWS, labels), rtol=1e-4, atol=1e-6)


def test_regression_needs_no_target() -> None:
    lrp = LRPFx(classifier(1))
    np.testing.assert_array_equal(relevance_transformer(lrp).explain(ROWS), lrp.attribute(ROWS))


@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "int64", "int8"])
def test_data_frames(dtype: str) -> None:
    frame = pd.DataFrame(np.rint(ROWS * 3), columns=NAMES).astype(dtype)
    lrp = LRPFx(classifier())
    found = relevance_transformer(lrp, 1).explain(frame)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, lrp.attribute(np.rint(ROWS * 3), 1), rtol=1e-5, atol=1e-6)


def test_a_step_of_a_pipeline() -> None:
    lrp, frame = LRPFx(classifier()), pd.DataFrame(ROWS, columns=NAMES)
    pipeline = make_pipeline(StandardScaler(), relevance_transformer(lrp, 1))
    scaled = StandardScaler().fit_transform(ROWS)
    found = pipeline.fit_transform(frame)
    np.testing.assert_allclose(found, lrp.attribute(scaled, 1))
    named = pipeline.set_output(transform="pandas").fit_transform(frame)
    assert list(named.columns) == NAMES == list(pipeline.get_feature_names_out())
    np.testing.assert_allclose(named.to_numpy(), found)
    assert isinstance(pipeline[-1].explain(frame), np.ndarray)


def test_copies() -> None:
    """A pipeline is cloned, shown and pickled."""
    made = relevance_transformer(LRPFx(classifier()), 1, batch_size=2)
    expected = made.explain(ROWS)
    for other in (clone(made), pickle.loads(pickle.dumps(made))):
        assert other.get_params()["batch_size"] == 2
        np.testing.assert_array_equal(other.explain(ROWS), expected)
    assert made.fit(ROWS).get_feature_names_out().tolist() == ["x0", "x1", "x2", "x3"]
    assert "RelevanceTransformer" in repr(made)


def test_what_is_no_table() -> None:
    lrp = LRPFx(classifier())
    made = relevance_transformer(lrp)
    wrong: Any
    frame = pd.DataFrame(ROWS, columns=NAMES).assign(ward="north")
    for wrong, words in (
        (frame, "hold no numbers: ward"),
        ([["a", "b", "c", "d"]], "must hold numbers"),
        (ROWS[0], r"\(N, F\)"),
        (ROWS[:0], r"\(N, F\)"),
        (np.full((2, 4), np.nan), "NaN"),
        (ROWS[:, :3], "fails|shape|mat"),
    ):
        with pytest.raises(InputError, match=words):
            made.explain(wrong)
    with pytest.raises(InputError, match="3 columns, but that of fit has 4"):
        relevance_transformer(lrp).fit(ROWS).explain(ROWS[:, :3])
    with pytest.raises(OptionError, match="needs an LRPFx"):
        relevance_transformer(classifier())  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="batch_size"):
        relevance_transformer(lrp, batch_size=0)
    with pytest.raises(TargetError, match="'predicted' or a target"):
        relevance_transformer(lrp, "best").explain(ROWS)
    with pytest.raises(TargetError, match="out of range"):
        relevance_transformer(lrp, 9).explain(ROWS)
