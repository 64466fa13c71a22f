"""Makes methods from attributions: functions from inputs and targets to relevance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from captum.attr import Attribution, GradientAttribution
from torch import Tensor, nn

from lrp_fx.errors import InputError
from lrp_fx.evaluate.metric import Explain


@runtime_checkable
class Rebuildable(Protocol):
    """A method that can be made for another model, as tests by randomised weights need it."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The relevance, as of any method."""

    def on(self, model: nn.Module) -> Explain:
        """The same method for another model."""


def explain_with(attribution: Attribution, **options: object) -> Explain:
    """A method from an attribution: ``LRPFx(model)``, ``Saliency(model)``, any of Captum's interface.

    Args:
        attribution: its ``attribute(inputs, target=targets)`` is called.
        options: further keywords of ``attribute``, such as ``n_steps=50``.

    Returns:
        A function from inputs ``(N, …)`` and targets ``(N,)`` to relevance without a gradient.
    """

    def explain(inputs: Tensor, targets: Tensor) -> Tensor:
        return attribute(attribution, inputs, targets, **options)

    return explain


@dataclass(frozen=True, eq=False)
class Explainer:
    """A method that can be made again for another model: ``Explainer(LRPFx, model)``.

    Args:
        factory: makes the attribution of a model, such as ``LRPFx``, ``Saliency`` or
            ``lambda model: LRPFx(model, "epsilon", top_k=0.05)``.
        model: the explained model.
    """

    factory: Callable[[nn.Module], Attribution]
    model: nn.Module

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The relevance of the inputs.

        Args:
            inputs: ``(N, …)``.
            targets: ``(N,)``.
        """
        return attribute(self._attribution, inputs, targets)

    def on(self, model: nn.Module) -> Explainer:
        """The same method for another model."""
        return Explainer(self.factory, model)

    @cached_property
    def _attribution(self) -> Attribution:
        return self.factory(self.model)


def attribute(
    attribution: Attribution, inputs: Tensor, targets: Tensor, **options: object
) -> Tensor:
    """The relevance of an attribution, without a gradient.

    Raises:
        InputError: if it returns several tensors.
    """
    inputs = inputs.detach()
    if isinstance(attribution, GradientAttribution) and inputs.is_floating_point():
        inputs = inputs.clone().requires_grad_()  # Captum warns of inputs that need no gradient
    relevance = attribution.attribute(inputs, target=targets, **options)
    if not isinstance(relevance, Tensor):
        raise InputError(
            f"{type(attribution).__name__} returned {type(relevance).__name__} instead of a tensor: "
            "only methods of one input can be judged"
        )
    return relevance.detach()
