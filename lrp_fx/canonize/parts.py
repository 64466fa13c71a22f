"""The parts of complex values, and a writer of calls on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, fx

from lrp_fx.graph import aten, call_like

Pair = tuple[Any, Any]
"""The real and the imaginary part: nodes or numbers, None for a part that is zero everywhere."""


@dataclass(frozen=True)
class ComplexWriter:
    """Writes real calls in place of a node that reads or returns complex values.

    Args:
        graph: the graph.
        node: the node.
        known: what is known of values without data.
        parts: the parts of all complex values so far.
    """

    graph: fx.Graph
    node: fx.Node
    known: Callable[[Any], Tensor | None]
    parts: dict[fx.Node, Pair]

    def __call__(self, packet: Any, *args: Any) -> fx.Node:
        """Write a call."""
        return call_like(self.graph, self.node, packet, *args)

    def is_complex(self, value: Any) -> bool:
        """Whether a value is known to be complex."""
        known = self.known(value) if isinstance(value, fx.Node) else None
        return value in self.parts or (known is not None and known.is_complex())

    def like(self, value: Any) -> Tensor | None:
        """A tensor without data of the shape of a value; None if it is not known."""
        known = self.known(value)
        return known if known is not None else self.known(self.parts.get(value, (None,))[0])

    def reads_complex(self) -> bool:
        """Whether the node reads a complex value or number."""
        found: list[bool] = []
        fx.map_arg((self.node.args, self.node.kwargs), lambda n: found.append(n in self.parts))
        return any(found) or any(isinstance(arg, complex) for arg in self.node.args)

    def pair(self, value: Any) -> Pair:
        """The parts of a value; a real one has no imaginary part."""
        if isinstance(value, complex):
            return value.real or None, value.imag or None
        return self.parts.get(value, (value, None)) if isinstance(value, fx.Node) else (value, None)

    def whole(self, value: Any) -> Pair:
        """The parts of a value, both written."""
        return self.alike(*self.pair(value))

    def alike(self, real: Any, imaginary: Any) -> Pair:
        """Both parts as tensors of one shape; a missing one is zero."""
        if real is None:
            real = self(aten.zeros_like, imaginary)
        if imaginary is None:
            return real, self(aten.zeros_like, real)
        shapes = [getattr(self.known(each), "shape", None) for each in (real, imaginary)]
        if None not in shapes and shapes[0] != shapes[1]:
            if len(shapes[0] or ()) < len(shapes[1] or ()):
                return self(aten.expand_as, real, imaginary), imaginary
            return real, self(aten.expand_as, imaginary, real)
        return real, imaginary

    def plus(self, x: Any, y: Any) -> Any:
        """``x + y``, where None is zero."""
        if x is None or y is None:
            return y if x is None else x
        if not isinstance(x, fx.Node):
            x, y = y, x
        return self(aten.add, x, y) if isinstance(x, fx.Node) else x + y

    def minus(self, x: Any, y: Any) -> Any:
        """``x − y``, where None is zero."""
        if isinstance(x, fx.Node) and y is not None:
            return self(aten.sub, x, y)
        return self.plus(x, self.scaled(y, -1))

    def scaled(self, x: Any, factor: Any) -> Any:
        """``factor · x`` for a number or a size."""
        if x is None or factor == 1:
            return x
        if not isinstance(x, fx.Node):
            return x * factor
        return self(aten.neg, x) if factor == -1 else self(aten.mul, x, factor)

    def times_real(self, x: Any, y: Any) -> Any:
        """``x · y``, where None is zero; numbers may be among them."""
        if x is None or y is None:
            return None
        if not isinstance(x, fx.Node):
            x, y = y, x
        if not isinstance(x, fx.Node):
            return x * y
        return self.scaled(x, y) if isinstance(y, (int, float)) else self(aten.mul, x, y)

    def times(self, z: Pair, w: Pair, product: Any) -> Pair:
        """``z w``, by the products of their parts.

        Args:
            z: the first factor.
            w: the second factor.
            product: ``product(packet, x, y)`` writes the product of two parts; ``aten.mul`` for
                products entry by entry.
        """

        def each(x: Any, y: Any) -> Any:
            if product is aten.mul:
                return self.times_real(x, y)
            return None if x is None or y is None else product(aten.mul, x, y)

        (a, b), (c, d) = z, w
        real = self.minus(each(a, c), each(b, d))
        imaginary = self.plus(each(a, d), each(b, c))
        return self.alike(real, imaginary)

    def stacked(self, pair: Pair) -> fx.Node:
        """A real tensor of shape (…, 2)."""
        return self(aten.stack, list(pair), -1)

    def unstacked(self, value: fx.Node) -> Pair:
        """The parts of a real tensor of shape (…, 2)."""
        return self(aten.select, value, -1, 0), self(aten.select, value, -1, 1)

    def absolute(self, pair: Pair) -> fx.Node:
        """``|z|``, a norm of two entries."""
        return self(aten.linalg_vector_norm, self.stacked(self.alike(*pair)), 2, [-1])

    def polar(self, size: Any, angle: Any) -> Pair:
        """The value of this absolute value and angle."""
        return (
            self(aten.mul, size, self(aten.cos, angle)),
            self(aten.mul, size, self(aten.sin, angle)),
        )

    def on_parts(self, target: Any, args: Any, kwargs: Any) -> Pair:
        """A call on the real parts, and one on the imaginary parts, of all complex values it reads."""
        made = []
        for place in (0, 1):
            new = self(target)
            new.args, new.kwargs = fx.map_arg((args, kwargs), partial(self._part, place))
            made.append(new)
        return made[0], made[1]

    def imaginary_arguments(self, bound: dict[str, Any]) -> dict[str, Any]:
        """Arguments with imaginary parts in place of complex values, and zeros for real ones."""
        mapped: dict[str, Any] = fx.map_arg(bound, self._imaginary)
        return mapped

    def rejoin(self) -> None:
        """Let the node read complex values again."""

        def joined(n: fx.Node) -> fx.Node:
            return self(aten.complex, *self.parts[n]) if n in self.parts else n

        self.node.args, self.node.kwargs = fx.map_arg((self.node.args, self.node.kwargs), joined)

    def _part(self, place: int, n: fx.Node) -> Any:
        return self.parts[n][place] if n in self.parts else n

    def _imaginary(self, n: fx.Node) -> Any:
        if n in self.parts:
            return self.parts[n][1]
        known = self.known(n)
        return self(aten.zeros_like, n) if known is not None and known.is_floating_point() else n
