"""Cells of LSTM, GRU and RNN: their sums, and the relevance through all steps (Arras et al. 2017).

The formulas stand in :mod:`lrp_fx.relevance.recurrent`. Each kind of cell is two sums, ``kept + new`` of
its state and ``from_x + from_h`` inside ``new``, and says which numbers they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrp_fx.relevance.addition import AdditionRelevance
from lrp_fx.relevance.causes import Taken, together
from lrp_fx.relevance.linear.formula import Formula, Term


@dataclass(frozen=True)
class Bounded:
    """An operand of a linear map, (T, N, D), and its bounds if the rule is zᴮ."""

    value: Tensor
    low: Tensor | None = None
    high: Tensor | None = None

    def backwards(self) -> Bounded:
        """The steps in reverse order."""
        return self._with(lambda each: each.flip(0))

    def first(self) -> Bounded:
        """The first step alone, (1, N, D)."""
        return self._with(lambda each: each[:1])

    def _with(self, change: Callable[[Tensor], Tensor]) -> Bounded:
        low, high = (each if each is None else change(each) for each in (self.low, self.high))
        return Bounded(change(self.value), low, high)


@dataclass(frozen=True)
class Weights:
    """The parameters of one layer in one direction; biases and the projection of h may be None."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    w_hr: Tensor | None = None

    def flat(self) -> list[Tensor]:
        """The parameters in PyTorch's order."""
        every = (self.w_ih, self.w_hh, self.b_ih, self.b_hh, self.w_hr)
        return [each for each in every if each is not None]

    def projected(self, m: Tensor) -> Tensor:
        """``W_hr m``, (…, P); ``m`` itself without a projection."""
        return m if self.w_hr is None else torch.nn.functional.linear(m, self.w_hr)

    def input_part(self, x: Tensor) -> Tensor:
        """``W_ih x + b_ih``, (…, gates · H)."""
        return torch.nn.functional.linear(x, self.w_ih, self.b_ih)

    def hidden_part(self, h: Tensor) -> Tensor:
        """``W_hh h + b_hh``, (…, gates · H)."""
        return torch.nn.functional.linear(h, self.w_hh, self.b_hh)

    def of_gate(self, gate: int, gates: int) -> Weights:
        """The rows of the parameters that belong to one gate, if there are ``gates`` of them."""
        biases = [None if b is None else b.chunk(gates)[gate] for b in (self.b_ih, self.b_hh)]
        return Weights(self.w_ih.chunk(gates)[gate], self.w_hh.chunk(gates)[gate], *biases)


