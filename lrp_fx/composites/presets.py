"""The presets of the literature: each is a function that returns a composite.

In the Epsilon… family the last linear operation before the output gets ε even if it is a
convolution (SqueezeNet, segmentation heads). There, z⁺ would hardly depend on the class.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import Tensor

from lrp_fx import rules
from lrp_fx._common import check_flag
from lrp_fx.composites.composite import Composite, MatcherLike
from lrp_fx.composites.matchers import (
    anything,
    convolution,
    dense as dense_layers,
    first,
    last,
    operation,
    patch_embedding,
)
from lrp_fx.errors import CompositeError
from lrp_fx.rules import Rule, Stabilizer


def _preset(name: str, *lines: tuple[MatcherLike, Rule]) -> Composite:
    return Composite(lines, name=name, strict=False)


def Uniform(rule: Rule) -> Composite:
    """The same rule on every linear operation.

    Args:
        rule: the rule. Operations that do not accept it keep their defaults.
    """
    return _preset(f"Uniform({rule})", (anything(), rule))


_SUMS = operation("addition", "sum", "average pooling", "interpolation")


def Zero() -> Composite:
    """LRP-0 everywhere: ε = 0 in every denominator, also at sums, norms and products."""
    none = Stabilizer(0.0)
    return _preset(
        "Zero",
        (anything(), rules.Zero()),
        (_SUMS | operation("embedding"), rules.Proportional(none)),
        (operation("bilinear"), rules.Half(none)),
        (anything(), rules.Epsilon(stabilizer=none)),
    )


def Epsilon(eps: float = 1e-6) -> Composite:
    """LRP-ε on every linear operation, addition and average (Bach et al. 2015).

    Args:
        eps: ε of their denominators.

    Raises:
        OptionError: if ``eps`` is negative or not a number.
    """
    proportional = rules.Proportional(Stabilizer(eps))
    return _preset("Epsilon", (anything(), rules.Epsilon(eps)), (_SUMS, proportional))


def ZPlus() -> Composite:
    """z⁺ on every linear operation, also the last one (Montavon et al. 2017).

    The map shows where evidence lies, but hardly depends on the class.
    """
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
    """ε on dense layers, z⁺ on convolutions.

    Args:
        eps: ε of the dense layers, and of the last linear operation.

    Raises:
        OptionError: if ``eps`` is negative or not a number.
    """
    return _epsilon_family("EpsilonPlus", rules.ZPlus(), eps)


def EpsilonPlusFlat(eps: float = 1e-6) -> Composite:
    """:func:`EpsilonPlus` with :class:`~lrp_fx.rules.Flat` on the first linear operations.

    Args:
        eps: as for :func:`EpsilonPlus`.

    Raises:
        OptionError: if ``eps`` is negative or not a number.
    """
    return _epsilon_family("EpsilonPlusFlat", rules.ZPlus(), eps, rules.Flat())


def EpsilonGamma(gamma: float = 0.1, eps: float = 1e-6) -> Composite:
    """ε on dense layers, generalized γ on convolutions. The default composite without attention.

    Args:
        gamma: γ of the convolutions.
        eps: ε of the dense layers, and of the last linear operation.

    Raises:
        OptionError: for a value of ``gamma`` or ``eps`` that the rules refuse.
    """
    return _epsilon_family("EpsilonGamma", rules.GeneralizedGamma(gamma), eps)


def EpsilonGammaBox(
    low: float | Tensor, high: float | Tensor, gamma: float = 0.25, eps: float = 1e-6
) -> Composite:
    """ε on dense layers, generalized γ on convolutions, zᴮ on the first linear operations.

    Args:
        low: the smallest value of the model's input, a number or a tensor that broadcasts to the
            input without its batch dimension, see :class:`~lrp_fx.rules.ZBox`.
        high: the largest value, in the same form.
        gamma: γ of the convolutions.
        eps: ε of the dense layers, and of the last linear operation.

    Raises:
        OptionError: for bounds that do not fit each other, or a value of ``gamma`` or ``eps`` that
            the rules refuse.
    """
    conv, box = rules.GeneralizedGamma(gamma), rules.ZBox(low, high)
    return _epsilon_family("EpsilonGammaBox", conv, eps, box)


def EpsilonAlpha2Beta1(eps: float = 1e-6) -> Composite:
    """ε on dense layers, α2β1 on convolutions.

    Args:
        eps: ε of the dense layers, and of the last linear operation.

    Raises:
        OptionError: if ``eps`` is negative or not a number.
    """
    return _epsilon_family("EpsilonAlpha2Beta1", rules.AlphaBeta(2, 1), eps)


def EpsilonAlpha2Beta1Flat(eps: float = 1e-6) -> Composite:
    """:func:`EpsilonAlpha2Beta1` with :class:`~lrp_fx.rules.Flat` on the first linear operations.

    Args:
        eps: as for :func:`EpsilonAlpha2Beta1`.

    Raises:
        OptionError: if ``eps`` is negative or not a number.
    """
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
    """AttnLRP (Achtibat et al. 2024): Taylor expansion of the softmax, half to each factor.

    Args:
        conv: the rule of convolutions other than a patch embedding; by default
            :class:`~lrp_fx.rules.ZPlus`.
        dense: the rule of dense layers and of a patch embedding; by default
            :class:`~lrp_fx.rules.Epsilon`.
    """
    return _attention(
        "AttnLRP",
        rules.ZPlus() if conv is None else conv,
        rules.Epsilon() if dense is None else dense,
        (operation("softmax"), rules.SoftmaxTaylor()),
        (operation("bilinear"), rules.Half()),
    )


def CPLRP(conv: Rule | None = None, dense: Rule | None = None) -> Composite:
    """CP-LRP (Ali et al. 2022): attention weights are constants, and the values get all relevance.

    Args:
        conv: as for :func:`AttnLRP`.
        dense: as for :func:`AttnLRP`.
    """
    return _attention(
        "CPLRP",
        rules.ZPlus() if conv is None else conv,
        rules.Epsilon() if dense is None else dense,
        (operation("softmax"), rules.Nothing()),
        (operation("bilinear", "product"), rules.ValuePath()),
    )


def default_composite(attention: bool) -> Composite:
    """The composite of models for which the user chooses none; ``docs/evaluation.md`` has the reasons.

    Args:
        attention: whether the model has attention of queries, keys and values.

    Raises:
        OptionError: if ``attention`` is not True or False.
    """
    check_flag("attention", attention)
    return AttnLRP() if attention else EpsilonGamma()


PRESETS: dict[str, Callable[..., Composite]] = {
    "zero": Zero,
    "epsilon": Epsilon,
    "z_plus": ZPlus,
    "epsilon_plus": EpsilonPlus,
    "epsilon_plus_flat": EpsilonPlusFlat,
    "epsilon_gamma": EpsilonGamma,
    "epsilon_gamma_box": EpsilonGammaBox,
    "epsilon_alpha2_beta1": EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": EpsilonAlpha2Beta1Flat,
    "attn_lrp": AttnLRP,
    "cp_lrp": CPLRP,
}
"""The presets by their snake-case names."""


def by_name(name: str) -> Composite:
    """The preset with a snake-case name.

    Raises:
        CompositeError: for an unknown name, with near misses, and for a preset that needs
            arguments.
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
