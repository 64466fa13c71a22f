"""How maps are made: rules by name, with the options of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrp_fx import LRPFx, composites as presets
from lrp_fx.attribution import FilterBy, Keywords
from lrp_fx.cli.options import BLOG, RuleOptions
from lrp_fx.composites import Composite, EpsilonGammaBox
from lrp_fx.errors import OptionError
from lrp_fx.zoo import LoadedModel

RELEVANCE = "relevance"
AGAINST_REST = "against other classes"
ALL_CLASSES = "softmax"


@dataclass(frozen=True)
class Method:
    """One way to make a map.

    Args:
        title: of its panel.
        lrp: the attribution.
        start: what relevance starts with.
    """

    title: str
    lrp: LRPFx
    start: str = "logit"

    @property
    def takes_target(self) -> bool:
        """Whether one class is explained."""
        return self.start != ALL_CLASSES

    @property
    def needs_classes(self) -> bool:
        """Whether it works for classifiers alone."""
        return self.start == "against_rest"


def composite_for(loaded: LoadedModel, name: str | None) -> Composite | str | None:
    """The composite called ``name``, with the bounds of the model's input if it needs them.

    Raises:
        OptionError: if it needs bounds that are not known.
    """
    if name == BLOG:
        return presets.compat.blog()
    if name != "epsilon_gamma_box":
        return name
    if loaded.bounds is None:
        raise OptionError(
            "epsilon_gamma_box needs the smallest and largest input of the model, which its own "
            "preprocessing does not tell: pass --mean and --std, or let the factory return a "
            "lrp_fx.zoo.Preprocessing"
        )
    return EpsilonGammaBox(*loaded.bounds)


def make_methods(
    loaded: LoadedModel, composites: Sequence[str], options: RuleOptions
) -> tuple[Method, ...]:
    """The methods that the options ask for. The model is read once for all of them.

    With no composite or one, the maps are that of the logit, that against the other classes unless
    a start was given, and the filtered one if it was asked for. With several, they are one for each
    composite, and its filtered one.

    Raises:
        LRPError: for an option that does not fit.
    """
    if options.filter_by is not None and options.top_k is None:
        raise OptionError("--filter-by says how --top-k filters: pass --top-k too")
    names = list(dict.fromkeys(composites))
    start = options.start or "logit"
    first = LRPFx(
        loaded.model,
        composite_for(loaded, names[0] if names else None),
        start=start,
        bias=options.bias,
        cache=options.cache,
    )
    if len(names) < 2:
        methods = [Method(RELEVANCE, first, start)]
        if options.start is None:
            methods.append(
                Method(AGAINST_REST, first.with_options(start="against_rest"), "against_rest")
            )
        return (*methods, *_filtered(methods[:1], options))
    made = [Method(names[0], first, start)]
    made += [
        Method(name, first.with_composite(composite_for(loaded, name)), start) for name in names[1:]
    ]
    return tuple(each for method in made for each in (method, *_filtered([method], options)))


def _filtered(methods: Sequence[Method], options: RuleOptions) -> list[Method]:
    """The same with a filter, if it was asked for."""
    if options.top_k is None:
        return []
    by: FilterBy = options.filter_by or "value"
    return [
        Method(
            f"{each.title}, top {100 * options.top_k:.3g} % by {by}",
            each.lrp.with_options(top_k=options.top_k, filter_by=by),
            each.start,
        )
        for each in methods
    ]


def lrp_of(loaded: LoadedModel, composite: str | None, options: RuleOptions) -> LRPFx:
    """The one attribution that the options ask for, with its filter.

    Raises:
        LRPError: for an option that does not fit.
    """
    return LRPFx(loaded.model, composite_for(loaded, composite), **keywords_of(options))


def keywords_of(options: RuleOptions) -> Keywords:
    """The options of one attribution, beside its composite.

    Raises:
        OptionError: for a way to filter without a filter.
    """
    if options.filter_by is not None and options.top_k is None:
        raise OptionError("--filter-by says how --top-k filters: pass --top-k too")
    return {
        "top_k": 1.0 if options.top_k is None else options.top_k,
        "filter_by": options.filter_by or "value",
        "start": options.start or "logit",
        "bias": options.bias,
        "cache": options.cache,
    }
