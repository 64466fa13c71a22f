"""The space of a rule search: what may be chosen for a model, and the composite of each choice."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from lrp_fx._checks import check_choice, check_count, check_nonnegative, entries
from lrp_fx.attribution import Changes, LRPFx, Options
from lrp_fx.composites import (
    PRESETS,
    Composite,
    Matcher,
    convolution,
    dense,
    first,
    last,
    operation,
)
from lrp_fx.errors import OptionError
from lrp_fx.meaning import has_attention
from lrp_fx.plan import Plan
from lrp_fx.relevance import FILTER_BY
from lrp_fx.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    GeneralizedGamma,
    Half,
    Nothing,
    Rule,
    SoftmaxTaylor,
    ValuePath,
    ZBox,
    ZPlus,
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
    """What a rule search may choose.

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


@dataclass(frozen=True)
class Layout:
    """What of a space a model has.

    Args:
        ends: of each part of the depth but the last, how many linear operations lie before its end;
            None without convolutions other than the last linear operation.
        dense: whether it has dense or recurrent layers other than the last linear operation.
        attention: whether it has attention.
    """

    ends: tuple[int, ...] | None
    dense: bool
    attention: bool

    @staticmethod
    def of(plan: Plan, depths: int) -> Layout:
        """The layout of the model that a plan was made for.

        Args:
            plan: under any composite.
            depths: into how many parts the convolutions are divided, as equal as possible. Those at
                one depth stay together.
        """
        places = [step.place for step in plan.steps if step.place is not None]
        inner = [place for place in places if place.from_output not in (None, 0)]
        levels = sorted({p.from_input or 0 for p in inner if convolution(p)})
        parts = min(depths, len(levels))
        ends = tuple(levels[len(levels) * part // parts] for part in range(1, parts))
        has_dense = any(map(dense, inner))
        return Layout(ends if levels else None, has_dense, has_attention(plan.explained.graph))

    @property
    def parts(self) -> tuple[tuple[str, Matcher], ...]:
        """The name and the matcher of each part of the depth, in the order of a composite."""
        if self.ends is None:
            return ()
        count = len(self.ends) + 1
        names = {1: ("all",), 2: ("early", "late"), 3: ("early", "middle", "late")}.get(
            count, tuple(f"part {part + 1} of {count}" for part in range(count))
        )
        matchers = [*(convolution & first(end) for end in self.ends), convolution]
        return tuple(zip((f"{each} convolutions" for each in names), matchers, strict=True))


class Chooser(Protocol):
    """Chooses values by name, as a trial of Optuna does."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number of a range."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """One of several choices."""


@dataclass(frozen=True)
class Given:
    """A chooser whose choices are known.

    Args:
        values: name → choice.
        asked: the names of the choices that were asked for.

    Raises:
        KeyError: for a choice that is not known, or that is not offered.
    """

    values: Mapping[str, str | float]
    asked: list[str] = field(default_factory=list, compare=False)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The number."""
        self.asked.append(name)
        value = float(self.values[name])
        if not low <= value <= high:
            raise KeyError(name)
        return value

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """The choice."""
        self.asked.append(name)
        if self.values[name] not in choices:
            raise KeyError(name)
        return str(self.values[name])


@dataclass(frozen=True)
class Candidate:
    """Rules, filter and start that can be used: ``candidate.attribution(model)``.

    Args:
        name: the name of a preset, or the number of the trial.
        composite: the rules.
        options: the options of :class:`~lrp_fx.LRPFx` that are not the default.
        code: the same as Python, for a variable ``model``.
    """

    name: str
    composite: Composite
    options: Mapping[str, str | float] = field(default_factory=dict)
    code: str = field(default="", repr=False)

    def attribution(self, model: nn.Module) -> LRPFx:
        """An attribution of a model by these rules."""
        return LRPFx(model, **self.changes())

    def changes(self) -> Changes:
        """The composite and the options, for :meth:`~lrp_fx.LRPFx.with_options`."""
        return cast(Changes, {"composite": self.composite, **self.options})


def propose(space: Space, layout: Layout, choose: Chooser, name: str) -> Candidate:
    """A candidate of a space.

    Args:
        space: what may be chosen.
        layout: what of it the model has.
        choose: makes the choices.
        name: of the candidate.
    """
    lines: list[tuple[Matcher, Rule]] = []
    at_first = choose.suggest_categorical("first", space.at_first)
    if at_first == "flat":
        lines.append((first(), Flat()))
    elif at_first == "box":
        assert space.bounds is not None
        lines.append((first(), ZBox(*space.bounds)))
    lines.append((last(), Epsilon(EPS)))
    # where the first part holds the first operations alone, they have their rule already
    has_none_left = at_first != "same" and layout.ends is not None and layout.ends[:1] == (1,)
    for part, matcher in layout.parts[has_none_left:]:
        lines.append((matcher, _rule(space, choose, part, space.rules)))
    if layout.dense:
        lines.append((dense, _rule(space, choose, "dense", space.dense)))
    if layout.attention:
        if choose.suggest_categorical("attention", space.attention) == "attn_lrp":
            lines.append((operation("softmax"), SoftmaxTaylor()))
            lines.append((operation("bilinear"), Half()))
        else:
            lines.append((operation("softmax"), Nothing()))
            lines.append((operation("bilinear", "product"), ValuePath()))
    options: dict[str, str | float] = {}
    start = choose.suggest_categorical("start", space.starts)
    if start != "logit":
        options["start"] = start
    shares = [str(float(share)) for share in space.top_k]
    top_k = float(choose.suggest_categorical("top_k", shares))
    if top_k != 1:
        options["top_k"] = top_k
        by = choose.suggest_categorical("filter_by", space.filter_by)
        if by != "value":
            options["filter_by"] = by
    composite = Composite(lines, name=name, strict=False)
    return Candidate(name, composite, options, code_of(composite, options))


def _rule(space: Space, choose: Chooser, part: str, rules: Sequence[str]) -> Rule:
    """The rule of a part of the model."""

    def number(name: str, ends: tuple[float, float]) -> float:
        value = choose.suggest_float(f"{part}: {name}", *ends, log=True)
        return float(f"{value:.{DIGITS}g}")

    kind = choose.suggest_categorical(f"{part}: rule", rules)
    if kind == "gamma":
        return GeneralizedGamma(number("gamma", space.gamma))
    if kind == "epsilon":
        return Epsilon(number("eps", space.eps))
    if kind == "alpha_beta":
        alpha = number("alpha", space.alpha)
        return AlphaBeta(alpha, round(alpha - 1, 6))
    return ZPlus()


def presets(space: Space, layout: Layout) -> Iterator[Candidate]:
    """All presets that a model can use: those of attention only with attention, zᴮ with bounds."""
    for name, preset in PRESETS.items():
        needed = [
            each.name
            for each in inspect.signature(preset).parameters.values()
            if each.default is each.empty
        ]
        if name in ATTENTION and not layout.attention:
            continue
        if not needed:
            yield Candidate(name, preset(), {}, f'{_IMPORT}\n\nlrp = LRPFx(model, "{name}")')
        elif needed == ["low", "high"] and space.bounds is not None:
            composite = preset(*space.bounds)
            low, high = map(_number, space.bounds)
            call = f"composites.{composite.name}({low}, {high})"
            head = _head(f"{low}{high}", "from lrp_fx import LRPFx, composites")
            yield Candidate(name, composite, {}, f"{head}\n\nlrp = LRPFx(model, {call})")


_POINTS: dict[str, dict[str, str | float]] = {
    "epsilon": {"rule": "epsilon"},
    "z_plus": {"rule": "z_plus", "dense: rule": "z_plus"},
    "epsilon_plus": {"rule": "z_plus"},
    "epsilon_plus_flat": {"rule": "z_plus", "first": "flat"},
    "epsilon_gamma": {"rule": "gamma", "gamma": 0.1},
    "epsilon_gamma_box": {"rule": "gamma", "gamma": 0.25, "first": "box"},
    "epsilon_alpha2_beta1": {"rule": "alpha_beta"},
    "epsilon_alpha2_beta1_flat": {"rule": "alpha_beta", "first": "flat"},
    "attn_lrp": {"rule": "epsilon", "attention": "attn_lrp"},
    "cp_lrp": {"rule": "epsilon", "attention": "cp_lrp"},
}
"""Where presets lie in a space, nearly; what is not said is the default."""


def point_of(preset: str, space: Space, layout: Layout) -> dict[str, str | float]:
    """The choices that give nearly the rules of a preset, for the sampler to learn from.

    Returns:
        name → choice; empty if the preset is far from all that the space has.
    """
    said = _POINTS.get(preset)
    if said is None:
        return {}
    usual: dict[str, str | float] = {"rule": "epsilon", "eps": EPS, "gamma": 0.1, "alpha": 2.0}
    point: dict[str, str | float] = {
        "first": "same",
        "attention": "attn_lrp",
        "start": "logit",
        "top_k": "1.0",
        **{f"dense: {key}": value for key, value in usual.items()},
    }
    for part, _ in layout.parts:
        point |= {f"{part}: {key}": said.get(key, value) for key, value in usual.items()}
    point |= {key: value for key, value in said.items() if key not in usual}
    given = Given(point)
    try:
        propose(space, layout, given, preset)
    except KeyError:
        return {}
    return {name: point[name] for name in given.asked}


_IMPORT = "from lrp_fx import LRPFx"
_MATCHERS = ("convolution", "dense", "first", "last", "operation")


def code_of(composite: Composite, options: Mapping[str, str | float]) -> str:
    """Python that makes a composite of :func:`propose`, and an attribution by it."""
    lines = [f"({matcher.text}, {_written(rule)})," for matcher, rule in composite.assignments]
    text = "\n".join(lines)
    used = [name for name in _MATCHERS if re.search(rf"\b{name}\b", text)]
    rules = sorted({type(rule).__name__ for _, rule in composite.assignments})
    keywords = "".join(f", {name}={value!r}" for name, value in options.items())
    return "\n".join(
        [
            _head(text, "from lrp_fx import Composite, LRPFx"),
            f"from lrp_fx.composites import {', '.join(used)}",
            f"from lrp_fx.rules import {', '.join(rules)}",
            "",
            "composite = Composite(",
            "    [",
            *(f"        {line}" for line in lines),
            "    ],",
            f"    name={composite.name!r},",
            "    strict=False,",
            ")",
            f"lrp = LRPFx(model, composite{keywords})",
        ]
    )


def _head(text: str, imports: str) -> str:
    return f"import torch\n{imports}" if "torch." in text else imports


def _written(rule: Rule) -> str:
    if isinstance(rule, ZBox):
        return f"ZBox({_number(rule.low)}, {_number(rule.high)})"
    return str(rule)


def _number(bound: Bound) -> str:
    if isinstance(bound, torch.Tensor):
        return f"torch.tensor({bound.tolist()})"
    return repr(bound)
