"""One sample explained by several methods: what all commands that draw maps compute and show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from lrp_fx import Explanation, explain
from lrp_fx.cli.account import Account, account_of, percent
from lrp_fx.cli.inputs import Sample
from lrp_fx.cli.methods import Method
from lrp_fx.cli.models import check_categories, device_of_model
from lrp_fx.errors import InputError, blamed
from lrp_fx.zoo import LoadedModel

if TYPE_CHECKING:
    from PIL import Image

BEST = 3
"""The number of predicted classes that are listed."""


@dataclass(frozen=True)
class Explained:
    """A sample with its maps.

    Args:
        sample: the sample.
        explanation: by the first method.
        maps: title → relevance (1, …), of all methods.
        probabilities: of the classes, (classes,); None if the output has none.
        account: where the relevance of the first map went.
        start: what the relevance of the first map started with.
    """

    sample: Sample
    explanation: Explanation
    maps: Mapping[str, Tensor]
    probabilities: Tensor | None
    account: Account
    start: str

    @property
    def target(self) -> int | None:
        """The explained class; None where there are none, or all are explained."""
        found = self.explanation.target
        return found if isinstance(found, int) else None

    @property
    def target_name(self) -> str:
        """The explained target."""
        if self.target is None and self.probabilities is not None:
            return "all classes"
        name = self.explanation.target_name
        unnamed = self.target is not None and not self.explanation.names
        return f"class {name}" if unnamed else name or "the output"

    @property
    def title(self) -> str:
        """The explained target, with its probability."""
        index = self.target
        if self.probabilities is None or index is None:
            return self.target_name
        return f"{self.target_name} ({self.probability_of(index):.1%})"

    @property
    def best(self) -> list[int]:
        """The classes with the largest probabilities."""
        if self.probabilities is None:
            return []
        found: list[int] = self.probabilities.topk(
            min(BEST, len(self.probabilities))
        ).indices.tolist()
        return found

    def with_map(self, title: str) -> Explanation:
        """The explanation with one of the maps as its relevance."""
        return replace(self.explanation, relevance=self.maps[title])

    def name_of(self, index: int) -> str:
        """The name of a class."""
        names = self.explanation.names
        return names[index] if names else f"class {index}"

    def probability_of(self, index: int) -> float:
        """The probability of a class; NaN if the output has no classes."""
        return float("nan") if self.probabilities is None else float(self.probabilities[index])

    def table(self) -> Table:
        """The prediction, the explained target, and where the relevance went."""
        table = Table("", "", "", "", box=None, show_header=False, pad_edge=False)
        for column in table.columns[2:]:
            column.justify = "right"
        for place, index in enumerate(self.best, start=1):
            table.add_row(f"predicted {place}", *self._class(index))
        if self.target is not None and self.probabilities is not None:
            table.add_row("explained", *self._class(self.target))
        else:
            table.add_row("explained", escape(self.target_name))
        what = "output" if self.start == "logit" else f"start ({self.start})"
        table.add_row(what, "", f"{self.account.start:.4g}", "100 %")
        for words, amount, share in self.account.rows():
            table.add_row("", words, f"{amount:+.4g}", "" if share is None else percent(share))
        return table

    def _class(self, index: int) -> tuple[str, str, str]:
        return escape(self.name_of(index)), str(index), f"{self.probability_of(index):.2%}"

    def to_dict(self) -> dict[str, Any]:
        """Its entry in the summary and in ``--json``."""
        explanation, index = self.explanation, self.target
        return {
            "input": str(self.sample.file),
            "row": self.sample.row,
            "target": index,
            "target_name": self.target_name,
            "output": explanation.output,
            "probability": None if index is None else self.probability_of(index),
            "predicted": [
                {
                    "index": each,
                    "name": self.name_of(each),
                    "probability": self.probability_of(each),
                }
                for each in self.best
            ],
            "start": self.start,
            "relevance": self.account.to_dict(),
            "delta": explanation.delta,
            "remarks": list(self.sample.remarks),
        }


def explain_sample(
    loaded: LoadedModel, methods: Sequence[Method], sample: Sample, target: int | None
) -> Explained:
    """Explain one sample by all methods.

    Args:
        loaded: the model.
        methods: how the maps are made; those that need classes are left out where there are none.
        sample: a photograph, or an array (1, …).
        target: the class; None for the predicted one.

    Raises:
        LRPError: if it cannot be explained.
    """
    first, *others = methods
    wanted: int | Literal["predicted"] | None = "predicted" if target is None else target
    explanation = explain(
        first.lrp,
        array_of(loaded, sample.inputs) if isinstance(sample.inputs, Tensor) else sample.inputs,
        wanted if first.takes_target else None,
        preprocess=_reading(loaded),
        display=loaded.display,
        names=loaded.categories,
        words=sample.words,
    )
    x = explanation.inputs.to(device_of_model(loaded.model))
    with torch.no_grad():
        scores = first.lrp.explained_output(x)
    classes = scores.ndim == 2 and scores.shape[1] > 1
    check_categories(loaded.categories, scores)
    chosen = explanation.target if isinstance(explanation.target, int) else None
    maps = {first.title: explanation.relevance}
    for each in others:
        if classes or not each.needs_classes:
            maps[each.title] = each.lrp.attribute(x, chosen if each.takes_target else None)
    ledger = first.lrp.audit(x, chosen if first.takes_target else None)
    return Explained(
        sample,
        explanation,
        {title: relevance.detach().cpu() for title, relevance in maps.items()},
        first.lrp.plan(x).probabilities(scores)[0].cpu() if classes else None,
        account_of(ledger, explanation.relevance, "pixels" if x.ndim == 4 else "values"),
        first.start,
    )


def input_of(loaded: LoadedModel, sample: Sample) -> Tensor:
    """The model's input for a sample, (1, …), on the model's device.

    Raises:
        InputError: if the model's own preprocessing fails, or returns something else.
    """
    if isinstance(sample.inputs, Tensor):
        return array_of(loaded, sample.inputs)
    assert loaded.preprocess is not None
    with blamed(f"the preprocessing of {loaded.name}"):
        made = loaded.preprocess(sample.inputs)
    if not isinstance(made, Tensor) or made.ndim not in (3, 4):
        raise InputError(
            f"the preprocessing of {loaded.name} must return a tensor (C, H, W), not "
            f"{tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__}"
        )
    return _in_dtype(loaded, made[None] if made.ndim == 3 else made).to(
        device_of_model(loaded.model)
    )


def _reading(loaded: LoadedModel) -> Callable[[Image.Image], Tensor] | None:
    """The preprocessing, in the dtype of the model."""
    function = loaded.preprocess
    if function is None:
        return None

    @wraps(function)
    def read(photograph: Image.Image) -> Tensor:
        made = function(photograph)
        return _in_dtype(loaded, made) if isinstance(made, Tensor) else made

    return read


def _in_dtype(loaded: LoadedModel, x: Tensor) -> Tensor:
    """Real numbers in the dtype of the model, if all of the model is of one."""
    dtypes = {each.dtype for each in loaded.model.parameters() if each.is_floating_point()}
    return x.to(dtypes.pop()) if len(dtypes) == 1 and x.is_floating_point() else x


def array_of(loaded: LoadedModel, array: Tensor) -> Tensor:
    """An array on the model's device, and of its dtype unless it holds integers."""
    like = next((p for p in loaded.model.parameters() if p.is_floating_point()), None)
    if like is not None and array.is_floating_point():
        array = array.to(like.dtype)
    return array.to(device_of_model(loaded.model))
