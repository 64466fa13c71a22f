"""The inputs that users pass: tensors, NumPy arrays or an encoding. Their relevance gets the same form.

This is the only place where arrays become tensors, and tensors become arrays again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lrp_fx.errors import InputError, OptionError

Array: TypeAlias = NDArray[np.generic]
"""An array of NumPy."""
Form = TypeVar("Form")
OfTensors = TypeVar("OfTensors", Tensor, tuple[Tensor, ...], Mapping[str, Tensor])
"""A tensor, a tuple of tensors, or tensors by the names of the model's arguments."""
OfArrays = TypeVar("OfArrays", Array, tuple[Array, ...], Mapping[str, Array])
"""The same forms of NumPy arrays."""
Inputs = TypeVar(
    "Inputs",
    Tensor,
    tuple[Tensor, ...],
    Mapping[str, Tensor],
    Array,
    tuple[Array, ...],
    Mapping[str, Array],
)
"""All forms of inputs. Their relevance has the same form."""
BESIDE = ("mask", "labels")
"""Entries of encodings whose names end like this get no relevance: they are no evidence."""
AnyTensors: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
AnyArrays: TypeAlias = Array | tuple[Array, ...] | Mapping[str, Array]
AnyInputs: TypeAlias = AnyTensors | AnyArrays
"""The forms of inputs, where their relevance is not what is returned."""


class Named(tuple[Tensor, ...]):
    """Explained tensors that the model takes by keyword."""

    names: tuple[str, ...]

    def __new__(cls, tensors: Mapping[str, Tensor]) -> Named:
        """The tensors in the order of the mapping."""
        made = super().__new__(cls, tensors.values())
        made.names = tuple(tensors)
        return made


@dataclass(frozen=True)
class Given(Generic[Form]):
    """The inputs of a call as tensors, and the form in which their relevance goes back.

    Args:
        tensors: the explained inputs; :class:`Named` if the model takes it by keyword.
        additional: the further arguments of the model.
        form: what the user passed; of a mapping, what is explained of it.
    """

    tensors: tuple[Tensor, ...]
    additional: object
    form: Form

    def finished(
        self, relevance: Sequence[Tensor], *, create_graph: bool = False
    ) -> tuple[Tensor, ...]:
        """The relevance in the dtype of floating-point inputs, contiguous."""
        return tuple(
            finalize(r.to(x.dtype) if x.is_floating_point() else r, create_graph)
            for r, x in zip(relevance, self.tensors, strict=True)
        )

    def formed(self, relevance: Sequence[Tensor]) -> Form:
        """Relevance in the form of the inputs: arrays for arrays, a mapping for a mapping."""
        back = tuple(
            _array(r, x) if isinstance(x, np.ndarray) else r
            for r, x in zip(relevance, _leaves(self.form), strict=True)
        )
        if isinstance(self.form, Mapping):
            return cast(Form, dict(zip(self.form, back, strict=True)))
        return cast(Form, back if isinstance(self.form, tuple) else back[0])

    def restored(self, relevance: Sequence[Tensor], *, create_graph: bool = False) -> Form:
        """The relevance in the form, dtype and layout of the inputs."""
        return self.formed(self.finished(relevance, create_graph=create_graph))

    def alike(self, values: Any) -> Any:
        """Other results, a tensor or tuples and lists of them: arrays if all inputs are arrays."""
        if not all(isinstance(each, np.ndarray) for each in _leaves(self.form)):
            return values
        if isinstance(values, (tuple, list)):
            return type(values)(map(self.alike, values))
        return _array(values)


def given(
    inputs: Form, additional: object, model: nn.Module, *, create_graph: bool = False
) -> Given[Form]:
    """The inputs of a call as tensors.

    Tensors are taken as they are. Arrays go to the device of the model, floating-point ones also to
    its dtype. Of a mapping, the entries of :func:`_explained_names` are explained.

    Raises:
        InputError: for arrays of something else than real numbers or with masked entries, and for
            mappings without anything to explain.
        OptionError: for arrays with ``create_graph``.
    """
    if isinstance(inputs, Tensor):
        return Given((inputs,), additional, inputs)
    if isinstance(inputs, Mapping):
        return _of_mapping(inputs, additional, model, create_graph)
    many: tuple[Any, ...] = inputs if isinstance(inputs, tuple) else (inputs,)
    if not any(isinstance(each, np.ndarray) for each in many):
        return Given(many, additional, inputs)
    _check_graph(create_graph)
    like = _like(model)
    tensors = tuple(_tensors(many, like, "input {}" if len(many) > 1 else "the input"))
    return Given(tensors, _additional(additional, like), inputs)


