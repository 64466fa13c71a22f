"""How close two tensors are that should be one: comparisons, and tolerances with their reasons.

A tolerance that one subject alone needs stands in its file.
"""

from __future__ import annotations

from torch import Tensor

SAME_SUMS = 1e-12
"""Of max |R| in float64: the same sums, of which only the order may differ, 1e-16 a step, and nothing
divides by a small one."""
ROUNDING = 1e-10
"""Of max |R| in float64: two ways through the same sums, in another order. Rounding is 1e-16 a step,
and denominators on the fixed seeds are hardly below 1e-4 of their terms."""
QUOTIENTS = 1e-9
"""Of max |R| in float64: as ``ROUNDING``, behind several quotients by small sums, or with ε = 0."""
CONSERVED = 1e-9
"""Of the output in float64, with ε = 0 and nothing additive: what quotients by small sums lose."""
CLOSES = 1e-9
"""Of Σ |terms|: the ledger's own promise in float64."""
STABILIZED = 1e-4
"""Of max |R|: what ε = 1e-6 takes beside denominators that are 0.01 and more."""
STABILIZED_SUMS = 1e-3
"""Of max |R|, or of the output: what ε = 1e-6 takes at every unit, beside sums of 1e-3 and more."""
ROUNDING_32 = 1e-5
"""As ``ROUNDING``, in float32."""
SINGLE = 1e-4
"""Of max |R|: float32 against float64, or two orders of sums in float32: a thousand roundings of 6e-8
in each of a few layers."""


def distance(mine: Tensor, expected: Tensor) -> float:
    """max |mine − expected|, of max |expected|."""
    assert mine.shape == expected.shape
    assert mine.dtype == expected.dtype
    largest = float(expected.abs().max())
    assert largest > 0, "nothing to compare"
    return float((mine - expected).abs().max()) / largest


def assert_close(
    mine: Tensor, expected: Tensor, tolerance: float = ROUNDING, case: str = "relevance"
) -> None:
    """Equal shapes and dtypes, and equal values up to ``tolerance`` of the largest expected one."""
    assert mine.shape == expected.shape, f"{case}: {mine.shape} instead of {expected.shape}"
    assert mine.dtype == expected.dtype, f"{case}: {mine.dtype} instead of {expected.dtype}"
    error = float((mine - expected).detach().abs().max())
    scale = float(expected.detach().abs().max())
    message = f"{case}: differs by {error:.3g} where max |R| is {scale:.3g}"
    assert error <= tolerance * scale, message
