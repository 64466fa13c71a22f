"""Relevance through LSTM, GRU and RNN: gates get nothing, signals get all (Arras et al. 2017).

The layers are run once more, one at a time. All maps and sums of a layer are computed for all steps at
once; only what a step passes on to the one before goes step by step. Relevance goes on to the initial
states if they depend on the inputs, as in a decoder.

Every part of a cell has the same rule as in a cell that is written out: the maps ``W_ih x + b_ih`` and
``W_hh h + b_hh`` have the rule of a linear layer, and the sums have that of an addition. If a gate
multiplies a constant, such as a constant initial state, the gate is the only activation in the product.
Then it gets the relevance of the product.

    LSTM: c' = f c + i g, h' = W_hr o tanh(c')      R → c' → (f c, i g); i g → g → (x, h)
    GRU:  h' = (1 − z) n + z h, n = tanh(p + r u)   R → ((1 − z) n, z h); n → (p, r u) → (x, h)
    RNN:  h' = tanh(W x + U h + b)                  R → (x, h)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.functional import pad

from lrp_fx.errors import CompositeError, UnsupportedOperationError
from lrp_fx.graph import aten, name_of
from lrp_fx.relevance.addition import AdditionRelevance
from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.cells import CELLS, Bounded, CellFormulas, Weights
from lrp_fx.relevance.engines import Engine
from lrp_fx.relevance.handling import BiasPolicy, Operation, Received, Site, always, by_operand
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.recurrence import Direction, arriving, direction_of, run_layer
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
        operands = (relevances, input, hidden, parameters, has_biases, low, high)
        found = self._through(back, *operands)
        return [each for each, wanted in zip(found, self.wanted, strict=True) if wanted]

    def taken(self, *operands: Any, **bounds: Any) -> Taken:
        """The shares of biases, of the stabilizer, and of operands whose relevance is not wanted."""
        back = CellFormulas(self.of_input, self.of_hidden, self.of_sums, taken={})
        found = self._through(back, *operands, **bounds)
        for each, wanted in zip(found, self.wanted, strict=True):
            if not wanted:
                back.note({"constant": each.sum()})
        assert back.taken is not None
        return back.taken

    def _through(
        self,
        back: CellFormulas,
        relevances: list[Tensor | None],
        input: Tensor,
        hidden: list[Tensor],
        parameters: list[Tensor],
        has_biases: bool,
        low: Tensor | None = None,
        high: Tensor | None = None,
    ) -> list[Tensor]:
        """The relevance of the input and of each initial state, of its shape."""
        unbatched = input.dim() == 2
        sequence = self._time_first(input, unbatched)
        bounds = (b if b is None else self._time_first(b, unbatched) for b in (low, high))
        hidden = [state.unsqueeze(1) if unbatched else state for state in hidden]
        weights = _split(parameters, has_biases, self.projects)
        layers = self._forward(Bounded(sequence, *bounds), hidden, weights)
        output = relevances[0]
        finals = [*relevances[1:], *[None] * (1 + self.cell.states - len(relevances))]
        last = [
            torch.zeros_like(state)
            if final is None
            else (final.unsqueeze(1) if unbatched else final).to(state.dtype)
            for final, state in zip(finals, hidden, strict=True)
        ]
        size = hidden[0].shape[-1]
        incoming = sequence.new_zeros((*sequence.shape[:2], size * self.directions))
        if output is not None:
            # its own dtype, also if later operations promoted the output
            incoming = incoming + self._time_first(output, unbatched).to(incoming.dtype)
        initial: list[list[Tensor]] = [[]] * len(weights)
        for place, layer in reversed(list(enumerate(layers))):
            nodes = back if place == 0 else replace(back, input=self.of_hidden)
            first = place * self.directions
            lasts = [each[first : first + self.directions] for each in last]
            outer = _in_order(incoming.chunk(self.directions, -1))
            shares = []
            arrived = arriving(layer, torch.stack(outer, 1), lasts, nodes)
            for k, direction in enumerate(layer):
                above = torch.cat([outer[k][:-1], outer[k][-1:] + lasts[0][k]])
                share, initial[first + k] = self._back(nodes, direction, arrived[k], above)
                shares.append(share)
            incoming = functools.reduce(torch.add, _in_order(shares))
        result = incoming.transpose(0, 1) if self.batch_first and not unbatched else incoming
        found = [result, *(torch.stack(parts) for parts in zip(*initial, strict=True))]
        return [each.squeeze(1) for each in found] if unbatched else found

    def _time_first(self, sequence: Tensor, unbatched: bool) -> Tensor:
        if unbatched:
            return sequence.unsqueeze(1)
        return sequence.transpose(0, 1) if self.batch_first else sequence

    def _forward(
        self, sequence: Bounded, hidden: list[Tensor], weights: list[Weights]
    ) -> list[list[Direction]]:
        """The computation of each layer in each direction."""
        found, x = [], sequence
        for first in range(0, len(weights), self.directions):
            states = [each[first : first + self.directions] for each in hidden]
            mine = weights[first : first + self.directions]
            output = run_layer(self.name, self.cell, x.value, states, mine)
            layer = []
            for k, (w, own) in enumerate(
                zip(mine, _in_order(output.chunk(self.directions, -1)), strict=True)
            ):
                before = [state[k] for state in states]
                layer.append(direction_of(self.cell, x.backwards() if k else x, own, before, w))
            found.append(layer)
            x = Bounded(output)
        return found

    def _back(
        self, back: CellFormulas, run: Direction, arrived: Tensor, above: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The relevance of the input sequence and of the initial states of one direction.

        Args:
            back: the formulas.
            run: what the direction computed.
            arrived: the relevance of the sum in each new state, (T, N, H).
            above: that of each new hidden state, as far as it comes from outside the layer.
        """
        cell, w = self.cell, run.w
        signal = cell.of_gate(cell.signal, w)
        r_x, r_h, r_kept = run.sums.shares(arrived, back)
        is_reset = cell.reset_by is not None and not self.wanted[1]
        share = back.of_input(r_x, run.x, signal)
        if back.taken is None:
            r_first = back.of_hidden(r_h[:1], run.h[:1], signal)
        else:  # its account has all steps
            steps = slice(1, None) if is_reset else slice(None)
            through = back.of_hidden(r_h[steps], run.h[steps], signal)
            if w.w_hr is not None:
                assert run.sums.m is not None
                back.of_projection(above + pad(through[1:], (0, 0, 0, 0, 0, 1)), run.sums.m, w)
            r_first = through[:1]
        # a gate of a constant state is the only activation in their product
        x, h = run.x.first(), run.h[:1]
        from_gates = []
        if cell.reset_by is not None and is_reset:
            from_x, r_first = back.of_sum(r_h[:1], x, h, cell.of_gate(cell.reset_by, w))
            from_gates.append(from_x)
        if cell.kept_by is not None and r_kept is not None and not self.wanted[-1]:
            from_x, from_h = back.of_sum(r_kept[:1], x, h, cell.of_gate(cell.kept_by, w))
            from_gates.append(from_x)
            r_first, r_kept = r_first + from_h, torch.zeros_like(r_kept)
        if from_gates:
            first = functools.reduce(torch.add, from_gates, share[:1])
            share = torch.cat([first, share[1:]])
        states = [r_first[0]]
        if r_kept is not None:
            kept = r_kept[0]
            states = [*states, kept] if cell.states == 2 else [states[0] + kept]
        return share, states


def _in_order(directions: Sequence[Tensor]) -> list[Tensor]:
    """The sequences of both directions in the order of their steps, or back from it."""
    return [each.flip(0) if k else each for k, each in enumerate(directions)]


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
