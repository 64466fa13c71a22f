"""Quantus: our methods in its metrics, and its metrics beside ours. It is imported by its users only."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from lrp_fx._common import check_count
from lrp_fx.errors import InputError, OptionError, blamed
from lrp_fx.evaluate.explain import Rebuildable, attribute
from lrp_fx.evaluate.metric import Explain, Forward, check_label, relevance_of, shown

if TYPE_CHECKING:
    from numpy import ndarray


class ExplainFunc(Protocol):
    """An ``explain_func`` of Quantus."""

    def __call__(
        self, *, model: nn.Module, inputs: ndarray, targets: ndarray, **options: object
    ) -> ndarray:
        """The relevance of the inputs, of their shape."""


class QuantusLike(Protocol):
    """The interface of a metric of Quantus."""

    @property
    def name(self) -> str:
        """Its name."""

    def __call__(self, **arguments: object) -> object:
        """Its scores."""


def explain_func(factory: Callable[[nn.Module], Attribution]) -> ExplainFunc:
    """The ``explain_func`` of Quantus from a factory of attributions.

    ``quantus.MPRT(...)(model=model, ..., explain_func=explain_func(LRPFx))``. Quantus hands the model
    to each call. The attribution of a model is made once. ``LRPFx`` reads the weights again in each
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
        return _array(relevance)

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
        label: a word for the name, to tell several settings apart.
    """

    metric: QuantusLike = field(repr=False)
    reduce: Callable[[object], object] | None = field(default=None, repr=False)
    masks: Tensor | None = field(default=None, repr=False)
    softmax: bool = False
    batch_size: int = 16
    label: str | None = None

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_label(self.label)

    def __repr__(self) -> str:
        plain = (bool, int, float, str)
        settings = [
            f"{name}={value!r}"
            for name, value in vars(self.metric).items()
            if isinstance(value, plain) and not name.startswith("_")
        ]
        reduce = getattr(self.reduce, "__qualname__", type(self.reduce).__name__)
        settings += [f"softmax={self.softmax}", f"batch_size={self.batch_size}"]
        settings += [f"reduce={reduce}"] if self.reduce is not None else []
        settings += [f"masks={shown(self.masks)}"] if self.masks is not None else []
        return f"quantus.{type(self.metric).__name__}({', '.join(settings)})"

    @property
    def name(self) -> str:
        """The metric's name in Quantus, and the label."""
        return f"Quantus {self.metric.name}" + (f" ({self.label})" if self.label else "")

    @property
    def higher_is_better(self) -> bool:
        """The metric's description by Quantus."""
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
        if isinstance(forward, nn.Module) and inputs.dtype != torch.bfloat16:
            model = forward
        else:
            model = _AsModule(forward, inputs)
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
            x, target = _tensor(inputs).to(like), _tensor(targets).to(like.device)
            return _array(relevance_of(method_of(model), x, target))

        like = inputs
        relevance = relevance_of(explain, inputs, targets)
        if refusal := _refusal(relevance):
            raise InputError(refusal)
        with blamed(self.name):
            result = self.metric(
                model=model,
                x_batch=_array(inputs),
                y_batch=_array(targets),
                a_batch=_array(relevance),
                s_batch=None if self.masks is None else _array(self.masks[:, None]),
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
    label: str | None = None,
) -> QuantusMetric:
    """A metric of Quantus for :func:`evaluate`, for example ``quantus_metric(quantus.Infidelity())``.

    Args:
        metric: the metric of Quantus, with ``return_aggregate=False``.
        reduce: from what it returns to ``N`` numbers, for metrics that return curves or one list
            for each layer.
        masks: known places, bool ``(N, H, W)``, for its metrics of localisation.
        softmax: whether Quantus puts a softmax after the model.
        batch_size: of Quantus.
        label: a word for the name, so that one metric can be used with several settings.
    """
    return QuantusMetric(metric, reduce, masks, softmax, batch_size, label)


class _AsModule(nn.Module):
    """A forward function as a module, which Quantus needs."""

    def __init__(self, forward: Forward, like: Tensor) -> None:
        super().__init__()
        self.function, self.dtype = forward, like.dtype
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x.to(self.dtype))


def _tensors(model: nn.Module, inputs: ndarray, targets: ndarray) -> tuple[Tensor, Tensor]:
    """Inputs and targets on the model's device; floating-point inputs in its dtype."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    x = _tensor(inputs).to(like.device)
    x = x.to(like.dtype) if x.is_floating_point() else x
    return x, _tensor(targets).to(like.device).long()


def _tensor(array: ndarray) -> Tensor:
    """A copy, since the array may have negative strides or be read-only."""
    return torch.from_numpy(numpy.array(array, order="C"))


def _array(tensor: Tensor) -> ndarray:
    """The entries for NumPy, which has no gradients and no bfloat16."""
    tensor = tensor.detach().cpu()
    array: ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


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
