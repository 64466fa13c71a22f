"""Cells of LSTM, GRU and RNN: their next state, and the relevance through one step (Arras et al. 2017).

The formulas stand in :mod:`lrp_fx.relevance.recurrent`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrp_fx.relevance.addition import AdditionRelevance
from lrp_fx.relevance.causes import Taken, together
from lrp_fx.relevance.linear.formula import Formula


@dataclass(frozen=True)
class Step:
    """The input of a layer at one time step, (N, D), and its bounds if the rule is zᴮ."""

    value: Tensor
    low: Tensor | None = None
    high: Tensor | None = None


State = tuple[Tensor, ...]
"""The hidden state of a cell, (h,) or (h, c), each (N, H)."""


@dataclass(frozen=True)
class Weights:
    """The parameters of one layer in one direction; biases and the projection of h may be None."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    w_hr: Tensor | None = None

    def projected(self, m: Tensor) -> Tensor:
        """``W_hr m``, (N, P); ``m`` itself without a projection."""
        return m if self.w_hr is None else torch.nn.functional.linear(m, self.w_hr)

    def input_part(self, x: Tensor) -> Tensor:
        """``W_ih x + b_ih``, (N, gates · H)."""
        return torch.nn.functional.linear(x, self.w_ih, self.b_ih)

    def hidden_part(self, h: Tensor) -> Tensor:
        """``W_hh h + b_hh``, (N, gates · H)."""
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

    def of_sum(self, relevance: Tensor, x: Step, h: Tensor, w: Weights) -> tuple[Tensor, Tensor]:
        """The relevance of x and h, given that of a function of ``W_ih x + b_ih + W_hh h + b_hh``."""
        r_x, r_h = self.split(relevance, w.input_part(x.value), w.hidden_part(h))
        return self.of_input(r_x, x, w), self.of_hidden(r_h, h, w)

    def of_input(self, relevance: Tensor, x: Step, w: Weights) -> Tensor:
        """The relevance of x, given that of ``W_ih x + b_ih``."""
        output = w.input_part(x.value)
        return self._through(self.input, relevance, x, output, w.w_ih, w.b_ih)

    def of_hidden(self, relevance: Tensor, h: Tensor, w: Weights) -> Tensor:
        """The relevance of h, given that of ``W_hh h + b_hh``."""
        return self._through(self.hidden, relevance, Step(h), w.hidden_part(h), w.w_hh, w.b_hh)

    def of_projection(self, relevance: Tensor, m: Tensor, w: Weights) -> Tensor:
        """The relevance of ``m``, given that of ``W_hr m``."""
        if w.w_hr is None:
            return relevance
        return self._through(self.hidden, relevance, Step(m), w.projected(m), w.w_hr, None)

    def _through(
        self,
        formula: Formula,
        relevance: Tensor,
        x: Step,
        output: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        weights = formula.weights(weight)
        operands = formula.operands(x.value, output, weights, bias, x.low, x.high)
        if self.taken is not None:
            self.note(formula.taken(relevance, operands))
        return formula.relevance(relevance, operands)


def lstm_step(x: Tensor, state: State, w: Weights) -> State:
    """``c′ = f c + i g`` and ``h′ = o tanh(c′)``: the next state (h, c) of an LSTM."""
    i, f, g, o = (w.input_part(x) + w.hidden_part(state[0])).chunk(4, 1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return w.projected(o.sigmoid() * c.tanh()), c


def lstm_back(
    relevance: State,
    x: Step,
    state: State,
    w: Weights,
    back: CellFormulas,
    constant: Sequence[bool],
) -> tuple[Tensor, State]:
    """``h′, c′ → (f c, i g) → x, h, c``: the relevance of x and of the old state of an LSTM."""
    h, c = state
    i, f, g, o = (w.input_part(x.value) + w.hidden_part(h)).chunk(4, 1)
    kept, new = f.sigmoid() * c, i.sigmoid() * g.tanh()
    r_m = back.of_projection(relevance[0], o.sigmoid() * (kept + new).tanh(), w)
    r_kept, r_new = back.split(r_m + relevance[1], kept, new)
    r_x, r_h = back.of_sum(r_new, x, h, w.of_gate(2, 4))
    if constant[1]:
        kept_x, kept_h = back.of_sum(r_kept, x, h, w.of_gate(1, 4))
        r_x, r_h, r_kept = r_x + kept_x, r_h + kept_h, torch.zeros_like(r_kept)
    return r_x, (r_h, r_kept)


def gru_step(x: Tensor, state: State, w: Weights) -> State:
    """``h′ = (1 − z) n + z h`` with ``n = tanh(p + r u)``: the next state (h,) of a GRU."""
    (h,) = state
    (r, z, p), (r_h, z_h, u) = w.input_part(x).chunk(3, 1), w.hidden_part(h).chunk(3, 1)
    n = (p + (r + r_h).sigmoid() * u).tanh()
    z = (z + z_h).sigmoid()
    return ((1 - z) * n + z * h,)


def gru_back(
    relevance: State,
    x: Step,
    state: State,
    w: Weights,
    back: CellFormulas,
    constant: Sequence[bool],
) -> tuple[Tensor, State]:
    """``h′ → ((1 − z) n, z h) → x, h``: the relevance of x and of the old state of a GRU."""
    (h,) = state
    (r, z, p), (r_h, z_h, u) = (
        part.chunk(3, 1) for part in (w.input_part(x.value), w.hidden_part(h))
    )
    reset, z = (r + r_h).sigmoid(), (z + z_h).sigmoid()
    r_new, r_kept = back.split(relevance[0], (1 - z) * (p + reset * u).tanh(), z * h)
    r_input, r_hidden = back.split(r_new, p, reset * u)
    signal = w.of_gate(2, 3)
    r_x = back.of_input(r_input, x, signal)
    if constant[0]:
        reset_x, reset_h = back.of_sum(r_hidden, x, h, w.of_gate(0, 3))
        kept_x, kept_h = back.of_sum(r_kept, x, h, w.of_gate(1, 3))
        return r_x + reset_x + kept_x, (reset_h + kept_h,)
    return r_x, (back.of_hidden(r_hidden, h, signal) + r_kept,)


def rnn_step(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, State, Weights], State]:
    """The step of a plain RNN cell with this activation."""
    return lambda x, state, w: (activation(w.input_part(x) + w.hidden_part(state[0])),)


def rnn_back(
    relevance: State,
    x: Step,
    state: State,
    w: Weights,
    back: CellFormulas,
    constant: Sequence[bool],
) -> tuple[Tensor, State]:
    """``h′ → (W x, U h) → x, h``: the relevance of x and of the old state of a plain RNN."""
    r_x, r_h = back.of_sum(relevance[0], x, state[0], w)
    return r_x, (r_h,)


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent cell.

    Args:
        step: the next state.
        back: the relevance of x and of the old state, given that of the new one; the last argument
            says for each old state whether it is a constant.
        states: the number of state tensors.
    """

    step: Callable[[Tensor, State, Weights], State]
    back: Callable[
        [State, Step, State, Weights, CellFormulas, Sequence[bool]], tuple[Tensor, State]
    ]
    states: int


CELLS = {
    "lstm": Cell(lstm_step, lstm_back, 2),
    "gru": Cell(gru_step, gru_back, 1),
    "rnn_tanh": Cell(rnn_step(torch.tanh), rnn_back, 1),
    "rnn_relu": Cell(rnn_step(torch.relu), rnn_back, 1),
}
