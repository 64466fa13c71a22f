"""The passes of canonization, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import fx

from lrp_fx.canonize.batch_norm import fold_batch_norm
from lrp_fx.canonize.cancelling import cancel_terms
from lrp_fx.canonize.common_factor import collect_factors
from lrp_fx.canonize.common_norm import divide_before
from lrp_fx.canonize.complex_numbers import separate_parts
from lrp_fx.canonize.constants import dense_constants, name_numbers, plain_operands
from lrp_fx.canonize.decomposed import decompose
from lrp_fx.canonize.deferred_softmax import divide_at_once
from lrp_fx.canonize.differences import add_negatives
from lrp_fx.canonize.known_functions import one_function
from lrp_fx.canonize.naming import name_after_modules
from lrp_fx.canonize.padding import cut_surplus
from lrp_fx.canonize.product_signs import signs_before_products
from lrp_fx.canonize.products import name_products
from lrp_fx.canonize.spellings import one_spelling
from lrp_fx.canonize.vocabulary import is_known, one_vocabulary
from lrp_fx.capture import Captured, copied
from lrp_fx.graph import forget_shapes, remove_unused

Asked = Callable[[Captured], Iterable[fx.Node]]
"""Returns the nodes of an unfolded graph whose values have to stay."""


def nothing(captured: Captured) -> tuple[fx.Node, ...]:
    """No nodes."""
    return ()


def canonize(
    captured: Captured,
    *,
    fold_dense: bool = True,
    asked: Asked = nothing,
    explained: int | None = None,
) -> Captured:
    """A copy of the captured graph in canonical form.

    Args:
        captured: the result of a capture.
        fold_dense: also fold batch norm into linear layers, which is exact only for values of shape
            (N, C), and divide a softmax before a sum, which is exact for the usual dimensions.
        asked: returns the nodes whose values are asked for. Nothing is folded that would remove
            them.
        explained: how many of the first inputs are explained; None for all.

    Raises:
        LRPError: if the model is random or mixes samples in eval mode (dropout that ignores the
            training flag, batch norm without running statistics).
    """
    result = copied(captured)
    graph = result.module.graph
    dense_constants(graph, result.module)
    one_vocabulary(graph)
    if decompose(graph, result.module, is_known):
        one_vocabulary(graph)
    separate_parts(graph, result.module)
    name_numbers(graph, result.module, captured.constants)
    plain_operands(graph, result.module)
    cancel_terms(graph, result.module)
    one_function(graph, result.module)
    name_products(graph, result.module, explained)
    one_spelling(graph)
    remove_unused(graph)
    signs_before_products(graph)
    collect_factors(graph)
    one_spelling(graph)  # collected factors may add up to a gate: y + y tanh(z) = 2 y sigmoid(2 z)
    if fold_dense:
        divide_at_once(graph)
    divide_before(graph, result.module)
    add_negatives(graph)
    remove_unused(graph)
    fold_batch_norm(graph, result.module, dense=fold_dense, kept=frozenset(asked(result)))
    cut_surplus(graph)
    forget_shapes(result.module)
    remove_unused(graph)
    name_after_modules(graph)
    graph.lint()
    result.module.recompile()
    return result
