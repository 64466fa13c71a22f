"""scikit-learn: the relevance of the rows of a table, as a step of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrp_fx._common import needed
from lrp_fx.attribution import LRPFx, Target

if TYPE_CHECKING:
    from lrp_fx.adapters.scikit_learn import RelevanceTransformer


def relevance_transformer(
    lrp: LRPFx, target: Target | str = "predicted", *, batch_size: int = 1024
) -> RelevanceTransformer:
    """A transformer of scikit-learn that turns rows into the relevance of their features.

    ``relevance_transformer(LRPFx(model)).explain(X)`` for arrays and data frames, or as a step,
    ``make_pipeline(StandardScaler(), relevance_transformer(LRPFx(model))).fit_transform(X)``, where
    the features are what comes out of the step before. ``set_output(transform="pandas")`` makes
    data frames.

    Args:
        lrp: the attribution of a model of rows, ``(N, F)`` → ``(N, classes)`` or one value.
        target: ``"predicted"`` for the class with the largest output of each row, or as in
            :meth:`lrp_fx.LRPFx.attribute`.
        batch_size: how many rows are explained at a time.

    Returns:
        The transformer, with ``fit``, ``transform``, ``explain`` and ``get_feature_names_out``.

    Raises:
        OptionError: if scikit-learn is missing, for something that is not an ``LRPFx``, or a
            ``batch_size`` that is not an int of at least 1.
    """
    with needed("a transformer of tables needs"):
        from lrp_fx.adapters.scikit_learn import RelevanceTransformer
    made = RelevanceTransformer(lrp, target, batch_size)
    made.check()
    return made
