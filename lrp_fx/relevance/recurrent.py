"""Relevance through LSTM, GRU and RNN: gates get nothing, signals get all (Arras et al. 2017).

The layers are run once more, step by step, and relevance goes back through the unrolled cells. It
goes on to the initial states if they depend on the inputs, as in a decoder. Every part of a cell
has the same rule as in a cell that is written out: the maps ``W_ih x + b_ih`` and ``W_hh h + b_hh``
have the rule of a linear layer, and the sums have that of an addition. If a gate multiplies a
constant, such as a constant initial state, the gate is the only activation in the product. Then it
gets the relevance of the product.

    LSTM: c' = f c + i g, h' = W_hr o tanh(c')      R → c' → (f c, i g); i g → g → (x, h)
    GRU:  h' = (1 − z) n + z h, n = tanh(p + r u)   R → ((1 − z) n, z h); n → (p, r u) → (x, h)
    RNN:  h' = tanh(W x + U h + b)                  R → (x, h)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.errors import CompositeError, UnsupportedOperationError
from lrp_fx.graph import aten, name_of
from lrp_fx.relevance.addition import AdditionRelevance
from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.cells import CELLS, CellFormulas, State, Step, Weights
from lrp_fx.relevance.engines import Engine
from lrp_fx.relevance.handling import BiasPolicy, Operation, Received, Site, always, by_operand
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import LinearRule, Recurrent, ZBox


class RecurrentRelevance(RelevanceNode):
    """``R → (R_x, R_h0)`` through all layers, directions and steps of a recurrent operation.

    The module docstring says how relevance goes through each kind of cell. Each linear map in a
    cell has ``R_in = x ⊙ Wᵀ[R / S(Wx + b)]`` or another rule, each sum ``R_a = a ⊙ R / S(a + b)``,
    and gates get nothing (Arras et al. 2017).

    Args:
        name: the ATen name of the operation, which says the kind of cell.
        rule: the rules of the maps and sums in a cell.
        engine: the engine that computes the adjoints.
        bias: the bias policy.
        bidirectional: whether each layer runs in both directions.
        batch_first: whether sequences are (N, T, D) rather than (T, N, D).
        projects: whether the cells project their states (``proj_size``).
        wanted: for the input and each of the initial states, whether its relevance is wanted.
    """

    def __init__(
        self,
        name: str,
        rule: Recurrent,
        engine: Engine,
        *,
        bias: BiasPolicy,
        bidirectional: bool,
        batch_first: bool,
        projects: bool,
        wanted: Sequence[bool],
    ) -> None:
        super().__init__()
        self.name, self.rule, self.wanted = name, rule, tuple(wanted)
        self.cell = CELLS[name]
        self.directions = 2 if bidirectional else 1
        self.batch_first, self.projects = batch_first, projects
        self.of_input, self.of_hidden = (
            Formula.of(aten.linear, each, nonnegative=False, bias=bias, engine=engine)
            for each in (rule.input, rule.hidden)
        )
        self.of_sums = AdditionRelevance(rule.addition)

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
        low: Tensor | None = None,
        high: Tensor | None = None,
    ) -> list[Tensor]:
        """The relevance of the input and of the initial states, as far as it is wanted.

        Args:
            relevances: the relevance of the output sequence and of the final states; None for a
                result that is not used.
            input: the input sequence, (T, N, D), or (N, T, D) with ``batch_first``; (T, D) without
                batch.
            hidden: the initial states, each (layers · directions, N, H).
            parameters: the parameters in PyTorch's order.
            has_biases: whether biases are among the parameters.
            low: the lower bound of the input, for the zᴮ rule.
            high: the upper bound of the input, for the zᴮ rule.
        """
        back = CellFormulas(self.of_input, self.of_hidden, self.of_sums)
        found = self._through(back, relevances, (input, low, high), hidden, parameters, has_biases)
        return [each for each, wanted in zip(found, self.wanted, strict=True) if wanted]

    def taken(
        self,
        relevances: list[Tensor | None],
        input: Tensor,
        hidden: list[Tensor],
        parameters: list[Tensor],
        has_biases: bool,
        low: Tensor | None = None,
        high: Tensor | None = None,
    ) -> Taken:
        """The shares of biases, of the stabilizer, and of operands whose relevance is not wanted."""
        back = CellFormulas(self.of_input, self.of_hidden, self.of_sums, taken={})
        found = self._through(back, relevances, (input, low, high), hidden, parameters, has_biases)
        for each, wanted in zip(found, self.wanted, strict=True):
            if not wanted:
                back.note({"constant": each.sum()})
        assert back.taken is not None
        return back.taken

    def _through(
        self,
        back: CellFormulas,
        relevances: list[Tensor | None],
        inputs_and_bounds: tuple[Tensor, Tensor | None, Tensor | None],
        hidden: list[Tensor],
        parameters: list[Tensor],
        has_biases: bool,
    ) -> list[Tensor]:
        """The relevance of the input and of each initial state, of its shape."""
        unbatched = inputs_and_bounds[0].dim() == 2
        sequence, *bounds = (
            each if each is None else self._time_first(each, unbatched)
            for each in inputs_and_bounds
        )
        assert sequence is not None
        hidden = [state.unsqueeze(1) if unbatched else state for state in hidden]
        weights = _split(parameters, has_biases, self.projects)
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
            around = bounds if layer == 0 else [None, None]
            nodes = back if layer == 0 else replace(back, input=self.of_hidden)
            shares = []
            for direction in range(self.directions):
                k = layer * self.directions + direction
                last = tuple(
                    torch.zeros_like(before)
                    if final is None
                    else (final.unsqueeze(1) if unbatched else final)[k]
                    for final, before in zip(finals, states[k][0], strict=True)
                )
                mine = incoming.chunk(self.directions, -1)[direction]
                share, initial[k] = self._back(
                    nodes, mine, last, [inputs[layer], *around], states[k], weights[k], direction
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
        """The input of each layer, and the states before each step for each layer and direction."""
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
        back: CellFormulas,
        relevance: Tensor,
        last: State,
        inputs: list[Tensor | None],
        states: list[State],
        weights: Weights,
        direction: int,
    ) -> tuple[Tensor, State]:
        """The relevance of the input sequence and the initial state of one layer and direction."""
        arriving, shares = last, []
        sequences = [_in_order(each, direction) for each in inputs if each is not None]
        xs = [Step(*each) for each in zip(*sequences, strict=True)]
        rs = _in_order(relevance, direction)
        for t, (x, r, state) in reversed(list(enumerate(zip(xs, rs, states, strict=True)))):
            constant = [t == 0 and not wanted for wanted in self.wanted[1:]]
            arriving = (arriving[0] + r, *arriving[1:])
            share, arriving = self.cell.back(arriving, x, state, weights, back, constant)
            shares.append(share)
        return torch.stack(shares if direction else shares[::-1]), arriving


def _in_order(sequence: Tensor, direction: int) -> list[Tensor]:
    """The time steps of a sequence in the order of a direction: reversed for direction 1."""
    steps = list(sequence.unbind(0))
    return steps[::-1] if direction else steps


def _split(parameters: list[Tensor], has_biases: bool, projects: bool) -> list[Weights]:
    """Split PyTorch's flat list of parameters by layer and direction."""
    count = (4 if has_biases else 2) + projects
    found = []
    for start in range(0, len(parameters), count):
        chosen = parameters[start : start + count]
        biases = chosen[2:4] if has_biases else (None, None)
        projection = chosen[-1] if projects else None
        found.append(Weights(chosen[0], chosen[1], biases[0], biases[1], projection))
    return found


