"""Composites that reproduce other tools: the same definitions, where theirs differ from ours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lrp_fx import rules
from lrp_fx._checks import check_number
from lrp_fx.composites.composite import Composite, MatcherLike, everywhere
from lrp_fx.composites.matchers import anything, convolution, dense, first, operation
from lrp_fx.errors import CompositeError
from lrp_fx.relevance import check_top_k
from lrp_fx.rules import FULL, PLUS, ZERO, Branch, Group, LinearRule, Part, Rule, Table
from lrp_fx.stabilizer import Stabilizer


@dataclass(frozen=True)
class UnsplitZPlus(LinearRule):
    """``x W⁺ (+ b)``: z⁺ without splitting the input, as in the blog post and in Captum's α1β0."""

    bias: bool = True
    for_nonnegative = True

    def table(self) -> Table:
        return (Group((Branch(FULL, PLUS, FULL if self.bias else ZERO),)),)


@dataclass(frozen=True)
class PlainBiasGamma(LinearRule):
    """``x (W + γW⁺) + b``: Captum's γ rule, which leaves the bias plain."""

    gamma: float = 0.25
    for_nonnegative = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma)

    def table(self) -> Table:
        return (Group((Branch(FULL, Part(1 + self.gamma, 1), FULL),)),)


def blog(top_k: float = 1.0) -> Composite:
    """The algorithm of the blog post of 2021 (Fischer); use it with ``start="softmax"``.

    The first layer takes W⁺ with the image replaced by ones, every other one ``x W⁺``, without bias;
    max pooling is treated as average pooling; ε = 1e-5 is added without a sign.

    Args:
        top_k: the post's relevance filter in the newest form of its repository: before every
            convolution, linear layer and pooling. The post itself filters convolutions and linear layers
            only, as ``filters`` of :class:`~lrp_fx.LRPFx` do with matchers of these.
    """
    check_top_k(top_k)
    stabilizer = Stabilizer(1e-5, signed=False)
    pooling = rules.Proportional(stabilizer)
    return Composite(
        [
            (first(), rules.WPlus(stabilizer=stabilizer)),
            (anything(), UnsplitZPlus(bias=False, stabilizer=stabilizer)),
            (operation("max pooling", "average pooling"), pooling),
        ],
        filters=[] if top_k == 1 else [everywhere(top_k)],
        bias="ignore",
        name="compat.blog",
        strict=False,
    )


def zennit(
    name: str = "epsilon_plus", low: float | Tensor = -1.0, high: float | Tensor = 1.0
) -> Composite:
    """Zennit's composites of the same names, which choose by layer type alone.

    zennit gets there with batch norm merged and residual additions made explicit. It merges into the
    layer before alone and passes relevance through what is left; batch norm that this library merged
    into the layer behind it differs.

    Args:
        name: ``epsilon_plus``, ``epsilon_plus_flat``, ``epsilon_gamma_box``,
            ``epsilon_alpha2_beta1`` or ``epsilon_alpha2_beta1_flat``.
        low: the lower bound of the model's input, for ``epsilon_gamma_box``. zennit takes it at the
            first convolution; where the model pads before that, it wants padded bounds.
        high: the upper bound.

    Raises:
        CompositeError: for any other name.
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
    if base == "epsilon_gamma_box":  # of a dense first layer zennit knows nothing
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
    """AttnLRP in its efficient form, as LXT computes it: input × a gradient with parts held constant.

    All ε are zero; convolutions get LRP-0 as dense layers do. The parts: an activation is a factor
    ``f(x) / x``, the statistic of a norm, and half of each product of two activations, pair by pair in
    the order in which the model multiplies (Achtibat et al. 2024, sec. 3 and appendix).
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
