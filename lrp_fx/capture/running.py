"""Runs of the user's model on copies, so that the model itself is never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lrp_fx.capture.captured import Arguments, flattened
from lrp_fx.capture.copier import Hooks
from lrp_fx.capture.restoring import restoring
from lrp_fx.capture.stand_ins import own_buffer, own_values
from lrp_fx.capture.structural_copy import copied_call
from lrp_fx.errors import NO_MEMORY, InputError, lacks_memory
from lrp_fx.graph import OpOverload, TorchDispatchMode, schema_of

SAME_KERNELS = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Tolerances relative to the largest entry of the output. A captured graph calls the same operations
in the same order as the model, so only the choice of kernels may differ."""
LOW_PRECISION = 5e-2
"""The tolerance for dtypes of lower precision."""


T = TypeVar("T")


class _Written(BaseException):
    """The model writes to its parameters. As a BaseException it passes the model's own handlers."""


class _Guard(TorchDispatchMode):
    """Stops a run before an operation writes to the values of a parameter, or to its gradient."""

    supports_higher_order_operators = True
    """Higher-order operators have no schema; the calls inside them are checked."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self.memory = set(map(_storage, parameters)) - {None}
        self.hit = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for written in written_arguments(func, args, kwargs):
            self._check(written)
        return func(*args, **kwargs)

    def _check(self, written: Any) -> None:
        many = written if isinstance(written, (list, tuple)) else (written,)
        if any(isinstance(t, Tensor) and _storage(t) in self.memory for t in many):
            self.hit = True
            raise _Written


def written_arguments(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """The arguments that a call of an ATen operation writes to."""
    if isinstance(func, OpOverload) and schema_of(func).is_mutable:
        for place, argument in enumerate(schema_of(func).arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                yield args[place] if place < len(args) else kwargs.get(argument.name)


def _storage(tensor: Tensor) -> int | None:
    """The address of a tensor's storage; None if it has none, like a sparse tensor."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):
        return None


def run_isolated(
    model: nn.Module,
    arguments: Arguments,
    run: Callable[[nn.Module, Arguments], T],
    left_out: Hooks = frozenset(),
) -> T:
    """Call ``run`` on copies of ``model`` and of its arguments, without gradients.

    What the code writes to objects that the copies share with the model is put back. The copy shares
    the values of the parameters, and their gradients, with the model. If the code is about to write
    to them, or fails while it is watched for that, the run is repeated on copies with values of their
    own.

    Returns:
        What ``run`` returns.
    """
    shared: list[Tensor] = []

    def share(path: str | None, tensor: Tensor) -> Tensor:
        own = own_buffer(path, tensor)
        if isinstance(tensor, nn.Parameter):
            shared.extend(each for each in (own, own.grad) if each is not None)
        return own

    def copies(stand_in: Callable[[str | None, Tensor], Tensor]) -> tuple[nn.Module, Arguments]:
        values = cloned(arguments)
        return copied_call(model, arguments, values, replace_tensor=stand_in, left_out=left_out)

    with restoring(model, arguments, left_out), torch.no_grad():
        model_copy, given = copies(share)
        guard = _Guard(shared)
        try:
            with guard:
                result = run(model_copy, given)
            if not guard.hit:
                return result
        except _Written:
            pass
        except Exception as error:  # a model with torch.compile may fail under the guard
            if lacks_memory(error):
                raise
        return run(*copies(own_values))


Run = Callable[[nn.Module, Arguments], list[object]]
"""Calls a copy of the model and returns its flat outputs."""


def _called(copy: nn.Module, given: Arguments) -> list[object]:
    return flattened(given.call(copy, given.tensors))[0]


def run_model(
    model: nn.Module, arguments: Arguments, left_out: Hooks = frozenset(), run: Run = _called
) -> list[object]:
    """The flat outputs of the model in eval mode, run on a copy.

    Raises:
        InputError: if the model itself fails on the arguments, except for a lack of memory.
    """
    try:
        return run_isolated(model, arguments, run, left_out)
    except (InputError, *NO_MEMORY):
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in arguments.tensors)
        raise InputError(
            f"the model itself fails on inputs of {shapes}: {type(error).__name__}: {error}"
            + _other_dtype(model, arguments, error)
        ) from error


def _other_dtype(model: nn.Module, arguments: Arguments, error: Exception) -> str:
    """Advice if the inputs may have a dtype with which the model cannot compute; "" if not."""
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if own is None or isinstance(error, IndexError):  # a word that is not in the table
        return ""
    others = {t.dtype for t in arguments.tensors if t.dtype not in (own, torch.bool)}
    if not others or any(t.dtype == own for t in arguments.tensors):
        return ""
    return f". The model's parameters are {own}: are the inputs meant to be so, too?"


def cloned(arguments: Arguments) -> tuple[Tensor, ...]:
    """Clones of the argument tensors, because the model may overwrite its inputs."""
    return tuple(map(_cloned, arguments.tensors))


def _cloned(tensor: Tensor) -> Tensor:
    """A clone with the same strides, on which the model's code may depend."""
    tensor = tensor.detach()
    clone = tensor.clone()
    if tensor.layout != torch.strided or not tensor.numel() or clone.stride() == tensor.stride():
        return clone
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    count = sum((size - 1) * stride for size, stride in pairs) + 1
    return tensor.as_strided((count,), (1,)).clone().as_strided(tensor.shape, tensor.stride())


def all_close(
    own: Sequence[object], mine: Sequence[object], tolerances: dict[torch.dtype, float]
) -> bool:
    """Whether two lists of flat outputs are equally long and :func:`close`, one by one."""
    return len(own) == len(mine) and all(
        close(a, b, tolerances) for a, b in zip(own, mine, strict=True)
    )


def close(own: object, mine: object, tolerances: dict[torch.dtype, float]) -> bool:
    """Whether two outputs are equal up to a tolerance relative to the largest entry of ``own``.

    Two outputs that are not tensors count as equal.
    """
    if not isinstance(own, Tensor) or not isinstance(mine, Tensor):
        return not isinstance(own, Tensor) and not isinstance(mine, Tensor)
    if own.shape != mine.shape or own.dtype != mine.dtype:
        return False
    if own.numel() == 0 or not own.is_floating_point():
        return torch.equal(own, mine)
    finite = torch.isfinite(own)
    if not torch.equal(finite, torch.isfinite(mine)):
        return False
    own, mine = own.masked_fill(~finite, 0), mine.masked_fill(~finite, 0)
    tolerance = tolerances.get(own.dtype, LOW_PRECISION)
    return bool((own - mine).abs().max() <= tolerance * own.abs().max())