def _write(site: Site) -> Received:
    node = site.node
    name, args = name_of(node), node.args
    if node.kwargs or len(args) != 9 or not isinstance(args[2], (list, tuple)):
        raise UnsupportedOperationError(
            f"'{node.name}' runs on a packed sequence: explain padded sequences instead, by calling "
            "the recurrent layer without pack_padded_sequence"
        )
    values: tuple[Any, ...] = args
    input, _, parameters, has_biases, num_layers, _, _, bidirectional, batch_first = values
    cells = num_layers * (2 if bidirectional else 1)
    assert isinstance(site.rule, Recurrent)
    if isinstance(site.rule.hidden, ZBox):
        raise CompositeError(
            f"ZBox is for first layers: the states of '{node.name}' are not the model's input"
        )
    operands = _operands(node)
    module = RecurrentRelevance(
        name,
        site.rule,
        site.engine,
        bias=site.bias,
        bidirectional=bool(bidirectional),
        batch_first=bool(batch_first),
        projects=len(parameters) // cells > (4 if has_biases else 2),
        wanted=[site.receives(operand) for operand in operands],
    )
    parts = [site.parts.get(index) for index in range(max(site.parts) + 1)]
    inputs = site.value((input, operands[1:], list(parameters), has_biases))
    bounds: dict[str, Any] = {}
    if isinstance(site.rule.input, ZBox):
        low, high = site.bound(input, site.rule.input.low, site.rule.input.high)
        bounds = {"low": low, "high": high}
    return by_operand(site, site.call(module, parts, *inputs, **bounds), operands)


def _operands(node: fx.Node) -> list[Any]:
    """The input and the initial states."""
    input, hidden = node.args[:2]
    return [input, *hidden] if isinstance(hidden, (list, tuple)) else [input, hidden]


OPERATIONS = [
    Operation(
        name=name,
        kind="recurrent",
        operands=_operands,
        default=always(Recurrent()),
        alternatives=(LinearRule, Recurrent),
        write=_write,
        source="Arras et al. 2017: signal takes all",
    )
    for name in CELLS
]
