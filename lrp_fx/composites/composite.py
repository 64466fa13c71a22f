"""Composites: lists that say which operation gets which rule."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from lrp_fx._common import entries
from lrp_fx.composites.matchers import Matcher, Place, module_type, operation, path
from lrp_fx.errors import CompositeError, OptionError
from lrp_fx.relevance import BIAS_POLICIES, BiasPolicy, FilterBy, TopK
from lrp_fx.rules import Rule

MatcherLike = Matcher | str | type[nn.Module]

FILTERED_KINDS = ("convolution", "dense", "max pooling", "average pooling")
"""The blog post of 2021 filters before each operation of these kinds; means count as pooling."""


def as_matcher(value: MatcherLike) -> Matcher:
    """A matcher, or the matcher that a short form stands for.

    A string is a glob of module paths, a class a module type.

    Raises:
        CompositeError: for anything else.
    """
    if isinstance(value, Matcher):
        return value
    if isinstance(value, str):
        return path(value)
    if isinstance(value, type) and issubclass(value, nn.Module):
        return module_type(value)
    raise CompositeError(
        f"a matcher is a path glob, a module class or one made by lrp_fx.composites, got {value!r}"
    )


@dataclass(frozen=True, init=False)
class Composite:
    """An ordered list of (matcher, rule). Each operation gets the first rule that fits it.

    A rule fits an operation if the matcher matches it and the operation accepts rules of that type.
    So ``("features.*", ZPlus())`` applies to the convolutions in ``features``, not to its ReLUs.
    Operations without a fitting line keep their default rules.

    Args:
        assignments: (matcher, rule) pairs. A string stands for :func:`path`, a class for
            :func:`module_type`.
        filters: (matcher, top_k) pairs. Of the relevance that enters a matched node, only the
            fraction ``top_k`` with the largest values goes on. A :class:`TopK` in place of the
            number says which values count as the largest.
        bias: how the share of the bias is treated, see :class:`lrp_fx.LRPFx`.
        name: the name that the plan shows.
        strict: raise an error for a matcher that matches nothing. Presets are made for any model
            and are not strict.

    Raises:
        CompositeError: for assignments or filters that are not pairs, or for an invalid matcher.
        OptionError: for an unknown bias policy, or unless ``0 < top_k <= 1``.
    """

    assignments: tuple[tuple[Matcher, Rule], ...]
    filters: tuple[tuple[Matcher, TopK], ...]
    bias: BiasPolicy
    name: str
    strict: bool

    def __init__(
        self,
        assignments: Sequence[tuple[MatcherLike, Rule]],
        *,
        filters: Sequence[tuple[MatcherLike, float | TopK]] = (),
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
    filters: Iterable[tuple[MatcherLike, float | TopK]],
    by: FilterBy = "value",
    renormalize: bool = False,
) -> tuple[tuple[Matcher, TopK], ...]:
    """The filters, with short forms replaced by matchers, and numbers by what they mean.

    Args:
        filters: (matcher, top_k) pairs.
        by: which values a filter keeps that is given as a number.
        renormalize: whether such a filter scales what it keeps.

    Raises:
        CompositeError: for anything but pairs.
        OptionError: unless ``0 < top_k <= 1``.
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
        if not isinstance(top_k, TopK):
            top_k = TopK(top_k, by, renormalize)
        lines.append((as_matcher(matcher), top_k))
    return tuple(lines)


def everywhere(top_k: TopK) -> tuple[Matcher, TopK]:
    """The blog post's filter: keep the same fraction before every layer with weights and pooling."""
    return operation(*FILTERED_KINDS), top_k


def without_match(matcher: Matcher, rule: object, places: Sequence[Place]) -> CompositeError:
    """The error for a line that applies to nothing in the model, with near misses."""
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
