"""Matchers: they select the operations of a model that a line of a composite applies to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from lrp_fx._common import check_count
from lrp_fx.errors import CompositeError


@dataclass(frozen=True)
class Place:
    """An operation as matchers see it.

    Args:
        paths: the paths of the modules that contain the call, outermost first; "" is the model.
        types: the classes of these modules.
        operation: ATen's name of the operation (``conv2d``).
        kind: its family (``convolution``, ``dense``, ``addition`` …).
        name: the name of the node in the graph.
        from_input: for linear operations, the largest number of other linear operations between the
            inputs and it.
        from_output: likewise, between it and the output.
        convolutions: how many different values are read by the convolutions that relevance reaches.
            Two convolutions side by side read one value.
    """

    paths: tuple[str, ...]
    types: tuple[type[nn.Module], ...]
    operation: str
    kind: str
    name: str
    from_input: int | None = None
    from_output: int | None = None
    convolutions: int = 0


@dataclass(frozen=True)
class Matcher:
    """A predicate on places, with a text for messages.

    Matchers can be combined with ``&``, ``|`` and ``~``.

    Args:
        text: its selection in words, for messages and the plan.
        test: the predicate.
        glob: the module path that it looks for, if any; used to suggest near misses.
        required: raise an error if it matches nothing, even in a composite that is not strict.
    """

    text: str
    test: Callable[[Place], bool]
    glob: str | None = None
    required: bool = False

    def __call__(self, place: Place) -> bool:
        """Whether the place matches."""
        return self.test(place)

    def __and__(self, other: Matcher) -> Matcher:
        """Match what both match."""
        text = f"{self.text} & {other.text}"
        return Matcher(text, lambda p: self(p) and other(p), self.glob or other.glob)

    def __or__(self, other: Matcher) -> Matcher:
        """Match what either matches."""
        text = f"({self.text} | {other.text})"
        return Matcher(text, lambda p: self(p) or other(p), self.glob or other.glob)

    def __invert__(self) -> Matcher:
        """Match what this matcher does not match."""
        return Matcher(f"~{self.text}", lambda p: not self(p), self.glob)


def path(glob: str) -> Matcher:
    """Match everything inside modules whose path matches the glob: ``features.*``, ``layer4``.

    Raises:
        CompositeError: if the glob is not a string.
    """
    _check_strings("path", (glob,))
    return Matcher(f"path({glob!r})", lambda p: any(fnmatchcase(x, glob) for x in p.paths), glob)


def module_type(*types: type[nn.Module]) -> Matcher:
    """Match the calls that modules of these classes make directly.

    Raises:
        CompositeError: for anything but classes.
    """
    for each in types:
        if not isinstance(each, type):
            raise CompositeError(f"module_type() takes classes of modules, got {each!r}")
    names = ", ".join(t.__name__ for t in types)
    return Matcher(
        f"module_type({names})", lambda p: bool(p.types) and issubclass(p.types[-1], types)
    )


def operation(*names: str) -> Matcher:
    """Match operations by ATen's name (``conv2d``) or by family (``convolution``, ``addition`` …).

    Raises:
        CompositeError: if a name is not a string.
    """
    _check_strings("operation", names)
    text = f"operation({', '.join(map(repr, names))})"
    return Matcher(text, lambda p: p.operation in names or p.kind in names)


def first(count: int = 1) -> Matcher:
    """Match linear operations with fewer than ``count`` others between the inputs and them.

    Raises:
        OptionError: unless ``count`` is an int of at least 1.
    """
    check_count("count", count)
    return Matcher(
        f"first({count})" if count != 1 else "first()",
        lambda p: p.from_input is not None and p.from_input < count,
    )


def last(count: int = 1) -> Matcher:
    """Match linear operations with fewer than ``count`` others between them and the output.

    Raises:
        OptionError: unless ``count`` is an int of at least 1.
    """
    check_count("count", count)
    return Matcher(
        f"last({count})" if count != 1 else "last()",
        lambda p: p.from_output is not None and p.from_output < count,
    )


def _check_strings(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        if not isinstance(value, str):
            raise CompositeError(f"{name}() takes strings, got {value!r}")


def anything() -> Matcher:
    """Match every operation that accepts the rule."""
    return Matcher("anything()", lambda p: True)


convolution = Matcher("convolution", operation("convolution").test)
patch_embedding = Matcher(
    "patch embedding", lambda p: p.kind == "convolution" and p.convolutions == 1
)
dense = Matcher("dense", operation("dense", "recurrent").test)
