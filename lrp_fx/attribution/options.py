"""The options of all attributions: how a model is explained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, ParamSpec, TypedDict, TypeVar

from lrp_fx._common import check_choice, check_flag
from lrp_fx.attribution.boundary import meant
from lrp_fx.capture import WAYS
from lrp_fx.composites import Composite, by_name, default_composite
from lrp_fx.composites.composite import MatcherLike, everywhere, filter_lines
from lrp_fx.errors import OptionError
from lrp_fx.optimize import NOTHING, Optimizations
from lrp_fx.plan import UNKNOWN_POLICIES, OutputKey, Unknown
from lrp_fx.relevance import (
    BIAS_POLICIES,
    ENGINES,
    BiasPolicy,
    Engine,
    FilterBy,
    Start,
    StartRelevance,
    TopK,
)

P = ParamSpec("P")
T = TypeVar("T")
Verify = Literal["auto", "always", "first"]
VERIFY: tuple[Verify, ...] = ("auto", "always", "first")


@dataclass(frozen=True)
class Options:
    """How a model is explained. The values are checked when the object is made.

    Args:
        composite: which operation gets which rule: a :class:`~lrp_fx.composites.Composite`, the
            name of a preset, or None for the default, ``attn_lrp`` for models with attention and
            ``epsilon_gamma`` for others.
        top_k: the fraction that is kept of the relevance values that enter each convolution, linear
            layer and pooling, the largest ones; 1 for all.
        filters: (matcher, top_k) pairs for single layers; they override ``top_k`` there.
        filter_by: which values a filter keeps: the largest signed ones (``"value"``, as in the blog
            post of 2021) or the largest |R| (``"magnitude"``).
        renormalize: scale what a filter keeps so that the sum of each sample stays, see
            :class:`~lrp_fx.composites.TopK`.
        propagation: ``"direct"`` for analytic adjoints, ``"gradient"`` for autograd within each
            rule.
        start: ``"logit"``, ``"one_hot"``, ``"against_rest"`` (the target against the softmax of all
            other classes, dimension 1), ``"softmax"`` (over dimension 1, without a target), or a
            function from the output (N, …) to its relevance, of the same shape.
        bias: what happens to the bias' share of the relevance: ``"absorb"`` it (the default of the
            literature), ``"ignore"`` the bias, ``"distribute"`` its share evenly over the inputs of
            the unit; None lets the composite decide.
        capture: how the model is read: ``"symbolic"``, ``"export"``, ``"record"`` (one call only,
            for Python that branches on values), or ``"auto"`` for the first way that reads it
            correctly.
        unknown: what to do at operations without a description. ``"error"`` raises an error.
            ``"vjp"`` divides relevance by the contributions ``x ∂y/∂x`` of the operands, and raises
            an error if there are none. A function gets ATen's name of the operation and returns its
            rule: ``Pass()`` for functions of single entries, ``Epsilon()`` for division by
            contributions, None for an error.
        output: for models with several outputs, the index or key of the one to explain; a tuple of
            them for nested outputs. None for the first floating-point tensor with two dimensions or
            more, which the plan names.
        optimize: True for the default :class:`~lrp_fx.Optimizations`, False for none, or a choice of
            them, such as ``Optimizations(recompute=True)`` to save memory.
        verify: when to compare the graph's output with the model's own. If they differ, the model
            is read again. ``"auto"``: for new shapes, and in every call if the model holds
            something whose changes cannot be detected (an iterator, a random generator).
            ``"first"``: only for new shapes. ``"always"``: in every call; modified weights are then
            also computed again.
        check_finite: refuse NaN and infinity in the inputs, the start and the relevance. The flag is
            read once, at the end of a run on a device that computes asynchronously. Without it no run
            waits for such a device, and NaN gives maps without meaning.
        cache: a folder in which graphs of models are kept, so that the next process does not read the
            model again: None for none. Code, configuration and versions decide whether a kept graph
            is used, and it is verified as one that was just read. See the guide for what the folder
            holds.

    Raises:
        OptionError: for a value that an option cannot have.
        CompositeError: for an unknown composite.
    """

    composite: Composite | str | None = None
    top_k: float = 1.0
    filters: Sequence[tuple[MatcherLike, float | TopK]] | None = None
    filter_by: FilterBy = "value"
    renormalize: bool = False
    propagation: Engine = "direct"
    start: Start = "logit"
    bias: BiasPolicy | None = None
    capture: str = "auto"
    unknown: Unknown = "error"
    output: OutputKey | None = None
    optimize: bool | Optimizations = True
    verify: Verify = "auto"
    check_finite: bool = True
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("propagation", ENGINES),
            ("bias", (None, *BIAS_POLICIES)),
            ("capture", WAYS),
            ("unknown", UNKNOWN_POLICIES),
            ("verify", VERIFY),
        ):
            if name != "unknown" or not callable(self.unknown):
                check_choice(name, getattr(self, name), known)
        check_flag("renormalize", self.renormalize)
        check_flag("check_finite", self.check_finite)
        if not isinstance(self.optimize, (bool, Optimizations)):
            raise OptionError(
                f"optimize must be True, False or an Optimizations, got {self.optimize!r}"
            )
        if self.cache is not None and not isinstance(self.cache, (str, Path)):
            raise OptionError(f"cache must be a folder or None, got {self.cache!r}")
        StartRelevance(self.start)
        self.resolved()

    @property
    def optimizations(self) -> Optimizations:
        """The optimizations that are on."""
        if isinstance(self.optimize, Optimizations):
            return self.optimize
        return Optimizations() if self.optimize else NOTHING

    def resolved(self, *, attention: bool = False) -> Composite:
        """The composite, with the filters and the bias policy of the options.

        Args:
            attention: whether the model has attention, which decides the default.
        """
        composite = self.composite
        if composite is None:
            composite = default_composite(attention)
        elif isinstance(composite, str):
            composite = by_name(composite)
        elif not isinstance(composite, Composite):
            raise OptionError(
                f"composite must be a Composite or the name of a preset, got {composite!r}"
            )
        general = TopK(self.top_k, self.filter_by, self.renormalize)
        own = filter_lines(
            [] if self.filters is None else self.filters, general.by, general.renormalize
        )
        extra = [(replace(matcher, required=True), top_k) for matcher, top_k in own]
        if general.share != 1:
            extra.append(everywhere(general))
        return Composite(
            composite.assignments,
            filters=[*extra, *composite.filters],
            bias=self.bias or composite.bias,
            name=composite.name,
            strict=composite.strict,
        )


class Keywords(TypedDict, total=False):
    """The types of ``**options``: all :class:`Options` except the composite."""

    top_k: float
    filters: Sequence[tuple[MatcherLike, float | TopK]] | None
    filter_by: FilterBy
    renormalize: bool
    propagation: Engine
    start: Start
    bias: BiasPolicy | None
    capture: str
    unknown: Unknown
    output: OutputKey | None
    optimize: bool | Optimizations
    verify: Verify
    check_finite: bool
    cache: str | Path | None


class Changes(Keywords, total=False):
    """All :class:`Options` as keywords."""

    composite: Composite | str | None


def check_names(owner: str, names: Iterable[str]) -> None:
    """Raise an ``OptionError`` for an unknown option; it suggests the nearest known one."""
    known = [field.name for field in fields(Options)]
    for name in names:
        if name not in known:
            raise OptionError(f"{owner} has no option '{name}': {meant(name, known)}")


def documents_options(kind: type[T]) -> type[T]:
    """A class whose docstring describes each option, in place of ``options``."""
    _, _, arguments = (Options.__doc__ or "").partition("Args:\n")
    described, _, _ = arguments.partition("\n\n")
    if kind.__doc__:  # None under ``python -OO``
        lines = [
            described if line.lstrip().startswith("options: ") else line
            for line in kind.__doc__.splitlines()
        ]
        kind.__doc__ = "\n".join(lines)
    return kind


def shows_options(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose signature lists each option, with its default, in place of ``**options``."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = inspect.signature(Options).parameters
    listed = [
        option.replace(kind=option.KEYWORD_ONLY)
        for name, option in options.items()
        if name not in signature.parameters
    ]
    vars(function)["__signature__"] = signature.replace(parameters=[*own, *listed])
    return function
