"""transformers: a text classifier and a text make tokens with their relevance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from torch import Tensor, nn

from lrp_fx.attribution import LRPFx, Target
from lrp_fx.errors import InputError, TargetError, blamed
from lrp_fx.explanation import Explanation, explain


class Tokenizer(Protocol):
    """The interface of a tokenizer of transformers."""

    def __call__(self, *texts: str, return_tensors: str, truncation: bool) -> Mapping[str, Tensor]:
        """The encoding of a text, or of a pair of texts."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """The tokens as texts."""


class TextPipeline(Protocol):
    """The interface of a pipeline of transformers."""

    @property
    def model(self) -> nn.Module:
        """The network."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Its tokenizer."""


def explain_text(
    pipeline: TextPipeline,
    text: str | tuple[str, str],
    target: Target | Literal["predicted"] | str = "predicted",
    *,
    lrp: LRPFx | None = None,
) -> Explanation:
    """Explain a text to the end: tokens with their relevance.

    ``explain_text(transformers.pipeline("text-classification", …), "A wonderful film.").show()``

    Args:
        pipeline: a text classification pipeline of transformers, or anything else with a ``model``
            and its ``tokenizer``.
        text: the text, or a pair of texts for models of pairs. It is cut where the tokenizer cuts.
        target: ``"predicted"``, a label of the model, or as in :meth:`lrp_fx.LRPFx.attribute`.
        lrp: the attribution of the pipeline's model. None makes one, which reads the model again:
            for many texts pass the same ``LRPFx(pipeline.model)``.

    Returns:
        The explanation. Its ``words`` are the tokens, its ``names`` the labels, and its
        ``relevance`` is ``(1, T)``. A notebook shows it, and ``.save(folder)`` keeps it.

    Raises:
        InputError: for a pipeline without a tokenizer, for something that is not a text, or for an
            ``lrp`` of another model.
        TargetError: for a label that there is not, or as :func:`lrp_fx.explain`.
        LRPError: the errors of :func:`lrp_fx.explain`.
    """
    model, tokenizer = getattr(pipeline, "model", None), getattr(pipeline, "tokenizer", None)
    if not isinstance(model, nn.Module) or tokenizer is None:
        raise InputError(
            f"explain_text needs a pipeline with a model and its tokenizer, not {type(pipeline).__name__}"
        )
    texts = text if isinstance(text, tuple) else (text,)
    if len(texts) not in (1, 2) or not all(isinstance(each, str) for each in texts):
        raise InputError(f"a text is a str or a pair of them, got {text!r}")
    explainer = LRPFx(model) if lrp is None else lrp
    if explainer.forward_func is not model:
        raise InputError("lrp must explain the model of the pipeline: LRPFx(pipeline.model)")
    with blamed("the tokenizer"):
        encoding = dict(tokenizer(*texts, return_tensors="pt", truncation=True))
    device = next(model.parameters()).device
    tensors = {name: value.to(device) for name, value in encoding.items()}
    ids = tensors.pop("input_ids")
    labels = getattr(getattr(model, "config", None), "id2label", None) or {}
    names = {int(index): str(label) for index, label in labels.items()}
    return explain(
        explainer,
        ids,
        _index_of(target, names),
        names=names,
        words=tokenizer.convert_ids_to_tokens(ids[0].tolist()),
        additional_forward_args=tensors,
    )


def _index_of(target: Target | str, names: Mapping[int, str]) -> Target | Literal["predicted"]:
    """The index of a label."""
    if not isinstance(target, str):
        return target
    if target == "predicted":
        return "predicted"
    found = [index for index, name in names.items() if name == target]
    if len(found) != 1:
        raise TargetError(
            f"the model has no label {target!r}: there are {', '.join(names.values())}"
        )
    return found[0]
