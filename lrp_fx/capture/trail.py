"""Trails: which operations a run executes on the values of its inputs.

A tracer does not answer every question of Python code as a tensor does: whether it is a tensor,
lies on a GPU or has a ``grad_fn``. So a graph may follow another branch than the model takes, and
still compute the same on the first input, such as without a clamp that has nothing to clamp yet. A
graph on whose run the same operations are executed as on the model's takes the same branch.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from lrp_fx.capture.captured import Arguments, flattened
from lrp_fx.capture.origin import origin_of
from lrp_fx.capture.running import cloned, run_isolated, written_arguments
from lrp_fx.errors import CaptureError, lacks_memory
from lrp_fx.graph import (
    OpOverload,
    StorageReference,
    TorchDispatchMode,
    WholeLayers,
    property_getter,
    row_named,
    schema_of,
    tree_flatten,
)

Trail = Counter[tuple[str, tuple[float, ...]]]
"""How often each operation was executed, with the numbers among its arguments."""
_COPIES = frozenset({"_to_copy", "clone", "copy", "lift_fresh_copy", "contiguous"})


class OwnCode(TorchFunctionMode):
    """Makes torch's modules run their own code: in a thread with such a mode they take no fast path."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _OwnQuestions(OwnCode):
    """Refuses questions about tensor objects that a copy answers otherwise than the original."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _QUESTIONS:
            asking = sys._getframe(1).f_code
            if origin_of(asking.co_filename) == "own":
                raise CaptureError(
                    f"{asking.co_qualname}() ({asking.co_filename}:{asking.co_firstlineno}) reads "
                    f"'{_QUESTIONS[func]}' of a tensor. The model is read on copies of its tensors, for "
                    "which this differs, so its result cannot be explained. Let forward() depend on "
                    "values, shapes and dtypes only."
                )
        return super().__torch_function__(func, types, args, kwargs)


_QUESTIONS: dict[Any, str] = {
    property_getter("_version"): "_version",
    Tensor.data_ptr: "data_ptr",
}


@dataclass(frozen=True)
class _Call:
    """One executed operation: what it is, and the memory that it reads and writes."""

    key: tuple[str, tuple[float, ...]] | None
    """None if it only moves values."""
    reads: frozenset[int]
    writes: frozenset[int]
    makes: frozenset[int]
    """The memory of its results that was there for nothing else before."""


class _Recorder(TorchDispatchMode):
    """Records the calls of a run. It keeps no values alive."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._known: dict[Hashable, int] = {}

    def memory_of(self, values: Any) -> frozenset[int]:
        """Numbers of the storages of all tensors among the values."""
        return frozenset(
            self._known.setdefault(StorageReference(value.untyped_storage()), len(self._known))
            for value in tree_flatten(values)[0]
            if isinstance(value, Tensor)
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        reads, results = self.memory_of((args, kwargs)), self.memory_of(result)
        writes = self.memory_of(list(written_arguments(func, args, kwargs)))
        self.calls.append(_Call(_key(func, args, kwargs), reads, writes, results - reads))
        return result


def _key(func: Any, args: Any, kwargs: Any) -> tuple[str, tuple[float, ...]] | None:
    """The name of a call and its numbers without defaults; None for one that only moves values."""
    if not isinstance(func, OpOverload):
        return str(func), ()
    schema = schema_of(func)
    name = str(func.overloadpacket.__name__).rstrip("_")
    is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    if is_view or name in _COPIES or row_named(name).moves:
        return None
    given = {**dict(zip((a.name for a in schema.arguments), args, strict=False)), **kwargs}
    numbers = (
        float(given[a.name])
        for a in schema.arguments
        if type(given.get(a.name)) in (int, float) and given[a.name] != a.default_value
    )
    return name, tuple(numbers)


def _trail(calls: Sequence[_Call], inputs: frozenset[int], outputs: frozenset[int]) -> Trail:
    """The calls on values that depend on the inputs and on which the outputs depend."""
    dependent, depends = set(inputs), []
    for call in calls:
        depends.append(not dependent.isdisjoint(call.reads))
        if depends[-1]:
            dependent |= call.writes | call.makes
    live, found = set(outputs), Trail()
    for call, is_dependent in zip(reversed(calls), reversed(depends), strict=True):
        if live.isdisjoint(call.writes | call.makes):
            continue
        live |= call.reads
        if is_dependent and call.key is not None:
            found[call.key] += 1
    return found


def _recorded(
    run: Callable[[], tuple[Iterable[Any], Iterable[Any]]], mode: Callable[[], OwnCode] = OwnCode
) -> Trail:
    """The trail of a function that returns its inputs and its outputs."""
    recorder = _Recorder()
    with torch.no_grad(), mode(), WholeLayers(), recorder:
        inputs, outputs = run()
    return _trail(recorder.calls, recorder.memory_of(inputs), recorder.memory_of(outputs))


def leaves_same_trail(
    model: nn.Module, module: fx.GraphModule, arguments: Arguments, attributed: int
) -> bool:
    """Whether a graph executes the operations that the model executes on its explained inputs.

    Args:
        model: the user's model; a copy of it runs.
        module: the graph.
        arguments: the model's arguments.
        attributed: how many of the tensors, from the first, are explained.

    Raises:
        CaptureError: if the model's code asks a tensor for its address or version.
    """

    def of_model(copy: nn.Module, given: Arguments) -> Trail:
        return _recorded(
            lambda: (given.tensors[:attributed], flattened(given.call(copy, given.tensors))[0]),
            _OwnQuestions,
        )

    def of_graph() -> tuple[Iterable[Any], Iterable[Any]]:
        tensors = cloned(arguments)
        return tensors[:attributed], module.forward(*tensors)

    try:
        return run_isolated(model, arguments, of_model) == _recorded(of_graph)
    except CaptureError:
        raise
    except Exception as error:  # a model that compiles itself may not bear a recorder
        if lacks_memory(error):
            raise
        return False
