"""Candidates of a rule search: the composite of each choice, for a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from torch import nn

from lrp_fx.attribution import Changes, LRPFx, Plan
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
from lrp_fx.evaluate.composite_code import IMPORT, code_of, imports_of, text_of
from lrp_fx.evaluate.space import (
    ATTENTION,
    DIGITS,
    EPS,
    Space,
)
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


@dataclass(frozen=True)
class Layout:
    """The part of a space that a model has.

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
        return Layout(ends if levels else None, has_dense, plan.has_attention)

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
            yield Candidate(name, preset(), {}, f'{IMPORT}\n\nlrp = LRPFx(model, "{name}")')
        elif needed == ["low", "high"] and space.bounds is not None:
            composite = preset(*space.bounds)
            low, high = map(text_of, space.bounds)
            call = f"composites.{composite.name}({low}, {high})"
            head = imports_of(f"{low}{high}", "from lrp_fx import LRPFx, composites")
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
