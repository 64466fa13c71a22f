"""The transformer of scikit-learn; needs sklearn."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor

from lrp_fx._common import check_count
from lrp_fx.attribution import Array, LRPFx, Target
from lrp_fx.errors import InputError, OptionError, TargetError


class RelevanceTransformer(TransformerMixin, BaseEstimator):
    """Rows to the relevance of their features; see :func:`lrp_fx.adapters.relevance_transformer`.

    Args:
        lrp: the attribution.
        target: ``"predicted"``, or a target.
        batch_size: how many rows are explained at a time.
    """

    def __init__(
        self, lrp: LRPFx, target: Target | str = "predicted", batch_size: int = 1024
    ) -> None:
        self.lrp, self.target, self.batch_size = lrp, target, batch_size

    def check(self) -> None:
        """Raise an ``OptionError`` for a setting that cannot be."""
        if not isinstance(self.lrp, LRPFx):
            raise OptionError(
                f"a transformer needs an LRPFx, such as LRPFx(model), got {type(self.lrp).__name__}"
            )
        check_count("batch_size", self.batch_size)

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Remember the names of the columns; the model is trained already.

        Args:
            X: the rows, (N, F): an array, a data frame, or lists of numbers.
            y: not used.

        Raises:
            InputError: if they are not rows of numbers.
        """
        self.check()
        self.n_features_in_ = _rows(X).shape[1]
        names = getattr(X, "columns", None)
        if names is not None and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.array(list(names), dtype=object)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """As :meth:`explain`; a data frame after ``set_output(transform="pandas")``."""
        return self.explain(X)

    def explain(self, X: ArrayLike, target: Target | str = None) -> Array:
        """The relevance of each feature, (N, F), in the dtype of ``X``, or float64 for integers.

        Args:
            X: the rows, (N, F).
            target: another target for this call: a class, or the class of each row, (N,).

        Raises:
            InputError: if they are not rows of numbers, or have another number of columns than
                those of ``fit``.
            TargetError: for ``"predicted"`` if the output has no classes.
            LRPError: the errors of :meth:`lrp_fx.LRPFx.attribute`.
        """
        self.check()
        rows, known = _rows(X), getattr(self, "n_features_in_", None)
        if known is not None and rows.shape[1] != known:
            raise InputError(f"the table has {rows.shape[1]} columns, but that of fit has {known}")
        chosen = self.target if target is None else target
        starts = range(0, len(rows), self.batch_size)
        parts = [slice(start, start + self.batch_size) for start in starts]
        return np.concatenate([self._explained(rows, part, chosen) for part in parts])

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """The names of the columns, which are those of the rows."""
        known = getattr(self, "feature_names_in_", None)
        if input_features is not None:
            return np.asarray(input_features, dtype=object)
        if known is None:
            known = np.array([f"x{i}" for i in range(self.n_features_in_)], dtype=object)
        return np.asarray(known, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _explained(self, rows: Array, part: slice, target: Target | str) -> Array:
        batch = rows[part]
        if isinstance(target, str):
            return self.lrp.attribute(batch, self._predicted(batch, target))
        if isinstance(target, (Tensor, np.ndarray, list)) and len(target) == len(rows):
            return self.lrp.attribute(batch, target[part])
        return self.lrp.attribute(batch, target)

    def _predicted(self, rows: Array, target: str) -> Target:
        if target != "predicted":
            raise TargetError(f"target must be 'predicted' or a target, got {target!r}")
        scores = self.lrp.explained_output(rows)
        if scores.size == len(rows):
            return None
        if scores.ndim != 2:
            raise TargetError(
                f"the output {scores.shape} has no single predicted class of a row: pass target="
            )
        found: NDArray[np.integer] = np.argmax(scores, axis=1)
        return found


def _rows(X: ArrayLike) -> Array:
    """The rows as floating-point numbers, (N, F)."""
    dtypes = getattr(X, "dtypes", None)
    if dtypes is not None and hasattr(X, "columns"):
        wrong = [
            str(name)
            for name, dtype in zip(X.columns, dtypes, strict=True)
            if getattr(dtype, "kind", "O") not in "fiub"
        ]
        if wrong:
            raise InputError(
                f"these columns hold no numbers: {', '.join(wrong)}; encode them first"
            )
    try:
        found = np.asarray(X)
        found = found if found.dtype.kind == "f" else found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"a table must hold numbers: {error}") from None
    if found.ndim < 2 or not len(found):
        raise InputError(f"a table has rows and columns, (N, F), but this one is {found.shape}")
    return found
