"""Drop-ins for Captum's ``LRP`` and ``LayerLRP``: its arguments, its rules on modules, its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from typing import Any

from captum.attr._utils import lrp_rules
from torch import Tensor, nn

from lrp_fx import rules
from lrp_fx.attribution import Given, Layer, LayerLRPFx, LRPFx
from lrp_fx.composites import Composite, Matcher, compat, operation, path
from lrp_fx.errors import CompositeError
from lrp_fx.rules import LinearRule, Rule, Stabilizer

WITHOUT_RULE = (nn.ReLU, nn.Dropout, nn.Tanh)
"""Captum passes relevance through these with any ``rule``."""
SMALL = 1e-6
"""With a larger ε it matters whether a batch norm has an ε of its own."""
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_Key = tuple[tuple[str, type, float, float, bool], ...]


class LRP(LRPFx):
    """``captum.attr.LRP`` with the same arguments, and with its numbers where it has any.

    It reads the attribute ``rule`` of the modules, as Captum does, before each call: ``EpsilonRule``,
    ``GammaRule``, ``Alpha1_Beta0_Rule`` and ``IdentityRule``. Layers without one get Captum's
    default, ε = 1e-9. What Captum refuses or does not see (other layers, functional calls, modules
    that are called twice) gets the rules of this library. The rules stay on the modules, while
    Captum removes them with each call.

    Args:
        model: the model; it is only read.

    Raises:
        CompositeError: for a rule that cannot be followed; the message says which and why.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, captum_composite(model))
        self._rules = _key(model)

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "LRP"

    def _given(self, *arguments: Any, **options: Any) -> Given[Any]:
        _follow(self)
        return super()._given(*arguments, **options)


class LayerLRP(LayerLRPFx):
    """``captum.attr.LayerLRP`` with the same arguments; see :class:`LRP`.

    Args:
        model: the model; it is only read.
        layer: as in :class:`~lrp_fx.LayerLRPFx`.

    Raises:
        CompositeError: for a rule that cannot be followed; the message says which and why.
    """

    def __init__(self, model: nn.Module, layer: Layer | list[Layer]) -> None:
        super().__init__(model, layer, captum_composite(model))
        self._rules = _key(model)

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "LayerLRP"

    def _given(self, *arguments: Any, **options: Any) -> Given[Any]:
        _follow(self)
        return super()._given(*arguments, **options)


def captum_composite(model: nn.Module) -> Composite:
    """The composite that gives a model's layers the rules that Captum's ``LRP`` would use.

    Args:
        model: the model; some of its modules may have an attribute ``rule`` of Captum.

    Raises:
        CompositeError: for a ``rule`` that is none of Captum's four, that stands on a module with
            children (Captum ignores it there), or that is not ε in a model with batch norms, which
            this library merges with the layer beside.
    """
    lines: list[tuple[Matcher, Rule]] = []
    for name, module in _with_rules(model):
        rule = module.rule
        if not isinstance(rule, lrp_rules.PropagationRule):
            raise CompositeError(
                f"the attribute 'rule' of module '{name}' must be a rule of Captum, got {rule!r}"
            )
        if next(module.children(), None) is not None:
            raise CompositeError(
                f"module '{name}' has a rule and children: Captum ignores it there. Set the rule of "
                "each layer inside, or use LRPFx with a Composite, whose lines hold for all inside"
            )
        if not isinstance(module, WITHOUT_RULE):
            lines += _lines(name, rule)
    _check_norms(model)
    return Composite(
        [*lines, *compat.captum().assignments], name="the rules of Captum", strict=False
    )


def _with_rules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if getattr(module, "rule", None) is not None:
            yield name, module


def _lines(name: str, rule: Any) -> Iterator[tuple[Matcher, Rule]]:
    """The lines of one module: its operation decides which of them fits."""
    here = path(escape(name))
    kind = type(rule)
    if kind is lrp_rules.IdentityRule:
        yield here, rules.Pass()
        return
    stabilizer = Stabilizer(float(rule.STABILITY_FACTOR))
    yield here & operation("max pooling"), rules.Winner(stabilizer)
    yield here & operation("average pooling", "addition"), rules.Proportional(stabilizer)
    yield here & operation("normalization"), rules.Epsilon(stabilizer=stabilizer)
    linear: LinearRule
    if kind is lrp_rules.EpsilonRule:
        linear = rules.Epsilon(stabilizer=stabilizer)
    elif kind is lrp_rules.GammaRule:
        bias = not rule.set_bias_to_zero
        linear = compat.PlainBiasGamma(float(rule.gamma), bias=bias, stabilizer=stabilizer)
    elif kind is lrp_rules.Alpha1_Beta0_Rule:
        linear = compat.UnsplitZPlus(bias=not rule.set_bias_to_zero, stabilizer=stabilizer)
    else:
        raise CompositeError(
            f"the rule {kind.__name__} of module '{name}' is not one of Captum's own, and its code "
            "cannot be read as a rule here: use LRPFx(model, Composite(...)) with rules of lrp_fx"
        )
    yield here, linear


def _check_norms(model: nn.Module) -> None:
    """Batch norms are merged with the layer beside, so only rules that do not notice can be followed."""
    norm = next((name for name, m in model.named_modules() if isinstance(m, NORMS)), None)
    if norm is None:
        return
    for name, module in _with_rules(model):
        rule = module.rule
        small = type(rule) is lrp_rules.EpsilonRule and rule.STABILITY_FACTOR <= SMALL
        if isinstance(getattr(module, "weight", None), Tensor) and not small:
            raise CompositeError(
                f"module '{name}' has the {type(rule).__name__} of Captum, and '{norm}' is a batch "
                "norm: lrp_fx merges batch norms with the layer beside, so Captum's numbers "
                "would be missed. Use LRPFx(model, Composite(...)): its rules hold for the merged layers"
            )


def _key(model: nn.Module) -> _Key:
    """All of the rules that the composite depends on, to see when it changes."""
    return tuple(
        (
            name,
            type(module.rule),
            float(getattr(module.rule, "STABILITY_FACTOR", 0)),
            float(getattr(module.rule, "gamma", 0)),
            bool(getattr(module.rule, "set_bias_to_zero", False)),
        )
        for name, module in _with_rules(model)
    )


def _follow(attribution: LRP | LayerLRP) -> None:
    """Take new rules of the modules."""
    model: nn.Module = attribution.forward_func
    key = _key(model)
    if key != attribution._rules:  # noqa: SLF001 a class of this file
        fresh = attribution.with_composite(captum_composite(model))
        attribution._explainer, attribution._rules = fresh._explainer, key  # noqa: SLF001
