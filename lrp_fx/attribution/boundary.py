"""The boundary of the library: turns every failure inside into a documented error."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from lrp_fx._common import check_flag
from lrp_fx.errors import (
    InputError,
    LRPError,
    UnexpectedError,
    in_words,
    lacks_memory,
    name_of_function,
    shortened,
)
from lrp_fx.relevance import HookRelevance, RelevanceNode, SelectorTarget, StartRelevance

P = ParamSpec("P")
T = TypeVar("T")
_SHOWN = ("target", "targets", "neuron_selector", "conditions", "layers")
NEAR = 0.5
"""The minimal similarity of an unknown name to a suggestion."""


def documented(method: Callable[P, T]) -> Callable[P, T]:
    """A method whose errors are all :class:`~lrp_fx.errors.LRPError`.

    Any other error becomes an ``UnexpectedError`` that says what was asked for, or an
    ``InputError`` if a function of the user raised it, or if the model itself fails on the inputs.
    Calls that do not fit the method's signature, a lack of memory and interrupts keep their own
    errors. Arguments annotated as ``bool`` must be True or False: otherwise a value in the wrong
    place would silently count as one of them.
    """
    parameters = inspect.signature(method).parameters
    names = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD][1:]
    takes_more = len(names) + 1 < len(parameters)
    flags = [(place, name) for place, name in enumerate(names, 1) if _is_flag(parameters[name])]

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        unknown = None if takes_more else next((key for key in kwargs if key not in names), None)
        if unknown is not None:
            raise TypeError(
                f"{method.__qualname__}() got an unexpected keyword argument '{unknown}': "
                f"{meant(unknown, names)}"
            )
        for place, name in flags:
            if name in kwargs or place < len(args):
                check_flag(name, kwargs[name] if name in kwargs else args[place])
        try:
            return method(*args, **kwargs)
        except LRPError:
            raise
        except Exception as error:
            if lacks_memory(error):
                raise
            try:
                bound = inspect.signature(method).bind(*args, **kwargs)
            except TypeError:
                raise error from None
            raise _explained(method.__qualname__, bound.arguments, error) from error

    return call


def _is_flag(parameter: inspect.Parameter) -> bool:
    return parameter.annotation in (bool, "bool")


def meant(name: str, known: Sequence[str]) -> str:
    """Advice for an unknown name: the nearest known name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"


def _explained(name: str, arguments: dict[str, Any], error: Exception) -> LRPError:
    owner = next(iter(arguments.values()))
    what = in_words(error)
    frames = list(_frames(error))
    function = next(filter(None, map(_function_of_the_user, frames)), None)
    if function is not None:
        return InputError(f"{function} failed with {what}")
    if hasattr(owner, "_refused") and "inputs" in arguments:
        refused: InputError | None = owner._refused(**_input_of(arguments))  # noqa: SLF001 its owner
        if refused is not None:
            return refused
    nodes = [each for each in frames if isinstance(each, RelevanceNode)]
    place = f" in {type(nodes[0]).__name__}({nodes[0].extra_repr()})" if nodes else ""
    asked = [f"inputs {_shapes(arguments['inputs'])}"] if "inputs" in arguments else []
    options = getattr(getattr(owner, "_explainer", None), "options", None)
    if options is not None:
        composite = getattr(options.composite, "name", options.composite)
        asked.append(f"composite {composite or 'of the default'}")
    asked += [f"{key} {shortened(repr(arguments[key]))}" for key in _SHOWN if key in arguments]
    return UnexpectedError(
        f"{name} failed with {what}{place}{'; ' * bool(asked)}{', '.join(asked)}. This may be a bug in "
        "lrp_fx: please report it with the model."
    )


def _input_of(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": arguments["inputs"], "additional": arguments.get("additional_forward_args")}


def _frames(error: Exception) -> Iterator[Any]:
    """The ``self`` of each call that led to the error, the innermost last."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_locals.get("self")
        trace = trace.tb_next


def _function_of_the_user(running: Any) -> str | None:
    if isinstance(running, HookRelevance):
        return f"the relevance hook {running.extra_repr()} at '{running.step.node.name}'"
    if isinstance(running, StartRelevance) and callable(running.start):
        return f"the callable start {name_of_function(running.start)}"
    return (
        f"the selector {name_of_function(running.function)}"
        if isinstance(running, SelectorTarget)
        else None
    )


def _shapes(inputs: Any) -> str:
    many = inputs if isinstance(inputs, tuple) else (inputs,)
    return ", ".join(
        f"{tuple(each.shape)} {each.dtype}" if isinstance(each, Tensor) else type(each).__name__
        for each in many
    )
