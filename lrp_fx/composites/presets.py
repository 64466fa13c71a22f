"""The presets of the literature, each a function that returns a composite.

In the Epsilon… family the last linear operation before the output gets ε even where it is a
convolution: z⁺ there loses the class (SqueezeNet, segmentation heads).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import Tensor

from lrp_fx import rules
from lrp_fx.composites.composite import Composite, MatcherLike
from lrp_fx.composites.matchers import (
    anything,
    convolution,
    first,
    last,
    operation,
    patch_embedding,
)
from lrp_fx.composites.matchers import dense as dense_layers
from lrp_fx.errors import CompositeError
from lrp_fx.rules import Rule
from lrp_fx.stabilizer import Stabilizer


def _preset(name: str, *lines: tuple[MatcherLike, Rule]) -> Composite:
    return Composite(lines, name=name, strict=False)


def Uniform(rule: Rule) -> Composite:
    """One rule on every linear operation."""
    return _preset(f"Uniform({rule})", (anything(), rule))


_SUMS = operation("addition", "sum", "average pooling", "interpolation")


def Zero() -> Composite:
    """LRP-0 everywhere: ε = 0 wherever there is a denominator, at sums, norms and products too."""
    none = Stabilizer(0.0)
    return _preset(
        "Zero",
        (anything(), rules.Zero()),
        (_SUMS | operation("embedding"), rules.Proportional(none)),
        (operation("bilinear"), rules.Half(none)),
        (anything(), rules.Epsilon(stabilizer=none)),
    )


def Epsilon(eps: float = 1e-6) -> Composite:
    """LRP-ε on every linear operation (Bach et al. 2015), additions and averages among them."""
    proportional = rules.Proportional(Stabilizer(eps))
    return _preset("Epsilon", (anything(), rules.Epsilon(eps)), (_SUMS, proportional))


def ZPlus() -> Composite:
    """z⁺ on every linear operation, the last one included: it shows where, hardly which class."""
    return _preset("ZPlus", (anything(), rules.ZPlus()))


def _epsilon_family(name: str, conv: Rule, eps: float, at_first: Rule | None = None) -> Composite:
    beginning = () if at_first is None else ((first(), at_first),)
    return _preset(
        name,
        *beginning,
        (last() & convolution, rules.Epsilon(eps)),
        (convolution, conv),
        (dense_layers, rules.Epsilon(eps)),
    )


def EpsilonPlus(eps: float = 1e-6) -> Composite:
    """ε on dense layers, z⁺ on convolutions: the default."""
    return _epsilon_family("EpsilonPlus", rules.ZPlus(), eps)


def EpsilonPlusFlat(eps: float = 1e-6) -> Composite:
    """:func:`EpsilonPlus` with :class:`~lrp_fx.rules.Flat` on the first linear operations."""
    return _epsilon_family("EpsilonPlusFlat", rules.ZPlus(), eps, rules.Flat())


def EpsilonGammaBox(
    low: float | Tensor, high: float | Tensor, gamma: float = 0.25, eps: float = 1e-6
) -> Composite:
    """ε dense, generalized γ on convolutions, zᴮ on the first linear operations.

    Args:
        low: the smallest value of the model's input, see :class:`~lrp_fx.rules.ZBox`.
        high: the largest.
        gamma: γ of the convolutions.
        eps: ε of the dense layers.
    """
    conv, box = rules.GeneralizedGamma(gamma), rules.ZBox(low, high)
    return _epsilon_family("EpsilonGammaBox", conv, eps, box)


def EpsilonAlpha2Beta1(eps: float = 1e-6) -> Composite:
    """ε dense, α2β1 on convolutions."""
    return _epsilon_family("EpsilonAlpha2Beta1", rules.AlphaBeta(2, 1), eps)


def EpsilonAlpha2Beta1Flat(eps: float = 1e-6) -> Composite:
    """:func:`EpsilonAlpha2Beta1` with :class:`~lrp_fx.rules.Flat` on the first linear operations."""
    return _epsilon_family("EpsilonAlpha2Beta1Flat", rules.AlphaBeta(2, 1), eps, rules.Flat())


def _attention(
    name: str, conv: Rule, at_dense: Rule, *lines: tuple[MatcherLike, Rule]
) -> Composite:
    return _preset(
        name,
        (last() & convolution, at_dense),
        (patch_embedding, at_dense),
        (convolution, conv),
        (dense_layers, at_dense),
        *lines,
    )


def AttnLRP(conv: Rule | None = None, dense: Rule | None = None) -> Composite:
    """AttnLRP (Achtibat et al. 2024): the softmax by its Taylor expansion, half to each factor.

    Args:
        conv: the rule of convolutions beside a patch embedding, :class:`~lrp_fx.rules.ZPlus`.
        dense: the rule of dense layers and of a patch embedding, :class:`~lrp_fx.rules.Epsilon`.
    """
    return _attention(
        "AttnLRP",
        conv or rules.ZPlus(),
        dense or rules.Epsilon(),
        (operation("softmax"), rules.SoftmaxTaylor()),
        (operation("bilinear"), rules.Half()),
    )


def CPLRP(conv: Rule | None = None, dense: Rule | None = None) -> Composite:
    """CP-LRP (Ali et al. 2022): attention weights are constants, all goes to the values.

    Args:
        conv: as in :func:`AttnLRP`.
        dense: likewise.
    """
    return _attention(
        "CPLRP",
        conv or rules.ZPlus(),
        dense or rules.Epsilon(),
        (operation("softmax"), rules.Nothing()),
        (operation("bilinear", "product"), rules.ValuePath()),
    )


PRESETS: dict[str, Callable[..., Composite]] = {
    "zero": Zero,
    "epsilon": Epsilon,
    "z_plus": ZPlus,
    "epsilon_plus": EpsilonPlus,
    "epsilon_plus_flat": EpsilonPlusFlat,
    "epsilon_gamma_box": EpsilonGammaBox,
    "epsilon_alpha2_beta1": EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": EpsilonAlpha2Beta1Flat,
    "attn_lrp": AttnLRP,
    "cp_lrp": CPLRP,
}
"""The presets by name."""


def by_name(name: str) -> Composite:
    """The preset of that snake-case name.

    Raises:
        CompositeError: for an unknown name, with near misses, or one that needs arguments.
    """
    if not isinstance(name, str) or name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(PRESETS)}"
        raise CompositeError(f"no composite is called {name!r}; {hint}")
    if name == "epsilon_gamma_box":
        raise CompositeError(
            "epsilon_gamma_box needs the bounds of the model's input: pass "
            "composites.EpsilonGammaBox(low, high) instead of the name"
        )
    return PRESETS[name]()
