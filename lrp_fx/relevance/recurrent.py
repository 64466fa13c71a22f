"""Relevance through LSTM, GRU and RNN: gates get nothing, the signal takes all (Arras et al. 2017).

The layers are run once more, step by step, and relevance goes back through the unrolled cells, down
to the initial states where those come from the inputs, as a decoder's do. With the ε rule on every sum:

    LSTM: c' = f c + i g, h' = o tanh(c')           R → c' → (f c, i g); i g → g → (x, h)
    GRU:  h' = (1 − z) n + z h, n = tanh(p + r u)   R → ((1 − z) n, z h); n → (x by p, h by u)
    RNN:  h' = tanh(W x + U h + b)                  R → (x, h)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.aten import name_of
from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import Operation, Received, Site, always, by_operand
from lrp_fx.relevance.taken import Taken, by_stabilizer, together
from lrp_fx.rules import Epsilon
from lrp_fx.stabilizer import Stabilizer

State = tuple[Tensor, ...]
"""The hidden state of a cell, (h,) or (h, c), each (N, H)."""


@dataclass(frozen=True)
class Weights:
    """The parameters of one layer in one direction; the biases may be missing."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None

    def input_part(self, x: Tensor) -> Tensor:
        """``W_ih x + b_ih``, (N, gates · H)."""
        return torch.nn.functional.linear(x, self.w_ih, self.b_ih)

    def hidden_part(self, h: Tensor) -> Tensor:
        """``W_hh h + b_hh``, (N, gates · H)."""
        return torch.nn.functional.linear(h, self.w_hh, self.b_hh)

    def of_gate(self, gate: int, gates: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """``W_ih, W_hh, b_ih, b_hh`` of one of so many gates."""
        biases = [None if b is None else b.chunk(gates)[gate] for b in (self.b_ih, self.b_hh)]
        weights = self.w_ih.chunk(gates)[gate], self.w_hh.chunk(gates)[gate]
        return *weights, biases[0], biases[1]


@dataclass(frozen=True)
class Back:
    """What every cell needs on the way back; with ``taken`` it also notes what is not passed on."""

    stabilizer: Stabilizer
    engine: Engine
    taken: Taken | None = None

    def quotient(self, relevance: Tensor, z: Tensor, *biases: Tensor | None) -> Tensor:
        """``R / S(z)``, (N, H); the biases, of H each, are summands of ``z``."""
        quotient = self.stabilizer.quotient(relevance, z)
        if self.taken is not None:
            shares = [(quotient * bias).sum() for bias in biases if bias is not None]
            bias = torch.stack(shares).sum() if shares else quotient.new_zeros(())
            self.note({**by_stabilizer(self.stabilizer, relevance, z), "bias": bias})
        return quotient

    def note(self, taken: Taken) -> None:
        """Add to what was taken so far."""
        if self.taken is not None:
            self.taken.update(together(self.taken, taken))

    def pull(self, x: Tensor, weight: Tensor, q: Tensor) -> Tensor:
        """``x ⊙ Wᵀ q``, (N, features)."""
        _, pullback = linearize(self.engine, lambda v: v @ weight.T, lambda c: c @ weight, x)
        return x * pullback(q)


def lstm_step(x: Tensor, state: State, w: Weights) -> State:
    """The next (h, c)."""
    i, f, g, o = (w.input_part(x) + w.hidden_part(state[0])).chunk(4, 1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def lstm_back(
    relevance: State, x: Tensor, state: State, w: Weights, back: Back
) -> tuple[Tensor, State]:
    """Relevance of x and of the state before, from that of the state after."""
    h, c = state
    i, f, g, _ = (w.input_part(x) + w.hidden_part(h)).chunk(4, 1)
    kept, new = f.sigmoid() * c, i.sigmoid() * g.tanh()
    q = back.quotient(relevance[0] + relevance[1], kept + new)
    w_ih, w_hh, *biases = w.of_gate(2, 4)
    signal = back.quotient(new * q, g, *biases)
    return back.pull(x, w_ih, signal), (back.pull(h, w_hh, signal), kept * q)


def gru_step(x: Tensor, state: State, w: Weights) -> State:
    """The next (h,)."""
    (h,) = state
    (r, z, p), (r_h, z_h, u) = w.input_part(x).chunk(3, 1), w.hidden_part(h).chunk(3, 1)
    n = (p + (r + r_h).sigmoid() * u).tanh()
    z = (z + z_h).sigmoid()
    return ((1 - z) * n + z * h,)


def gru_back(
    relevance: State, x: Tensor, state: State, w: Weights, back: Back
) -> tuple[Tensor, State]:
    """Relevance of x and of the state before, from that of the state after."""
    (h,) = state
    (r, z, p), (r_h, z_h, u) = w.input_part(x).chunk(3, 1), w.hidden_part(h).chunk(3, 1)
    reset, z = (r + r_h).sigmoid(), (z + z_h).sigmoid()
    before = p + reset * u
    new, kept = (1 - z) * before.tanh(), z * h
    q = back.quotient(relevance[0], new + kept)
    w_ih, w_hh, b_ih, b_hh = w.of_gate(2, 3)
    signal = back.quotient(new * q, before, b_ih, None if b_hh is None else reset * b_hh)
    return back.pull(x, w_ih, signal), (back.pull(h, w_hh, signal * reset) + kept * q,)


def rnn_step(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, State, Weights], State]:
    """A plain cell with its activation."""
    return lambda x, state, w: (activation(w.input_part(x) + w.hidden_part(state[0])),)


def rnn_back(
    relevance: State, x: Tensor, state: State, w: Weights, back: Back
) -> tuple[Tensor, State]:
    """Relevance of x and of the state before, from that of the state after."""
    (h,) = state
    q = back.quotient(relevance[0], w.input_part(x) + w.hidden_part(h), w.b_ih, w.b_hh)
    return back.pull(x, w.w_ih, q), (back.pull(h, w.w_hh, q),)


@dataclass(frozen=True)
class Cell:
    """A kind of cell: one step forward, one step back, and how many state tensors it has."""

    step: Callable[[Tensor, State, Weights], State]
    back: Callable[[State, Tensor, State, Weights, Back], tuple[Tensor, State]]
    states: int


CELLS = {
    "lstm": Cell(lstm_step, lstm_back, 2),
    "gru": Cell(gru_step, gru_back, 1),
    "rnn_tanh": Cell(rnn_step(torch.tanh), rnn_back, 1),
    "rnn_relu": Cell(rnn_step(torch.relu), rnn_back, 1),
}


class RecurrentRelevance(RelevanceNode):
    """Back through all layers, directions and steps of a recurrent operation.

    Args:
        name: ATen's name of the kind of cell.
        rule: the ε rule.
        engine: who computes the adjoints.
        bidirectional: whether each layer runs both ways.
        batch_first: whether sequences are (N, T, D).
        wanted: whether the input, and each of the initial states, gets relevance.
    """

    def __init__(
        self,
        name: str,
        rule: Epsilon,
        engine: Engine,
        *,
        bidirectional: bool,
        batch_first: bool,
        wanted: Sequence[bool],
    ) -> None:
        super().__init__()
        self.name, self.rule, self.wanted = name, rule, tuple(wanted)
        self.cell = CELLS[name]
        self.directions = 2 if bidirectional else 1
        self.batch_first = batch_first
        self.engine: Engine = engine

    def extra_repr(self) -> str:
        """The kind of cell and the rule."""
        return f"{self.name}, {self.rule}"

    def propagate(
        self,
        relevances: list[Tensor | None],
        input: Tensor,
        hidden: list[Tensor],
        parameters: list[Tensor],
        has_biases: bool,
    ) -> list[Tensor]:
        """The relevance of the input and of the initial states, those of them that want it.

        Args:
            relevances: of the output sequence and of the final states, None for those unread.
            input: the input sequence, (T, N, D), or (N, T, D) with ``batch_first``.
            hidden: the initial states, (layers · directions, N, H) each.
            parameters: the weights in PyTorch's order.
            has_biases: whether biases are among them.
        """
        back = Back(self.rule.stabilizer, self.engine)
        found = self._through(back, relevances, input, hidden, parameters, has_biases)
        return [each for each, wanted in zip(found, self.wanted, strict=True) if wanted]

    def taken(
        self,
        relevances: list[Tensor | None],
        input: Tensor,
        hidden: list[Tensor],
        parameters: list[Tensor],
        has_biases: bool,
    ) -> Taken:
        """The shares of the biases, of the stabilizer, and of what is ``constant``: initial states."""
        back = Back(self.rule.stabilizer, self.engine, taken={})
        found = self._through(back, relevances, input, hidden, parameters, has_biases)
        for each, wanted in zip(found, self.wanted, strict=True):
            if not wanted:
                back.note({"constant": each.sum()})
        assert back.taken is not None
        return back.taken

    def _through(
        self,
        back: Back,
        relevances: list[Tensor | None],
        input: Tensor,
        hidden: list[Tensor],
        parameters: list[Tensor],
        has_biases: bool,
    ) -> list[Tensor]:
        """The relevance of the input and of each initial state, of their shapes."""
        unbatched = input.dim() == 2
        sequence = self._time_first(input, unbatched)
        hidden = [state.unsqueeze(1) if unbatched else state for state in hidden]
        weights = _split(parameters, has_biases)
        layers = len(weights) // self.directions
        inputs, states = self._forward(sequence, hidden, weights, layers)
        output = relevances[0]
        finals = [*relevances[1:], *[None] * (1 + self.cell.states - len(relevances))]
        size = states[-1][0][0].shape[-1]
        incoming = sequence.new_zeros((*sequence.shape[:2], size * self.directions))
        if output is not None:
            incoming = incoming + self._time_first(output, unbatched)
        initial: list[State] = [()] * len(weights)
        for layer in reversed(range(layers)):
            shares = []
            for direction in range(self.directions):
                k = layer * self.directions + direction
                last = tuple(
                    torch.zeros_like(states[k][0][0])
                    if final is None
                    else (final.unsqueeze(1) if unbatched else final)[k]
                    for final in finals
                )
                mine = incoming.chunk(self.directions, -1)[direction]
                share, initial[k] = self._back(
                    back, mine, last, inputs[layer], states[k], weights[k], direction
                )
                shares.append(share)
            incoming = shares[0] if len(shares) == 1 else shares[0] + shares[1]
        result = incoming.transpose(0, 1) if self.batch_first and not unbatched else incoming
        found = [result, *(torch.stack(parts) for parts in zip(*initial, strict=True))]
        return [each.squeeze(1) for each in found] if unbatched else found

    def _time_first(self, sequence: Tensor, unbatched: bool) -> Tensor:
        if unbatched:
            return sequence.unsqueeze(1)
        return sequence.transpose(0, 1) if self.batch_first else sequence

    def _forward(
        self, sequence: Tensor, hidden: list[Tensor], weights: list[Weights], layers: int
    ) -> tuple[list[Tensor], list[list[State]]]:
        """The input of each layer, and of each layer and direction the states before each step."""
        inputs, states = [sequence], []
        for layer in range(layers):
            outputs = []
            for direction in range(self.directions):
                k = layer * self.directions + direction
                state: State = tuple(h[k] for h in hidden)
                before, after = [], []
                for x in _in_order(inputs[-1], direction):
                    before.append(state)
                    state = self.cell.step(x, state, weights[k])
                    after.append(state[0])
                states.append(before)
                outputs.append(torch.stack(after[::-1] if direction else after))
            inputs.append(torch.cat(outputs, -1))
        return inputs, states

    def _back(
        self,
        back: Back,
        relevance: Tensor,
        last: State,
        inputs: Tensor,
        states: list[State],
        weights: Weights,
        direction: int,
    ) -> tuple[Tensor, State]:
        """The relevance of a layer's input sequence and initial state from one direction."""
        arriving, shares = last, []
        xs, rs = _in_order(inputs, direction), _in_order(relevance, direction)
        for x, r, state in zip(xs[::-1], rs[::-1], states[::-1], strict=True):
            arriving = (arriving[0] + r, *arriving[1:])
            share, arriving = self.cell.back(arriving, x, state, weights, back)
            shares.append(share)
        return torch.stack(shares if direction else shares[::-1]), arriving


def _in_order(sequence: Tensor, direction: int) -> list[Tensor]:
    """The steps in the order in which a direction takes them."""
    steps = list(sequence.unbind(0))
    return steps[::-1] if direction else steps


def _split(parameters: list[Tensor], has_biases: bool) -> list[Weights]:
    """PyTorch's flat list of parameters, by layer and direction."""
    count = 4 if has_biases else 2
    found = []
    for start in range(0, len(parameters), count):
        chosen = parameters[start : start + count]
        biases = chosen[2:] if has_biases else (None, None)
        found.append(Weights(chosen[0], chosen[1], biases[0], biases[1]))
    return found


def _write(site: Site) -> Received:
    node = site.node
    name, args = name_of(node), node.args
    if node.kwargs or len(args) != 9 or not isinstance(args[2], (list, tuple)):
        raise UnsupportedOperationError(
            f"'{node.name}' runs on a packed sequence: explain padded sequences instead, one call of "
            "the recurrent layer without pack_padded_sequence"
        )
    values: tuple[Any, ...] = args
    input, _, parameters, has_biases, num_layers, _, _, bidirectional, batch_first = values
    per_cell = 4 if has_biases else 2
    if len(parameters) != per_cell * num_layers * (2 if bidirectional else 1):
        raise UnsupportedOperationError(f"'{node.name}' has projections (proj_size), not described")
    assert isinstance(site.rule, Epsilon)
    operands = _operands(node)
    module = RecurrentRelevance(
        name,
        site.rule,
        site.engine,
        bidirectional=bool(bidirectional),
        batch_first=bool(batch_first),
        wanted=[site.receives(operand) for operand in operands],
    )
    parts = [site.parts.get(index) for index in range(max(site.parts) + 1)]
    inputs = site.value((input, operands[1:], list(parameters), has_biases))
    return by_operand(site, site.call(module, parts, *inputs), operands)


def _operands(node: fx.Node) -> list[Any]:
    """The input, and the initial states."""
    input, hidden = node.args[:2]
    return [input, *hidden] if isinstance(hidden, (list, tuple)) else [input, hidden]


OPERATIONS = [
    Operation(
        name=name,
        kind="recurrent",
        operands=_operands,
        default=always(Epsilon()),
        alternatives=(Epsilon,),
        write=_write,
        source="Arras et al. 2017: signal takes all",
    )
    for name in CELLS
]