def _of_mapping(
    inputs: Any, additional: object, model: nn.Module, create_graph: bool
) -> Given[Any]:
    """A mapping of names to tensors, such as the encoding of a tokenizer."""
    if additional is not None and not isinstance(additional, Mapping):
        raise InputError(
            "inputs by name need additional arguments by name, too: pass a dict, not "
            f"{type(additional).__name__}"
        )
    further = dict(additional or {})
    twice = sorted(set(map(str, inputs)) & set(map(str, further)))
    if twice:
        raise InputError(f"passed twice, in the inputs and as additional argument: {twice[0]}")
    for name, value in inputs.items():
        if not isinstance(name, str):
            raise InputError(f"a mapping of inputs needs names of arguments, got the key {name!r}")
        if not isinstance(value, (Tensor, np.ndarray)):
            raise InputError(
                f"the input '{name}' must be a tensor or a NumPy array, got {type(value).__name__}; "
                "a tokenizer returns tensors with return_tensors='pt'"
            )
    like = _like(model)
    if any(isinstance(value, np.ndarray) for value in inputs.values()):
        _check_graph(create_graph)
        further = _additional(further, like)
    values = dict(zip(inputs, _tensors(inputs.values(), like, "the input"), strict=True))
    names = _explained_names(values, model)
    rest = {name: value for name, value in values.items() if name not in names}
    return Given(
        Named({name: values[name] for name in names}),
        {**rest, **further},
        {name: inputs[name] for name in names},
    )


def _explained_names(values: Mapping[str, Tensor], model: nn.Module) -> list[str]:
    """Which entries of a mapping get relevance: numbers and words, but no masks, positions and labels.

    These are all floating-point entries but masks and labels, and of the integers the model's
    ``main_input_name``, as models of transformers say it, or ``input_ids``. If the mapping has
    neither, it is its only integer entry.
    """
    tokens = getattr(model, "main_input_name", None)
    if tokens not in values:
        tokens = "input_ids"
    candidates = {name: value for name, value in values.items() if not name.endswith(BESIDE)}
    names = [
        name for name, value in candidates.items() if value.is_floating_point() or name == tokens
    ]
    integers = [name for name, v in candidates.items() if v.dtype in (torch.int32, torch.int64)]
    if not names and len(integers) == 1:
        names = integers
    if not names:
        raise InputError(
            f"which of the inputs {', '.join(values) or '(none)'} is to be explained? Pass it as a "
            "tensor, and the others as additional_forward_args={name: tensor}"
        )
    return names


def _check_graph(create_graph: bool) -> None:
    if create_graph:
        raise OptionError("create_graph needs tensors as inputs: NumPy arrays carry no gradient")


def _additional(additional: Any, like: Tensor | None) -> Any:
    """Additional arguments, the arrays among them as tensors."""
    if isinstance(additional, Mapping):
        return {name: _additional(value, like) for name, value in additional.items()}
    if type(additional) is tuple:
        return tuple(_additional(value, like) for value in additional)
    return (
        _tensor(additional, like, "an additional argument") if _is_array(additional) else additional
    )


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)


def _leaves(form: Any) -> tuple[Any, ...]:
    """The tensors and arrays of a form."""
    if isinstance(form, Mapping):
        return tuple(form.values())
    return form if isinstance(form, tuple) else (form,)


def _like(model: nn.Module) -> Tensor | None:
    """A tensor of the model's floating-point dtype, on its device; None if it has none."""
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def _tensors(values: Any, like: Tensor | None, name: str) -> Iterator[Any]:
    for place, value in enumerate(values):
        yield _tensor(value, like, name.format(place)) if _is_array(value) else value


def _tensor(array: Array, like: Tensor | None, name: str) -> Tensor:
    """A copy of the array: it may have negative strides, another byte order, or be read-only."""
    if np.ma.is_masked(array):
        raise InputError(
            f"{name} is an array with masked entries, which a model cannot leave out: fill them with "
            "array.filled(value)"
        )
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must hold real numbers, but is an array of {array.dtype}")
    plain = np.float64 if array.dtype.kind == "f" and array.itemsize > 8 else array.dtype
    native = np.array(array, dtype=np.dtype(plain).newbyteorder("="), order="C", copy=True)
    tensor = torch.from_numpy(native)
    if like is None:
        return tensor
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)


def _array(tensor: Tensor, like: Array | None = None) -> Array:
    """The values as an array, in the dtype of a floating-point one. NumPy has no bfloat16."""
    plain = tensor.detach().cpu()
    array: Array = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    if like is None or like.dtype.kind != "f":
        return array
    try:
        with np.errstate(over="raise"):
            return array.astype(like.dtype, copy=False)
    except FloatingPointError:
        raise InputError(
            f"the relevance is too large for {like.dtype}, the dtype of the input: pass "
            "array.astype('float32')"
        ) from None


def finalize(relevance: Tensor, create_graph: bool) -> Tensor:
    """The relevance to return: contiguous, and detached from autograd unless ``create_graph``."""
    return (relevance if create_graph else relevance.detach()).contiguous()
