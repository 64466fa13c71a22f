"""Composites that reproduce other tools, also where their definitions differ from this library's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lrp_fx import rules
from lrp_fx._common import check_nonnegative
from lrp_fx.composites.composite import Composite, MatcherLike, everywhere
from lrp_fx.composites.matchers import anything, convolution, dense, first, operation
from lrp_fx.errors import CompositeError
from lrp_fx.relevance import TopK
from lrp_fx.rules import FULL, PLUS, ZERO, Branch, Group, LinearRule, Part, Rule, Stabilizer, Table


@dataclass(frozen=True)
class UnsplitZPlus(LinearRule):
    """``R_in = x ⊙ W⁺ᵀ [R / S(x W⁺ + b)]``: z⁺ that does not split the input by sign.

    The rule of the blog post of 2021, there without a bias, and of Captum's α1β0.

    Args:
        bias: whether the denominator includes the bias.
    """

    bias: bool = True
    for_nonnegative = True

    def table(self) -> Table:
        return (Group((Branch(FULL, PLUS, FULL if self.bias else ZERO),)),)


@dataclass(frozen=True)
class PlainBiasGamma(LinearRule):
    """``R_in = x ⊙ (W + γW⁺)ᵀ [R / S(x (W + γW⁺) + b)]``: Captum's γ rule, with an unmodified bias.

    Args:
        gamma: γ, how much positive weights are favoured.
        bias: whether the denominator includes the bias.

    Raises:
        OptionError: unless ``gamma`` is a finite number of at least 0.
    """

    gamma: float = 0.25
    bias: bool = True
    for_nonnegative = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("gamma", self.gamma)

    def table(self) -> Table:
        bias = FULL if self.bias else ZERO
        return (Group((Branch(FULL, Part(1 + self.gamma, 1), bias),)),)


def blog(top_k: float = 1.0) -> Composite:
    """The algorithm of the blog post of 2021. Use it with ``start="softmax"``.

    The first layer gets W⁺ with the image replaced by ones, every other layer ``x W⁺`` without a
    bias. Max pooling is treated as average pooling, and ε = 1e-5 is added without a sign.

    Args:
        top_k: the fraction of values that the relevance filter keeps before every convolution,
            linear layer and pooling, as in the newest version of the post's code. The post itself
            filters only before convolutions and linear layers. For that, pass ``filters`` with
            matchers of these to :class:`~lrp_fx.LRPFx`.

    Raises:
        OptionError: unless ``0 < top_k <= 1``.
    """
    stabilizer = Stabilizer(1e-5, signed=False)
    pooling = rules.Proportional(stabilizer)
    kept = TopK(top_k)
    return Composite(
        [
            (first(), rules.WPlus(stabilizer=stabilizer)),
            (anything(), UnsplitZPlus(bias=False, stabilizer=stabilizer)),
            (operation("max pooling", "average pooling"), pooling),
        ],
        filters=[] if kept.share == 1 else [everywhere(kept)],
        bias="ignore",
        name="compat.blog",
        strict=False,
    )


def zennit(
    name: str = "epsilon_plus", low: float | Tensor = -1.0, high: float | Tensor = 1.0
) -> Composite:
    """The composites of zennit with the same names, which choose rules only by layer type.

    zennit reproduces these maps if its canonizers merge batch norm and its residual additions are
    explicit. It merges batch norm only into the layer before it, and passes relevance unchanged
    through the others. Where this library merges batch norm into the layer after it, the maps
    differ.

    Args:
        name: ``epsilon_plus``, ``epsilon_plus_flat``, ``epsilon_gamma_box``,
            ``epsilon_alpha2_beta1`` or ``epsilon_alpha2_beta1_flat``.
        low: the lower bound of the model's input, for ``epsilon_gamma_box``: a number or a tensor,
            see :class:`~lrp_fx.rules.ZBox`. zennit expects the bound at the first convolution
            instead, so padded if the model pads before it.
        high: the upper bound, in the same form.

    Raises:
        CompositeError: for any other name.
        OptionError: if the bounds do not fit each other.
    """
    conv: dict[str, LinearRule] = {
        "epsilon_plus": rules.ZPlus(),
        "epsilon_gamma_box": rules.GeneralizedGamma(0.25),
        "epsilon_alpha2_beta1": rules.AlphaBeta(2, 1),
    }
    base = str(name).removesuffix("_flat")
    if base not in conv or name == "epsilon_gamma_box_flat":
        known = [*conv, "epsilon_plus_flat", "epsilon_alpha2_beta1_flat"]
        raise CompositeError(f"compat.zennit knows {', '.join(known)}, not {name!r}")
    beginning: list[tuple[MatcherLike, Rule]] = []
    if base == "epsilon_gamma_box":  # zennit has no zᴮ for dense layers
        beginning = [(first() & convolution, rules.ZBox(low, high))]
    elif name != base:
        beginning = [(first(), rules.Flat())]
    lines: list[tuple[MatcherLike, Rule]] = [
        *beginning,
        (convolution, conv[base]),
        (dense, rules.Epsilon()),
        (operation("batch_norm"), rules.Pass()),
    ]
    return Composite(lines, name=f"compat.zennit({name})", strict=False)


def captum(rule: str = "epsilon") -> Composite:
    """Captum's ``LRP`` with one of its rules on every layer with weights.

    Args:
        rule: ``epsilon`` (ε = 1e-9), ``gamma`` (γ = 0.25) or ``alpha1_beta0``.

    Raises:
        CompositeError: for any other rule.
    """
    stabilizer = Stabilizer(1e-9)
    known: dict[str, LinearRule] = {
        "epsilon": rules.Epsilon(1e-9),
        "gamma": PlainBiasGamma(stabilizer=stabilizer),
        "alpha1_beta0": UnsplitZPlus(stabilizer=stabilizer),
    }
    if not isinstance(rule, str) or rule not in known:
        raise CompositeError(f"compat.captum knows {', '.join(known)}, not {rule!r}")
    return Composite(
        [
            (anything(), known[rule]),
            (operation("max pooling"), rules.Winner(stabilizer)),
            (operation("average pooling", "addition"), rules.Proportional(stabilizer)),
            (operation("normalization"), rules.Epsilon(1e-9)),
        ],
        name=f"compat.captum({rule})",
        strict=False,
    )


def attnlrp() -> Composite:
    """AttnLRP in the efficient form of LXT: input × a gradient in which parts are held constant.

    The constants are the factor ``f(x) / x`` of an activation, the statistic of a norm, and half of
    each product of two activations, pair by pair in the order in which the model multiplies
    (Achtibat et al. 2024, sec. 3 and appendix). All ε are zero. Convolutions get LRP-0, as dense
    layers do.
    """
    none = Stabilizer(0.0)
    proportional = rules.Proportional(none)
    return Composite(
        [
            (anything(), rules.Zero()),
            (operation("softmax"), rules.SoftmaxTaylor()),
            (operation("bilinear", "product"), rules.PairwiseHalf(none)),
            (operation("addition", "sum", "average pooling", "interpolation"), proportional),
            (operation("normalization"), rules.Epsilon(stabilizer=none)),
        ],
        name="compat.attnlrp",
        strict=False,
    )


__all__ = ["PlainBiasGamma", "UnsplitZPlus", "attnlrp", "blog", "captum", "zennit"]
