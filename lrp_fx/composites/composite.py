"""Composites: which operation gets which rule."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from lrp_fx._checks import entries
from lrp_fx.composites.matchers import Matcher, Place, module_type, operation, path
from lrp_fx.errors import CompositeError, OptionError
from lrp_fx.relevance import BIAS_POLICIES, BiasPolicy, check_top_k
from lrp_fx.rules import Rule

MatcherLike = Matcher | str | type[nn.Module]

FILTERED_KINDS = ("convolution", "dense", "max pooling", "average pooling")
"""Where the blog post's filter stands: before each convolution, linear layer, pooling and mean."""


def as_matcher(value: MatcherLike) -> Matcher:
    """A matcher from its short form: a string is a path glob, a class a module type."""
    if isinstance(value, Matcher):
        return value
    if isinstance(value, str):
        return path(value)
    if isinstance(value, type) and issubclass(value, nn.Module):
        return module_type(value)
    raise CompositeError(
        f"a matcher is a path glob, a module class or a function of lrp_fx.composites, got {value!r}"
    )


@dataclass(frozen=True, init=False)
class Composite:
    """An ordered list of (matcher, rule): each operation gets the first rule that fits it.

    A rule fits an operation when the matcher matches and the operation takes rules of that type; so
    ``("features.*", ZPlus())`` is about the convolutions in ``features`` and leaves its ReLUs alone.
    Operations that no line is about keep their defaults.

    Args:
        assignments: (matcher, rule) pairs; a string stands for :func:`path`, a class for
            :func:`module_type`.
        filters: (matcher, top_k) pairs: of the relevance that enters the matched nodes only the
            largest values go on.
        bias: what becomes of the bias' share, see :class:`lrp_fx.LRPFx`.
        name: how the plan calls it.
        strict: a matcher that matches nothing is an error; presets, made for any model, are not
            strict.
    """

    assignments: tuple[tuple[Matcher, Rule], ...]
    filters: tuple[tuple[Matcher, float], ...]
    bias: BiasPolicy
    name: str
    strict: bool

    def __init__(
        self,
        assignments: Sequence[tuple[MatcherLike, Rule]],
        *,
        filters: Sequence[tuple[MatcherLike, float]] = (),
        bias: BiasPolicy = "absorb",
        name: str = "composite",
        strict: bool = True,
    ) -> None:
        pairs = entries(assignments)
        if pairs is None:
            raise CompositeError(f"assignments are a list of pairs, got {assignments!r}")
        assignments = list(pairs)
        for entry in assignments:
            if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], Rule)):
                raise CompositeError(f"an assignment is a pair (matcher, rule), got {entry!r}")
        if not isinstance(bias, str) or bias not in BIAS_POLICIES:
            words = ", ".join(map(repr, BIAS_POLICIES))
            raise OptionError(f"bias must be one of {words}, got {bias!r}")
        lines = tuple((as_matcher(m), rule) for m, rule in assignments)
        object.__setattr__(self, "assignments", lines)
        object.__setattr__(self, "filters", filter_lines(filters))
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "strict", strict)

    def __str__(self) -> str:
        lines = [f"{matcher.text:32} {rule}" for matcher, rule in self.assignments]
        lines += [f"{matcher.text:32} top_k={top_k}" for matcher, top_k in self.filters]
        return "\n  ".join([f"{self.name} (bias: {self.bias})", *lines])


def filter_lines(
    filters: Iterable[tuple[MatcherLike, float]],
) -> tuple[tuple[Matcher, float], ...]:
    """Filters with their matchers made of the short forms.

    Raises:
        CompositeError: for anything but pairs.
        OptionError: for a fraction out of range.
    """
    pairs = entries(filters)
    if pairs is None:
        raise CompositeError(f"filters are a list of pairs (matcher, top_k), got {filters!r}")
    lines = []
    for entry in pairs:
        if not (isinstance(entry, tuple) and len(entry) == 2):
            raise CompositeError(
                f"filters are a list of pairs (matcher, top_k), got {entry!r} in it"
            )
        matcher, top_k = entry
        check_top_k(top_k)
        lines.append((as_matcher(matcher), top_k))
    return tuple(lines)


def everywhere(top_k: float) -> tuple[Matcher, float]:
    """The blog post's filter: the same fraction before every layer with weights or a pooling."""
    check_top_k(top_k)
    return operation(*FILTERED_KINDS), top_k


def without_match(matcher: Matcher, rule: object, places: Sequence[Place]) -> CompositeError:
    """The error for a line that is about nothing in the model, with near misses."""
    if any(matcher(place) for place in places):
        found = sorted({place.operation for place in places if matcher(place)})
        return CompositeError(
            f"{matcher.text} matches only operations that do not take {rule}: {', '.join(found)}"
        )
    if matcher.glob is not None:
        known = sorted({each for place in places for each in place.paths if each})
        near = difflib.get_close_matches(matcher.glob, known, n=3, cutoff=0.4) or known[:3]
        hint = f"; near misses: {', '.join(repr(each) for each in near)}"
    else:
        known = sorted({place.operation for place in places})
        types = sorted({place.types[-1].__name__ for place in places if place.types})
        hint = f"; the model has operations {', '.join(known)} in modules {', '.join(types)}"
    return CompositeError(f"{matcher.text} matches nothing that carries relevance{hint}")
