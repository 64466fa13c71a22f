"""The space of a rule search: the choices for a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lrp_fx._common import check_choice, check_count, check_nonnegative, entries
from lrp_fx.attribution import FILTER_BY, Options
from lrp_fx.errors import OptionError
from lrp_fx.rules import (
    ZBox,
)

Bound = float | Tensor
ConvolutionRule = Literal["epsilon", "z_plus", "gamma", "alpha_beta"]
DenseRule = Literal["epsilon", "z_plus", "gamma"]
FirstRule = Literal["same", "flat", "box"]
AttentionRules = Literal["attn_lrp", "cp_lrp"]

RULES: tuple[ConvolutionRule, ...] = ("epsilon", "z_plus", "gamma", "alpha_beta")
DENSE: tuple[DenseRule, ...] = ("epsilon", "z_plus", "gamma")
FIRST: tuple[FirstRule, ...] = ("same", "flat", "box")
ATTENTION: tuple[AttentionRules, ...] = ("attn_lrp", "cp_lrp")
EPS = 1e-6
"""Of presets, and of the last linear operation."""
DIGITS = 3
"""The digits of a number that are searched, few enough for printed code to be exact."""
STARTS = ("logit", "one_hot", "against_rest")


@dataclass(frozen=True)
class Space:
    """The choices of a rule search.

    Choices that a model does not have, such as rules of attention in a network of convolutions, are
    left out. The last linear operation always gets ε, as in the presets.

    Args:
        rules: for convolutions, chosen apart in each part of the depth.
        depths: into how many parts of the depth the convolutions are divided.
        dense: for dense layers.
        first: for the first linear operations: the same as what follows (``"same"``), ``Flat`` or
            zᴮ (``"box"``, only with ``bounds``).
        attention: for softmax and products, of models with attention.
        starts: values of ``start``.
        top_k: values of ``top_k``, the share of the relevance that goes on.
        filter_by: values of ``filter_by``, where something is filtered.
        gamma: the smallest and largest γ, on a logarithmic scale.
        eps: the smallest and largest ε, on a logarithmic scale.
        alpha: the smallest and largest α, at least 1; β is α − 1.
        bounds: the smallest and largest value of the model's input, see
            :class:`~lrp_fx.rules.ZBox`; None leaves zᴮ out.

    Raises:
        OptionError: for a choice that there is not, none at all, or an empty range.
    """

    rules: tuple[ConvolutionRule, ...] = RULES
    depths: int = 3
    dense: tuple[DenseRule, ...] = DENSE
    first: tuple[FirstRule, ...] = FIRST
    attention: tuple[AttentionRules, ...] = ATTENTION
    starts: tuple[str, ...] = STARTS
    top_k: tuple[float, ...] = (1.0, 0.5, 0.2, 0.05)
    filter_by: tuple[str, ...] = FILTER_BY
    gamma: tuple[float, float] = (0.01, 2.0)
    eps: tuple[float, float] = (EPS, 0.3)
    alpha: tuple[float, float] = (1.0, 3.0)
    bounds: tuple[Bound, Bound] | None = None

    def __post_init__(self) -> None:
        check_count("depths", self.depths)
        for name, known in (
            ("rules", RULES),
            ("dense", DENSE),
            ("first", FIRST),
            ("attention", ATTENTION),
            ("starts", STARTS),
            ("filter_by", FILTER_BY),
        ):
            for each in _some(name, getattr(self, name)):
                check_choice(f"each of {name}", each, known)
        _some("top_k", self.top_k)
        for share in self.top_k:
            Options(top_k=share)
        for name, least in (("gamma", 0.0), ("eps", 0.0), ("alpha", 1.0)):
            _check_range(name, getattr(self, name), least)
        if self.bounds is not None:
            if not isinstance(self.bounds, tuple) or len(self.bounds) != 2:
                raise OptionError(f"bounds must be a pair (low, high), got {self.bounds!r}")
            ZBox(*self.bounds)
        if not self.at_first:
            raise OptionError('first=("box",) needs the bounds of the input: Space(bounds=(0, 1))')

    @property
    def at_first(self) -> tuple[FirstRule, ...]:
        """The choices for the first linear operations, without zᴮ where there are no bounds."""
        return tuple(each for each in self.first if each != "box" or self.bounds is not None)


def _some(name: str, values: object) -> tuple[object, ...]:
    found = None if isinstance(values, str) else entries(values)
    listed = () if found is None else tuple(found)
    if not isinstance(values, tuple) or not listed:
        raise OptionError(f"{name} must be a tuple of one choice or more, got {values!r}")
    return listed


def _check_range(name: str, values: object, least: float) -> None:
    if not isinstance(values, tuple) or len(values) != 2:
        raise OptionError(f"{name} must be a pair (smallest, largest), got {values!r}")
    for value in values:
        check_nonnegative(f"each end of {name}", value)
    low, high = values
    if not least <= low <= high or not low:
        raise OptionError(
            f"{name} must be a pair (smallest, largest) of numbers "
            f"{'above 0' if not least else f'of at least {least:g}'}, got {values!r}"
        )
