"""Explains one sample, of which it knows the form: a tensor, an array or a photograph."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx._common import __version__, entries, is_int
from lrp_fx.attribution import LRPFx, Target
from lrp_fx.errors import InputError, TargetError, blamed, name_of_function
from lrp_fx.explanation.explanation import Explanation
from lrp_fx.explanation.files import STORABLE, native
from lrp_fx.visualize import as_pixels

if TYPE_CHECKING:
    from PIL import Image


def explain(
    lrp: LRPFx,
    inputs: Tensor | NDArray[np.generic] | Image.Image,
    target: Target | Literal["predicted"] = "predicted",
    *,
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    display: Callable[[Image.Image], Image.Image] | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    names: Sequence[str] | Mapping[int, str] | None = (),
    words: Sequence[str] | None = (),
    additional_forward_args: object = None,
) -> Explanation:
    """Explain one sample, and keep what is needed to read, show and save the result.

    Args:
        lrp: the attribution, ``LRPFx(model)``.
        inputs: one sample: a tensor or an array (1, …), or a photograph of PIL with ``preprocess``.
        target: as in :meth:`LRPFx.attribute <lrp_fx.LRPFx.attribute>`; ``"predicted"`` for the class
            with the largest output, None where no target is needed.
        preprocess: from a photograph to the model's input (C, H, W) or (1, C, H, W).
        display: from a photograph to what the model sees of it, of H × W pixels. Without it, the
            input itself is shown, by ``mean`` and ``std``.
        mean: the number that ``preprocess`` subtracts from pixels in [0, 1], or one per channel.
        std: the numbers by which it then divides.
        names: of the classes, in order, or a mapping from their indices, such as ``id2label``.
        words: one for each of the tokens, of the features of a table, or of the channels of a signal.
        additional_forward_args: further arguments of the model.

    Returns:
        The explanation: ``.show()``, ``.save(folder)``, ``.relevance``, and more.

    Raises:
        InputError: if the input is not one sample, or is a photograph without ``preprocess``; for
            names or words that do not fit.
        TargetError: for ``"predicted"`` if the output has no classes.
        LRPError: the errors of :meth:`LRPFx.attribute <lrp_fx.LRPFx.attribute>`.
    """
    if not isinstance(lrp, LRPFx):
        raise InputError(f"explain needs an LRPFx, such as LRPFx(model), not {type(lrp).__name__}")
    listed = _listed("words", words)
    x, shown = _sample(lrp, inputs, preprocess, display)
    with torch.no_grad():
        scores = lrp.explained_output(x, additional_forward_args)
    classes = scores.ndim == 2 and scores.shape[1] > 1
    named = _names(names, scores.shape[1] if classes else None)
    prediction = int(scores[0].argmax()) if classes else None
    if isinstance(target, str):
        if target != "predicted":
            raise TargetError(f"target must be 'predicted' or a target, got {target!r}")
        if prediction is None and scores[0].numel() > 1:
            raise TargetError(
                f"the output {tuple(scores.shape)} has no single predicted class: pass target="
            )
        chosen: Target = prediction
    else:
        chosen = target
    relevance, delta = lrp.attribute(
        x, chosen, additional_forward_args, return_convergence_delta=True
    )
    if listed and relevance.ndim in (2, 3) and len(listed) != relevance.shape[1]:
        raise InputError(f"{relevance.shape[1]} words are needed, got {len(listed)}")
    index = _index_of(chosen)
    if isinstance(index, int) and index < 0 and classes:
        index += scores.shape[1]
    output = None
    if isinstance(index, int) and classes:
        output = float(scores[0, index])
    elif chosen is None and scores[0].numel() == 1:
        output = float(scores)
    picture = None
    if relevance.ndim == 4:
        picture = as_pixels(x, mean, std) if shown is None else as_pixels(shown)
        (high, wide), (height, width) = picture.shape[:2], relevance.shape[2:]
        if high % height or wide % width or high // height != wide // width:
            raise InputError(
                f"{'the input has' if shown is None else 'display gives'} {high} × {wide} pixels, but "
                f"the relevance has {height} × {width} positions: its channels must come before "
                "them, and display must return what the model sees"
            )
    return Explanation(
        relevance=relevance.detach().cpu(),
        inputs=x.detach().cpu(),
        picture=picture,
        prediction=prediction,
        target=index,
        output=output,
        delta=float(delta.detach()),
        plan=str(lrp.plan()),
        names=named,
        words=listed,
        versions={
            "lrp_fx": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _listed(name: str, texts: Sequence[str] | None) -> tuple[str, ...]:
    """A sequence of texts; one text is none, because it would be cut into letters."""
    if texts is None:
        return ()
    found = None if isinstance(texts, (str, bytes, Mapping)) else entries(texts)
    if found is None:
        raise InputError(f"{name} must be a list of texts, got {texts!r}")
    return tuple(map(str, found))


def _names(names: Sequence[str] | Mapping[int, str] | None, classes: int | None) -> tuple[str, ...]:
    """The names of the classes in order, also of a mapping from their indices, as ints or texts."""
    if not isinstance(names, Mapping):
        return _listed("names", names)
    try:
        named = {int(key): str(name) for key, name in names.items()}
    except (TypeError, ValueError):
        raise InputError(
            f"names must be a list, or map the indices of classes to names, got {names!r}"
        ) from None
    count = len(named) if classes is None else classes
    if any(not 0 <= index < count for index in named):
        raise InputError(f"names must have indices from 0 to {count - 1}, got {sorted(named)}")
    return tuple(named.get(index, f"class {index}") for index in range(count)) if named else ()


def _sample(
    lrp: LRPFx,
    inputs: Tensor | NDArray[np.generic] | Image.Image,
    preprocess: Callable[[Image.Image], Tensor] | None,
    display: Callable[[Image.Image], Image.Image] | None,
) -> tuple[Tensor, Image.Image | None]:
    """The model's input, and the picture that is shown instead of it."""
    shown = None
    if isinstance(inputs, np.ndarray):
        if inputs.dtype.str[1:] not in STORABLE or inputs.dtype.kind == "b":
            raise InputError(
                f"an array must hold real numbers that a tensor can hold, not {inputs.dtype}"
            )
        inputs = torch.from_numpy(native(inputs))
    if not isinstance(inputs, Tensor):
        if isinstance(inputs, (tuple, list, dict, str)) or not hasattr(inputs, "convert"):
            raise InputError(
                "explain takes one tensor, array or photograph of PIL, not "
                f"{type(inputs).__name__}; for several inputs use attribute"
            )
        if preprocess is None:
            raise InputError(
                "a photograph needs preprocess=, the function that makes the model's input of it"
            )
        photograph = inputs
        with blamed(f"preprocess {name_of_function(preprocess)!r}"):
            inputs = preprocess(photograph)
        if not isinstance(inputs, Tensor):
            raise InputError(f"preprocess must return a tensor, not {type(inputs).__name__}")
        inputs = inputs[None] if inputs.ndim == 3 else inputs
        if display is not None:
            with blamed(f"display {name_of_function(display)!r}"):
                shown = display(photograph)
            if shown is None:
                raise InputError("display must return a picture, not None")
    if inputs.ndim < 2 or inputs.shape[0] != 1:
        raise InputError(
            f"explain takes one sample, of shape (1, …), not {tuple(inputs.shape)}; for a batch: "
            "[explain(lrp, x[n : n + 1]) for n in range(len(x))]"
        )
    parameter = next(iter(lrp.forward_func.parameters()), None)
    return inputs if parameter is None else inputs.to(parameter.device), shown


def _index_of(target: Target) -> str | int | None:
    """The target as a class; in words if it is not one."""
    if target is None:
        return None
    if isinstance(target, (Tensor, np.ndarray)):
        listed = np.ravel(np.asarray(target.tolist())).tolist()
        return int(listed[0]) if len(listed) == 1 else str(listed)
    if isinstance(target, (list, tuple)) and len(target) == 1:
        only = target[0]
        return str(only) if isinstance(only, slice) else _index_of(only)
    return int(target) if is_int(target) else str(target)
