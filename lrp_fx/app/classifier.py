"""A classifier as the page uses it: from a photograph to predictions and relevance, for many visitors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock

import torch
from PIL import Image
from torch import Tensor, nn

from lrp_fx._common import Recent
from lrp_fx.attribution import LargestTarget, LRPFx, with_probabilities
from lrp_fx.composites import Composite, EpsilonGammaBox
from lrp_fx.errors import InputError, OptionError, TargetError, blamed, name_of_function
from lrp_fx.zoo import LoadedModel, Preprocessing

KEPT = 8
"""The number of attributions that are kept, one for each composite and share."""
BOX = "epsilon_gamma_box"
"""The composite that needs the bounds of the input."""


@dataclass(frozen=True, eq=False)
class Explained:
    """One explanation, with what is shown of it.

    Args:
        picture: what the model saw.
        probabilities: of the classes, (classes,).
        target: the explained class.
        relevance: (1, C, H, W).
    """

    picture: Image.Image
    probabilities: Tensor
    target: int
    relevance: Tensor


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier of pictures, with the attributions that were asked for. Safe for several threads.

    Args:
        name: for the title of the page.
        model: from (N, C, H, W) to logits (N, classes), in eval mode.
        see: from a photograph to the part that the model sees of it.
        read: from that part to the model's input, (C, H, W).
        categories: the names of the classes; ``class 7`` where there are none.
        bounds: the smallest and largest values of an input, if they are known.
        preprocessing: how photographs are resized and normalised, if that is known.
    """

    name: str
    model: nn.Module
    see: Callable[[Image.Image], Image.Image]
    read: Callable[[Image.Image], Tensor]
    categories: tuple[str, ...] = ()
    bounds: tuple[Tensor, Tensor] | None = None
    preprocessing: Preprocessing | None = None
    _made: Recent[tuple[str, float], LRPFx] = field(
        default_factory=lambda: Recent(KEPT), repr=False
    )
    _lock: Lock = field(default_factory=Lock, repr=False)

    def attribution(self, composite: str = "", share: float = 1.0) -> LRPFx:
        """The attribution with a composite and a filter.

        Args:
            composite: the name of a preset; empty for the default of the model.
            share: what the filter keeps, 0 < share ≤ 1.

        Raises:
            CompositeError: for an unknown composite.
            OptionError: for a share out of range.
        """
        key = composite, share
        with self._lock:
            plain = self._made.get(("", 1.0), lambda: LRPFx(self.model))  # reads the model once
            return self._made.get(
                key, lambda: plain.with_options(composite=self._rules(composite), top_k=share)
            )

    def _rules(self, composite: str) -> Composite | str | None:
        if composite == BOX and self.bounds is not None:
            return EpsilonGammaBox(*self.bounds)
        return composite or None

    def input_of(self, picture: Image.Image) -> Tensor:
        """The model's input, (1, C, H, W), for what the model sees."""
        with blamed(f"preprocess {name_of_function(self.read)!r}"):
            x = self.read(picture)
        x = x[None] if x.ndim == 3 else x
        device = next((each.device for each in self.model.parameters()), x.device)
        return x.to(device)

    def predict(self, picture: Image.Image) -> Tensor:
        """The probabilities of the classes, (classes,).

        Args:
            picture: what the model sees.

        Raises:
            InputError: if the model is not a classifier of such pictures.
        """
        with torch.no_grad():
            return _of_one(self.attribution().probabilities(self.input_of(picture)))

    def explain(
        self,
        picture: Image.Image,
        target: int | None = None,
        *,
        composite: str = "",
        share: float = 1.0,
    ) -> Explained:
        """The explanation of one class, and the prediction, from one pass.

        Args:
            picture: what the model sees, the result of ``see``.
            target: the class; None for the most probable one.
            composite: the name of a preset; empty for the default of the model.
            share: what the filter keeps, 0 < share ≤ 1.

        Raises:
            TargetError: if there is no such class.
            LRPError: the errors of :meth:`LRPFx.attribute <lrp_fx.LRPFx.attribute>`.
        """
        if target is not None and target < 0:
            raise TargetError(f"there is no class {target}")
        x, lrp = self.input_of(picture), self.attribution(composite, share)
        try:
            relevance, all_probabilities = with_probabilities(
                lrp, x, LargestTarget() if target is None else target
            )
        except TargetError:
            self.predict(picture)  # no classifier has no class either: that error says more
            raise
        probabilities = _of_one(all_probabilities)
        chosen = int(probabilities.argmax()) if target is None else target
        return Explained(picture, probabilities, chosen, relevance)

    def name_of(self, index: int) -> str:
        """The name of a class, with its number where several classes share the name."""
        if index >= len(self.categories):
            return f"class {index}"
        name = self.categories[index]
        return name if self.categories.count(name) == 1 else f"{name} ({index})"

    def best(self, probabilities: Tensor, count: int = 5) -> dict[int, float]:
        """The most probable classes, class → probability, the most probable first.

        Args:
            probabilities: (classes,).
            count: how many.
        """
        values, indices = probabilities.topk(min(count, len(probabilities)))
        return dict(zip(indices.tolist(), values.tolist(), strict=True))


def _of_one(probabilities: Tensor) -> Tensor:
    """The probabilities of the only picture, (classes,)."""
    if probabilities.ndim != 2 or len(probabilities) != 1 or probabilities.shape[1] < 2:
        raise InputError(
            "the page shows classifiers, whose output is (1, classes) for one picture, not "
            f"{tuple(probabilities.shape)}"
        )
    return probabilities[0]


def classifier_of(loaded: LoadedModel) -> Classifier:
    """The classifier of a model with a preprocessing for photographs.

    Raises:
        OptionError: if it has none.
    """
    if loaded.preprocess is None:
        raise OptionError(
            f"the model {loaded.name} has no preprocessing for photographs: let its factory return "
            "(model, preprocess), or pass one"
        )
    known = getattr(loaded.preprocess, "__self__", None)
    if isinstance(known, Preprocessing):
        see, read = known.display, known.normalized
        return Classifier(
            loaded.name, loaded.model, see, read, loaded.categories, loaded.bounds, known
        )
    read_whole = _as_input(loaded.preprocess)
    return Classifier(
        loaded.name, loaded.model, _whole, read_whole, loaded.categories, loaded.bounds
    )


def _as_input(function: Callable[[Image.Image], Tensor]) -> Callable[[Image.Image], Tensor]:
    """A preprocessing, whose result is checked."""

    @wraps(function)
    def read(picture: Image.Image) -> Tensor:
        x: object = function(picture)
        if not isinstance(x, Tensor):
            raise InputError(f"preprocess must return a tensor, not {type(x).__name__}")
        return x

    return read


def _whole(photograph: Image.Image) -> Image.Image:
    """All of the photograph."""
    return photograph
