"""Matchers: which operations of a model an assignment of a composite is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from lrp_fx._checks import check_count


@dataclass(frozen=True)
class Place:
    """What a matcher sees of an operation.

    Args:
        paths: the module paths that the call lies in, outermost first, "" for the model itself.
        types: the classes of these modules.
        operation: ATen's name of the operation (``conv2d``).
        kind: its family (``convolution``, ``dense``, ``addition`` …).
        name: the node's name in the graph.
        from_input: for linear operations, how many others come before it on the way of the relevance.
        from_output: how many come after it.
        convolutions: how many values are read by convolutions that the relevance meets; two side by side
            read one.
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
    """A predicate over places that can say what it looks for; combine with ``&``, ``|`` and ``~``.

    Args:
        text: what it looks for.
        test: the predicate.
        glob: the path that it looks for, if any, for near misses.
        required: a match is demanded even where the composite is not strict.
    """

    text: str
    test: Callable[[Place], bool]
    glob: str | None = None
    required: bool = False

    def __call__(self, place: Place) -> bool:
        """Whether the place matches."""
        return self.test(place)

    def __and__(self, other: Matcher) -> Matcher:
        """Both."""
        text = f"{self.text} & {other.text}"
        return Matcher(text, lambda p: self(p) and other(p), self.glob or other.glob)

    def __or__(self, other: Matcher) -> Matcher:
        """Either."""
        text = f"({self.text} | {other.text})"
        return Matcher(text, lambda p: self(p) or other(p), self.glob or other.glob)

    def __invert__(self) -> Matcher:
        """Not."""
        return Matcher(f"~{self.text}", lambda p: not self(p), self.glob)


def path(glob: str) -> Matcher:
    """Everything inside the modules whose path matches the glob: ``features.*``, ``layer4``."""
    return Matcher(f"path({glob!r})", lambda p: any(fnmatchcase(x, glob) for x in p.paths), glob)


def module_type(*types: type[nn.Module]) -> Matcher:
    """Calls made directly by modules of these classes."""
    names = ", ".join(t.__name__ for t in types)
    return Matcher(
        f"module_type({names})", lambda p: bool(p.types) and issubclass(p.types[-1], types)
    )


def operation(*names: str) -> Matcher:
    """Operations by ATen's name (``conv2d``) or by family (``convolution``, ``addition`` …)."""
    text = f"operation({', '.join(map(repr, names))})"
    return Matcher(text, lambda p: p.operation in names or p.kind in names)


def first(count: int = 1) -> Matcher:
    """The first linear operations on the way from an input, by the flow of data."""
    check_count("count", count)
    return Matcher(
        f"first({count})" if count != 1 else "first()",
        lambda p: p.from_input is not None and p.from_input < count,
    )


def last(count: int = 1) -> Matcher:
    """The last linear operations before the output, by the flow of data."""
    check_count("count", count)
    return Matcher(
        f"last({count})" if count != 1 else "last()",
        lambda p: p.from_output is not None and p.from_output < count,
    )


def anything() -> Matcher:
    """Every operation to which the rule applies."""
    return Matcher("anything()", lambda p: True)


convolution = Matcher("convolution", operation("convolution").test)
patch_embedding = Matcher(
    "patch embedding", lambda p: p.kind == "convolution" and p.convolutions == 1
)
dense = Matcher("dense", operation("dense", "recurrent").test)