@dataclass(frozen=True)
class CellFormulas:
    """The formulas for the parts of a cell.

    Args:
        input: the formula for ``W_ih x + b_ih``.
        hidden: the formula for ``W_hh h + b_hh``.
        addition: the relevance node for all sums.
        taken: the relevance that was kept so far, by cause; None to keep no account of it.
    """

    input: Formula
    hidden: Formula
    addition: AdditionRelevance
    taken: Taken | None = None

    def split(self, relevance: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        """The relevance of both summands of ``a + b``."""
        operands = (relevance, a + b, (a, 1, True), (b, 1, True))
        if self.taken is not None:
            self.note(self.addition.taken(*operands))
        return self.addition.propagate(*operands)

    def note(self, taken: Taken) -> None:
        """Add to the relevance that was kept so far."""
        if self.taken is not None:
            self.taken.update(together(self.taken, taken))

    def of_sum(self, relevance: Tensor, x: Bounded, h: Tensor, w: Weights) -> tuple[Tensor, Tensor]:
        """The relevance of x and h, given that of a function of ``W_ih x + b_ih + W_hh h + b_hh``."""
        r_x, r_h = self.split(relevance, w.input_part(x.value), w.hidden_part(h))
        return self.of_input(r_x, x, w), self.of_hidden(r_h, h, w)

    def of_input(self, relevance: Tensor, x: Bounded, w: Weights) -> Tensor:
        """The relevance of x, given that of ``W_ih x + b_ih``."""
        output = w.input_part(x.value)
        return self._through(self.input, relevance, x, output, w.w_ih, w.b_ih)

    def of_hidden(self, relevance: Tensor, h: Tensor, w: Weights) -> Tensor:
        """The relevance of h, given that of ``W_hh h + b_hh``."""
        return self._through(self.hidden, relevance, Bounded(h), w.hidden_part(h), w.w_hh, w.b_hh)

    def of_projection(self, relevance: Tensor, m: Tensor, w: Weights) -> Tensor:
        """The relevance of ``m``, given that of ``W_hr m``."""
        if w.w_hr is None:
            return relevance
        return self._through(self.hidden, relevance, Bounded(m), w.projected(m), w.w_hr, None)

    def hidden_terms(self, factor: Tensor, h: Tensor, w: Weights) -> tuple[Term, ...]:
        """:meth:`of_hidden` of ``factor ⊙ R`` as a linear map of R, for all steps at once."""
        output = w.hidden_part(h)
        operands = self.hidden.operands(h, output, self.hidden.weights(w.w_hh), w.b_hh)
        return self.hidden.terms(factor, operands)

    def projection_terms(self, m: Tensor, w: Weights) -> tuple[Term, ...]:
        """:meth:`of_projection` as a linear map of R, for all steps at once; none without it."""
        if w.w_hr is None:
            return ()
        output = w.projected(m)
        operands = self.hidden.operands(m, output, self.hidden.weights(w.w_hr), None)
        return self.hidden.terms(torch.ones_like(output), operands)

    def _through(
        self,
        formula: Formula,
        relevance: Tensor,
        x: Bounded,
        output: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        weights = formula.weights(weight)
        operands = formula.operands(x.value, output, weights, bias, x.low, x.high)
        if self.taken is not None:
            self.note(formula.taken(relevance, operands))
        return formula.relevance(relevance, operands)


@dataclass(frozen=True)
class Sums:
    """The summands of a cell in all steps, each (T, N, H).

    Args:
        from_x: what the signal gets from x.
        from_h: what it gets from the old state h.
        new: the part of the new state that is a function of ``from_x + from_h``; None if that is all.
        kept: the part that is kept of the old state; None if there is none.
        m: the new hidden state before its projection; None for cells without projections.
    """

    from_x: Tensor
    from_h: Tensor
    new: Tensor | None = None
    kept: Tensor | None = None
    m: Tensor | None = None

    def shares(self, relevance: Tensor, back: CellFormulas) -> tuple[Tensor, Tensor, Tensor | None]:
        """The relevance of ``from_x``, ``from_h`` and ``kept``, given that of the new state."""
        r_kept = None
        if self.kept is not None and self.new is not None:
            r_kept, relevance = back.split(relevance, self.kept, self.new)
        r_x, r_h = back.split(relevance, self.from_x, self.from_h)
        return r_x, r_h, r_kept


def _lstm_step(x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    assert c is not None
    i, f, g, o = (x + h).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _lstm_sums(x: Tensor, h_part: Tensor, before: Sequence[Tensor]) -> Sums:
    """``c′ = f c + i g``, ``g = tanh(from_x + from_h)`` and ``m = o tanh(c′)``."""
    i, f, _, o = (x + h_part).chunk(4, -1)
    from_x, from_h = x.chunk(4, -1)[2], h_part.chunk(4, -1)[2]
    forget, new = f.sigmoid(), i.sigmoid() * (from_x + from_h).tanh()
    c = _linear_recurrence(forget, new, before[-1])
    kept = forget * torch.cat([before[-1][None], c[:-1]])
    return Sums(from_x, from_h, new, kept, o.sigmoid() * c.tanh())


def _linear_recurrence(factors: Tensor, added: Tensor, start: Tensor) -> Tensor:
    """``c_t = factors_t ⊙ c_{t-1} + added_t`` for all steps, (T, N, H)."""
    found, c = [], start
    for factor, each in zip(factors.unbind(), added.unbind(), strict=True):
        c = torch.addcmul(each, factor, c)
        found.append(c)
    return torch.stack(found)


def _gru_step(x: Tensor, h_part: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor | None]:
    assert h is not None
    (r, z, p), (r_h, z_h, u) = x.chunk(3, -1), h_part.chunk(3, -1)
    n = (p + (r + r_h).sigmoid() * u).tanh()
    z = (z + z_h).sigmoid()
    h = (1 - z) * n + z * h
    return h, h


def _gru_sums(x: Tensor, h_part: Tensor, before: Sequence[Tensor]) -> Sums:
    """``h′ = (1 − z) n + z h`` with ``n = tanh(p + r u)``."""
    (r, z, p), (r_h, z_h, u) = x.chunk(3, -1), h_part.chunk(3, -1)
    from_h, z = (r + r_h).sigmoid() * u, (z + z_h).sigmoid()
    return Sums(p, from_h, (1 - z) * (p + from_h).tanh(), z * before[0])


def _rnn_step(activation: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Tensor, None]]:
    """The step of a plain RNN cell with this activation."""
    return lambda x, h_part, _: (activation(x + h_part), None)


def _rnn_sums(x: Tensor, h_part: Tensor, before: Sequence[Tensor]) -> Sums:
    """``h′ = tanh(from_x + from_h)``: relevance passes the activation unchanged."""
    return Sums(x, h_part)


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent cell.

    Args:
        step: the new hidden state before its projection and the new memory, given the parts
            ``W_ih x + b_ih`` and ``W_hh h + b_hh`` and the old memory. The memory is c of an LSTM
            and h of a GRU; an RNN has none.
        sums: the summands in all steps, given both parts and the hidden states before each step.
            For an LSTM, c before the first step comes last.
        states: the number of state tensors.
        gates: the number of linear maps in one.
        signal: which of them carries relevance.
        kept_by: which of them is the gate of ``kept``; None if nothing is kept.
        reset_by: which of them is a gate in ``from_h``; None if there is none.
    """

    step: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
    sums: Callable[[Tensor, Tensor, Sequence[Tensor]], Sums]
    states: int = 1
    gates: int = 1
    signal: int = 0
    kept_by: int | None = None
    reset_by: int | None = None

    def of_gate(self, gate: int, w: Weights) -> Weights:
        """The parameters of one of the cell's gates."""
        return w.of_gate(gate, self.gates)


CELLS = {
    "lstm": Cell(_lstm_step, _lstm_sums, states=2, gates=4, signal=2, kept_by=1),
    "gru": Cell(_gru_step, _gru_sums, gates=3, signal=2, kept_by=1, reset_by=0),
    "rnn_tanh": Cell(_rnn_step(torch.tanh), _rnn_sums),
    "rnn_relu": Cell(_rnn_step(torch.relu), _rnn_sums),
}
