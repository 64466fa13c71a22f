"""Trails: which operations a run executes on the values of its inputs.

A tracer does not answer every question of Python code as a tensor does: whether it is a tensor,
lies on a GPU or has a ``grad_fn``. So a graph may follow another branch than the model takes, and
still compute the same on the first input, such as without a clamp that has nothing to clamp yet. A
graph on whose run the same operations are executed as on the model's takes the same branch.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lrp_fx.capture.captured import Arguments, flattened
from lrp_fx.capture.origin import origin_of
from lrp_fx.capture.running import run_isolated, run_model, written_arguments
from lrp_fx.errors import CaptureError, lacks_memory
from lrp_fx.graph import (
    OpOverload,
    StorageReference,
    TorchDispatchMode,
    TreeSpec,
    WholeLayers,
    property_getter,
    row_named,
    schema_of,
    tree_flatten,
)

R = TypeVar("R")
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
        refuse_question(func, sys._getframe(1))
        return super().__torch_function__(func, types, args, kwargs)


def refuse_question(func: Any, frame: FrameType) -> None:
    """Refuse a question about a tensor that its copies answer otherwise, if the user's code asks it.

    Args:
        func: the function of torch that is called.
        frame: where it is called.

    Raises:
        CaptureError: if it is such a question.
    """
    asking = frame.f_code
    if func in _QUESTIONS and origin_of(asking.co_filename) == "own":
        raise CaptureError(
            f"{asking.co_qualname}() ({asking.co_filename}:{asking.co_firstlineno}) reads "
            f"'{_QUESTIONS[func]}' of a tensor. The model is read on copies of its tensors, for "
            "which this differs, so its result cannot be explained. Let forward() depend on "
            "values, shapes and dtypes only."
        )


_QUESTIONS: dict[Any, str] = {property_getter("_version"): "_version", Tensor.data_ptr: "data_ptr"}


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
        self.is_partial = False
        """Whether a tensor has no memory to follow, such as a sparse one."""

    def memory_of(self, values: Any) -> frozenset[int]:
        """Numbers of the storages of all tensors among the values."""
        found = set()
        for value in tree_flatten(values)[0]:
            if isinstance(value, Tensor):
                try:
                    memory = StorageReference(value.untyped_storage())
                except (NotImplementedError, RuntimeError):
                    self.is_partial = True
                    continue
                found.add(self._known.setdefault(memory, len(self._known)))
        return frozenset(found)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        reads, results = self.memory_of((args, kwargs)), self.memory_of(result)
        writes = self.memory_of(list(written_arguments(func, args, kwargs)))
        makes = results - reads
        if isinstance(func, OpOverload) and row_named(_name(func)).says == "shapes":
            reads = frozenset()  # the values of its operands play no part
        self.calls.append(_Call(_key(func, args, kwargs), reads, writes, makes))
        return result


def _key(func: Any, args: Any, kwargs: Any) -> tuple[str, tuple[float, ...]] | None:
    """The name of a call and its numbers without defaults; None for one that only moves values."""
    if not isinstance(func, OpOverload):
        return str(func), ()
    schema = schema_of(func)
    name = _name(func)
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


def _name(func: OpOverload) -> str:
    """The name of an operation; that of its functional form if it works in place."""
    return str(func.overloadpacket.__name__).rstrip("_")


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


class Follower:
    """Follows one run and keeps its trail.

    Args:
        attributed: how many of the input tensors, from the first, are explained.
        context: a context for the run. That of a model without recurrent layers needs none, and
            torch's fast paths end in any.
    """

    def __init__(
        self, attributed: int, context: Callable[[], AbstractContextManager[Any]] = WholeLayers
    ) -> None:
        self.attributed, self.context = attributed, context
        self.trail: Trail | None = None
        """The trail of the run; None if there was none that could be followed."""

    def run(self, inputs: Sequence[Tensor], call: Callable[[], R]) -> R:
        """Call a function of the inputs and return what it returns."""
        self.trail, recorder = None, _Recorder()
        with self.context(), recorder:
            outputs = call()
        reads = recorder.memory_of(inputs[: self.attributed])
        trail = _trail(recorder.calls, reads, recorder.memory_of(outputs))
        self.trail = None if recorder.is_partial else trail
        return outputs


def run_followed(
    model: nn.Module, arguments: Arguments, follower: Follower
) -> tuple[list[object], TreeSpec]:
    """The flat outputs of the model in eval mode, run on a copy, and followed; and how they are nested.

    Raises:
        InputError: if the model itself fails on the arguments, except for a lack of memory.
    """
    first, modules = iter((True,)), list(model.modules())
    recurrent = any(isinstance(module, nn.RNNBase) for module in modules)
    quick = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
    follows = not recurrent or not any(isinstance(module, quick) for module in modules)
    follower.context = WholeLayers if recurrent else nullcontext
    specs: list[TreeSpec] = []

    def call(copy: nn.Module, given: Arguments) -> list[object]:
        def plain() -> list[object]:
            outputs, spec = flattened(given.call(copy, given.tensors))
            specs.append(spec)
            return outputs

        if next(first, False) and follows:
            return follower.run(given.tensors, plain)
        follower.trail = None  # a model that compiles itself may not bear a recorder
        return plain()

    return run_model(model, arguments, run=call), specs[-1]


def leaves_same_trail(
    model: nn.Module, arguments: Arguments, own: Follower, graph: Follower, *, is_traced: bool
) -> bool:
    """Whether a graph executes the operations that the model executes on its explained inputs.

    In the run that was followed, torch's modules may have taken a fast path. Then a copy of the model
    runs once more, by its own code.

    Args:
        model: the user's model.
        arguments: its arguments.
        own: has followed a run of the model.
        graph: has followed a run of the graph.
        is_traced: whether the graph was made by symbolic tracing, which refuses code that asks a
            tensor for its address or version. Other captures need a run that does.

    Raises:
        CaptureError: if the model's code asks a tensor for its address or version.
    """
    if graph.trail is None:
        return False
    if is_traced and own.trail == graph.trail:
        return True
    again = Follower(graph.attributed)

    def by_own_code(copy: nn.Module, given: Arguments) -> Trail | None:
        def call() -> list[object]:
            return flattened(given.call(copy, given.tensors))[0]

        with _OwnQuestions(), WholeLayers():
            again.run(given.tensors, call)
        return again.trail

    try:
        return run_isolated(model, arguments, by_own_code) == graph.trail
    except CaptureError:
        raise
    except Exception as error:  # a model that compiles itself may not bear a recorder
        if lacks_memory(error):
            raise
        return False
