"""BiLRP: which pairs of features make two inputs similar (Eberle et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lrp_fx._common import check_callable
from lrp_fx.attribution.arguments import check_inputs
from lrp_fx.attribution.given import Array, given
from lrp_fx.attribution.lrp import LRPFx
from lrp_fx.errors import InputError, OptionError, blamed, name_of_function

OneInput = TypeVar("OneInput", Tensor, Array)


def bilrp(
    lrp: LRPFx,
    x: OneInput,
    y: OneInput,
    *,
    pool: Callable[[Tensor], Tensor] | None = None,
    additional_forward_args: object = None,
) -> OneInput:
    """The relevance of pairs of features for the inner product of two embeddings.

    For ``s = ⟨φ(x), φ(y)⟩ = Σ_m φ_m(x) φ_m(y)`` it is ``R_pq = Σ_m R_p(φ_m(x)) R_q(φ_m(y))``
    (Eberle et al. 2020, eq. 5), and sums up to ``s`` if the rules conserve. The model is read once,
    and one forward pass per input serves all ``m``.

    Args:
        lrp: an attribution of the embedding, whose output is (N, M).
        x: the first inputs, (N, …), a tensor or a NumPy array.
        y: the second inputs, (N, …), in the same form.
        pool: a function from maps (M·N, …) to features (M·N, P), such as sums over patches of
            pixels. None makes every value a feature, which suits only small inputs and tokens.
        additional_forward_args: as in :meth:`lrp_fx.LRPFx.attribute`, for both inputs.

    Returns:
        The relevance of each pair of features, (N, P, P), an array if ``x`` is one.

    Raises:
        InputError: if the two batches differ in size, if the output is not (N, M), or if ``pool``
            returns another shape.
        OptionError: if ``lrp`` is not an ``LRPFx`` or ``pool`` is not callable.
    """
    if not isinstance(lrp, LRPFx):
        raise OptionError(f"bilrp needs an LRPFx of the embedding, got {type(lrp).__name__}")
    if pool is not None:
        check_callable("pool", pool)
    pair = [given((each,), additional_forward_args, lrp.forward_func) for each in (x, y)]
    for each in pair:
        check_inputs(each.tensors)
    (left,), (right,) = (each.tensors for each in pair)
    if left.shape[0] != right.shape[0]:
        raise InputError(f"bilrp needs pairs, got {left.shape[0]} and {right.shape[0]} inputs")
    first, second = (_features(lrp, each.tensors[0], pool, each.additional) for each in pair)
    found: OneInput = pair[0].alike(torch.einsum("mnp,mnq->npq", first, second))
    return found


def _features(
    lrp: LRPFx, x: Tensor, pool: Callable[[Tensor], Tensor] | None, additional: object
) -> Tensor:
    """The relevance of the features for each dimension of the embedding, (M, N, P)."""
    output = lrp.explained_output(x, additional)
    if output.dim() != 2:
        raise InputError(f"bilrp needs embeddings of (N, M), the output is {tuple(output.shape)}")
    maps = lrp.attribute_many(x, range(output.shape[1]), additional)
    flat = maps.flatten(0, 1)
    if pool is None:
        features = flat.flatten(1)
    else:
        with blamed(f"the function pool={name_of_function(pool)}"):
            features = pool(flat)
    if (
        not isinstance(features, Tensor)
        or features.dim() != 2
        or features.shape[0] != flat.shape[0]
    ):
        raise InputError(
            f"pool must make ({flat.shape[0]}, features) of {tuple(flat.shape)}, got "
            f"{tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__}"
        )
    return features.reshape(*maps.shape[:2], -1)
