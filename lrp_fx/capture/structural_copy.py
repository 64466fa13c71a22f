"""Structural copies of a model: new objects in eval mode around the same parameters.

Whenever the library has to run the model's Python code, it runs it on such a copy. So the user's
own objects are never traced, hooked, switched to eval mode, given attributes or written to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.copier import Copier, Hooks
from lrp_fx.capture.members import named_tensors
from lrp_fx.capture.written import Written
from lrp_fx.errors import InputError

Replace = Callable[[str | None, Tensor], Any]


def structural_copy(
    model: nn.Module, *, replace_tensor: Replace | None = None, left_out: Hooks = frozenset()
) -> nn.Module:
    """A copy of ``model`` in eval mode: new objects around the same tensors.

    All modules, containers, arrays and objects that the model refers to are copied, and so are
    functions with their closures. Globals that the model's code names are copied too, if all code
    that names them can be given the copy. So are attributes of classes that the code may write to.
    If two parts of the model refer to one object, their copies refer to one copy. What cannot be
    copied is shared: classes, library code, locks, files. A generator (with ``yield``) is replaced by an
    object that refuses to be asked. Copies of random generators have another state than the originals,
    as these will in the next call.

    Args:
        model: the module to copy; it is only read.
        replace_tensor: called with (path, tensor) for each parameter, buffer and tensor attribute;
            it returns the replacement. The path is None for tensors outside the registered modules.
        left_out: forward hooks that the copy does not get. It never gets backward hooks.

    Raises:
        InputError: if a parameter of a lazy module has no values yet, because even a run of the
            copy would fill it; if a tensor of the model is on the meta device; if a scripted module
            is in train mode, because it cannot be copied.
    """
    copy: nn.Module = _copier(model, replace_tensor, left_out).run(model)
    return copy


def copied_call(
    model: nn.Module,
    arguments: Arguments,
    values: tuple[Any, ...],
    *,
    replace_tensor: Replace | None = None,
    left_out: Hooks = frozenset(),
) -> tuple[nn.Module, Arguments]:
    """A structural copy of ``model``, and a copy of its arguments.

    An object that both the model and an argument refer to has one copy. A tensor that is an
    argument and also occurs inside another argument is replaced by one of the ``values`` in both
    places.

    Args:
        model: as for :func:`structural_copy`.
        arguments: the user's arguments; they are only read.
        values: the replacements of the argument tensors.
        replace_tensor: as for :func:`structural_copy`. It is also called for tensors inside objects
            among the arguments.
        left_out: as for :func:`structural_copy`.

    Raises:
        InputError: as for :func:`structural_copy`.
    """
    copier = _copier(model, replace_tensor, left_out)
    return copier.run(model), copier.run_arguments(arguments, values)


def copied_arguments(arguments: Arguments, values: tuple[Any, ...]) -> Arguments:
    """A copy of the arguments with ``values`` in place of their tensors.

    Tensors inside objects among the arguments are shared.
    """
    return Copier(lambda tensor: tensor, frozenset(), Written(None)).run_arguments(
        arguments, values
    )


def _copier(model: nn.Module, replace_tensor: Replace | None, left_out: Hooks) -> Copier:
    for path, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise InputError(
                f"the model's parameter '{path}' has no values yet (it is lazy): run the model once on "
                "an example"
            )
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise InputError(
                f"the model's tensor '{path}' has no values (it is on the meta device): load them with "
                "load_state_dict(..., assign=True)"
            )
    paths = {id(tensor): path for path, tensor in named_tensors(model).items()}
    tensors: dict[int, Any] = {}

    def place(tensor: Tensor) -> Any:
        if replace_tensor is None:
            return tensor
        if id(tensor) not in tensors:
            tensors[id(tensor)] = replace_tensor(paths.get(id(tensor)), tensor)
        return tensors[id(tensor)]

    return Copier(place, left_out, Written(model))


def held_tensors(model: nn.Module, arguments: Arguments, left_out: Hooks) -> list[Tensor]:
    """All tensors of the model, and those inside objects among the arguments; each once."""
    found: list[Tensor] = []
    copied_call(
        model,
        arguments,
        arguments.tensors,
        replace_tensor=lambda path, tensor: found.append(tensor),
        left_out=left_out,
    )
    return found


def holds_random_generators(model: nn.Module, arguments: Arguments) -> bool:
    """Whether the model, or an object among its arguments, holds a random generator of its own."""
    copier = _copier(model, None, frozenset())
    copier.run(model)
    copier.run_arguments(arguments, arguments.tensors)
    return bool(copier.generators)
