"""Quantus: our methods in its metrics, and its metrics beside ours. It is imported by its users only."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from lrp_fx._checks import check_count
from lrp_fx.errors import InputError, OptionError, blamed
from lrp_fx.evaluate.explain import Rebuildable, attribute
from lrp_fx.evaluate.metric import Explain, Forward, relevance_of

if TYPE_CHECKING:
    from numpy import ndarray


class ExplainFunc(Protocol):
    """What Quantus calls ``explain_func``."""

    def __call__(
        self, *, model: nn.Module, inputs: ndarray, targets: ndarray, **options: object
    ) -> ndarray:
        """The relevance of the inputs, of their shape."""


class QuantusLike(Protocol):
    """What is used of a metric of Quantus."""

    @property
    def name(self) -> str:
        """Its name."""

    def __call__(self, **arguments: object) -> object:
        """Its scores."""


def explain_func(factory: Callable[[nn.Module], Attribution]) -> ExplainFunc:
    """The ``explain_func`` of Quantus from a factory of attributions.

    ``quantus.MPRT(...)(model=model, ..., explain_func=explain_func(LRPFx))``. Quantus hands the model
    to each call. The attribution of a model is made once. ``LRPFx`` reads the weights anew in each
    call, so a model that Quantus randomises in place is read again without another capture.

    Args:
        factory: makes the attribution of a model, such as ``LRPFx`` or
            ``lambda model: LRPFx(model, "epsilon", start="one_hot")``.

    Returns:
        A function of ``model``, ``inputs`` ``(N, …)`` and ``targets`` ``(N,)``, both arrays. It
        returns relevance of the inputs' shape and ignores other options of Quantus. It warns of
        relevance that Quantus refuses, and says why.
    """
    made: list[tuple[nn.Module, Attribution]] = []

    def explain(
        *, model: nn.Module, inputs: ndarray, targets: ndarray, **options: object
    ) -> ndarray:
        found = next((attribution for known, attribution in made if known is model), None)
        if found is None:
            found = factory(model)
            made[:] = [(model, found), *made[:1]]  # the model and its random copy
        relevance = attribute(found, *_tensors(model, inputs, targets))
        if refusal := _refusal(relevance):
            warnings.warn(refusal, stacklevel=2)
        array: ndarray = relevance.cpu().numpy()
        return array

    return explain


@dataclass(frozen=True, eq=False)
class QuantusMetric:
    """A metric of Quantus as one of this package; see :func:`quantus_metric`.

    Args:
        metric: the metric of Quantus.
        reduce: from what it returns to one number for each sample.
        masks: known places, ``(N, H, W)``, for its metrics of localisation.
        softmax: whether the model's logits become probabilities.
        batch_size: of Quantus.
    """

    metric: QuantusLike = field(repr=False)
    reduce: Callable[[object], object] | None = field(default=None, repr=False)
    masks: Tensor | None = field(default=None, repr=False)
    softmax: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)

    def __repr__(self) -> str:
        plain = (bool, int, float, str)
        settings = [
            f"{name}={value!r}"
            for name, value in vars(self.metric).items()
            if isinstance(value, plain) and not name.startswith("_")
        ]
        settings += [f"softmax={self.softmax}"]
        return f"quantus.{type(self.metric).__name__}({', '.join(settings)})"

    @property
    def name(self) -> str:
        """The metric's name in Quantus."""
        return f"Quantus {self.metric.name}"

    @property
    def higher_is_better(self) -> bool:
        """What Quantus says of the metric."""
        direction = getattr(self.metric, "score_direction", None)
        return getattr(direction, "value", "higher") == "higher"

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``.

        Raises:
            OptionError: if Quantus gives anything but one number for each sample.
            InputError: if Quantus fails, or refuses the relevance.
        """
        model = forward if isinstance(forward, nn.Module) else _AsModule(forward)
        methods: list[tuple[nn.Module, Explain]] = [(model, explain)]

        def method_of(other: nn.Module) -> Explain:
            for known, method in methods:
                if known is other:
                    return method
            if not isinstance(explain, Rebuildable):
                raise OptionError(
                    f"{self.name} changes the model's weights, so it needs methods that can be made "
                    "for another model: pass Explainer(LRPFx, model) instead of explain_with(...)"
                )
            methods[1:] = [(other, explain.on(other))]
            return methods[1][1]

        def explained(
            *, model: nn.Module, inputs: ndarray, targets: ndarray, **options: object
        ) -> ndarray:
            x, target = torch.from_numpy(inputs).to(like), torch.from_numpy(targets)
            array: ndarray = relevance_of(method_of(model), x, target.to(x.device)).cpu().numpy()
            return array

        like = inputs
        relevance = relevance_of(explain, inputs, targets)
        if refusal := _refusal(relevance):
            raise InputError(refusal)
        with blamed(self.name):
            result = self.metric(
                model=model,
                x_batch=inputs.cpu().numpy(),
                y_batch=targets.cpu().numpy(),
                a_batch=relevance.cpu().numpy(),
                s_batch=None if self.masks is None else self.masks[:, None].cpu().numpy(),
                channel_first=True,
                explain_func=explained,
                softmax=self.softmax,
                device=str(inputs.device),
                batch_size=self.batch_size,
            )
        return self._scores(result, len(inputs))

    def _scores(self, result: object, count: int) -> Tensor:
        if self.reduce is not None:
            result = self.reduce(result)
        try:
            scores = torch.as_tensor(result, dtype=torch.float64).cpu()
        except (TypeError, ValueError, RuntimeError):
            scores = torch.empty(0)
        if scores.shape != (count,):
            raise OptionError(
                f"{self.name} gives no single number for each sample: pass reduce=, a function from "
                f"what Quantus returns (here {type(result).__name__}) to {count} numbers"
            )
        return scores


def quantus_metric(
    metric: QuantusLike,
    *,
    reduce: Callable[[object], object] | None = None,
    masks: Tensor | None = None,
    softmax: bool = False,
    batch_size: int = 32,
) -> QuantusMetric:
    """A metric of Quantus for :func:`evaluate`, for example ``quantus_metric(quantus.Infidelity())``.

    Args:
        metric: the metric of Quantus, with ``return_aggregate=False``.
        reduce: from what it returns to ``N`` numbers, for metrics that return curves or one list
            for each layer.
        masks: known places, bool ``(N, H, W)``, for its metrics of localisation.
        softmax: whether Quantus puts a softmax behind the model.
        batch_size: of Quantus.
    """
    return QuantusMetric(metric, reduce, masks, softmax, batch_size)


class _AsModule(nn.Module):
    """A forward function as a module, which Quantus needs."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _tensors(model: nn.Module, inputs: ndarray, targets: ndarray) -> tuple[Tensor, Tensor]:
    """Inputs and targets on the model's device; floating-point inputs in its dtype."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    x = torch.as_tensor(inputs, device=like.device)
    x = x.to(like.dtype) if x.is_floating_point() else x
    return x, torch.as_tensor(targets, device=like.device).long()


def _refusal(relevance: Tensor) -> str:
    """Why Quantus refuses the relevance of a batch; empty if it does not."""
    if bool((relevance < 0).all()):
        what = "negative"
    elif bool((relevance == 0).all()):
        what = "zero"
    else:
        return ""
    return (
        f"all relevance of this batch is {what}, which Quantus refuses. The explained logits are "
        "probably negative: explain the predicted classes, or use LRPFx(..., start='one_hot')"
    )
