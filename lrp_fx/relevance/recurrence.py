"""A layer of recurrent cells over all its steps: its states, and the relevance that a step passes on.

The relevance of the input, of biases and of gates needs no loop over the steps. What does is the
relevance ``R_t`` that arrives at the sum in the state after step ``t``. It is a linear map of that of
the next step, whose factors all follow from the forward pass at once:

    R_{t−1} = P_{t−1}(outer_{t−1} + Σ_k x_k,t ⊙ W_kᵀ (f_k,t ⊙ R_t)) + K_t ⊙ R_t

``outer`` is the relevance that comes from outside the layer. The sum is the rule for the map of the old
hidden state (see :class:`~lrp_fx.relevance.linear.formula.Term`), ``K`` the share of what a gate keeps
of the old state, and ``P`` the rule for the projection of the state, if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from lrp_fx.relevance.cells import Bounded, Cell, CellFormulas, Sums, Weights
from lrp_fx.relevance.engines import Engine, pull
from lrp_fx.relevance.linear.formula import Term
from lrp_fx.rules import may_write


@dataclass(frozen=True)
class Direction:
    """The values of one direction of a layer, in the order of its steps.

    Args:
        cell: the kind of cell.
        x: the inputs, (T, N, D).
        h: the hidden state before each step, (T, N, H).
        sums: the summands of the cell.
        w: the parameters.
    """

    cell: Cell
    x: Bounded
    h: Tensor
    sums: Sums
    w: Weights


def direction_of(
    cell: Cell, x: Bounded, output: Tensor, before: Sequence[Tensor], w: Weights
) -> Direction:
    """One direction, from its outputs (T, N, H) and its initial states."""
    h = torch.cat([before[0][None], output[:-1]])
    sums = cell.sums(w.input_part(x.value), w.hidden_part(h), [h, *before[1:]])
    return Direction(cell, x, h, sums, w)


def run_layer(
    name: str, cell: Cell, x: Tensor, states: Sequence[Tensor], weights: Sequence[Weights]
) -> Tensor:
    """The output of a layer of one or two directions, (T, N, directions · H).

    On CPU torch runs all steps in one call. On other devices that call wants the parameters of all
    layers in one piece of memory, and it has no second derivatives; there the steps are taken here.

    Args:
        name: the ATen name of the operation.
        cell: the kind of cell.
        x: the input, (T, N, D).
        states: the initial states, each (directions, N, H).
        weights: the parameters of each direction.
    """
    if may_write() and x.device.type == "cpu":
        parameters = [each for w in weights for each in w.flat()]
        hidden = list(states) if cell.states > 1 else states[0]
        options = (weights[0].b_ih is not None, 1, 0.0, False, len(weights) == 2, False)
        output: Tensor = getattr(torch, name)(x, hidden, parameters, *options)[0]
        return output
    outputs = []
    for k, w in enumerate(weights):
        h, memory, found = states[0][k], states[-1][k], []
        parts = w.input_part(x.flip(0) if k else x).unbind()
        for part in parts:
            m, new = cell.step(part, w.hidden_part(h), memory)
            h, memory = w.projected(m), memory if new is None else new
            found.append(h)
        outputs.append(torch.stack(found[::-1] if k else found))
    return torch.cat(outputs, -1)


def arriving(
    directions: Sequence[Direction], outer: Tensor, last: Sequence[Tensor], back: CellFormulas
) -> Sequence[Tensor]:
    """The relevance of the sum in the state after each step, (T, N, H) for each direction.

    Args:
        directions: what each direction of the layer computed.
        outer: the relevance of their outputs, (T, directions, N, H).
        last: the relevance of the final states, each (directions, N, H).
        back: the formulas.
    """
    back = replace(back, taken=None)
    hidden, projections, kept = [], [], []
    for each in directions:
        ones = torch.ones_like(each.sums.from_x)
        _, of_h, of_kept = each.sums.shares(ones, back)
        signal = each.cell.of_gate(each.cell.signal, each.w)
        hidden.append(back.hidden_terms(of_h, each.h, signal))
        if each.sums.m is not None:
            projections.append(back.projection_terms(each.sums.m, each.w))
        if of_kept is not None:
            kept.append(of_kept)
    engine = back.hidden.engine
    through_hidden = _StepByStep.of(hidden, engine)
    through_projection = _StepByStep.of(projections, engine)
    keeps = torch.stack(kept, 1).unbind() if kept else ()
    rows = outer.unbind()
    found: list[Tensor] = []
    for t in reversed(range(len(rows))):
        r = through_hidden.added(rows[t], found[-1], t + 1) if found else rows[t] + last[0]
        if through_projection.groups:
            r = through_projection.added(None, r, t)
        if found and keeps:
            r = torch.addcmul(r, keeps[t + 1], found[-1])
        elif len(last) > 1:
            r = r + last[1]
        found.append(r)
    return torch.stack(found[::-1]).unbind(1)


@dataclass(frozen=True)
class _StepByStep:
    """The terms of a linear map in each step, for all directions of a layer at once.

    Args:
        engine: the engine that computes adjoints.
        groups: for each factor its steps, each (directions, N, H), and the terms that share it:
            the steps of their input and their weight, (directions, H, H).
    """

    engine: Engine
    groups: Sequence[tuple[Sequence[Tensor], Sequence[tuple[Sequence[Tensor] | None, Tensor]]]]

    @classmethod
    def of(cls, directions: Sequence[Sequence[Term]], engine: Engine) -> _StepByStep:
        """From the terms of each direction."""
        groups = []
        together = zip(*directions, strict=True)
        for _, group in groupby(together, key=lambda terms: id(terms[0].factor)):
            shared = list(group)
            factors = torch.stack([term.factor for term in shared[0]], 1).unbind()
            terms = []
            for each in shared:
                inputs = [term.input for term in each if term.input is not None]
                x = torch.stack(inputs, 1).unbind() if inputs else None
                terms.append((x, torch.stack([term.weight for term in each])))
            groups.append((factors, terms))
        return cls(engine, groups)

    def added(self, total: Tensor | None, relevance: Tensor, t: int) -> Tensor:
        """``total + Σ x_t ⊙ Wᵀ (f_t ⊙ R)``, (directions, N, H)."""
        for factors, terms in self.groups:
            q = factors[t] * relevance
            for x, weight in terms:
                pulled = self._pull(q, weight)
                if total is None:
                    total = pulled if x is None else x[t] * pulled
                else:
                    total = total + pulled if x is None else torch.addcmul(total, x[t], pulled)
        assert total is not None
        return total

    def _pull(self, q: Tensor, weight: Tensor) -> Tensor:
        if self.engine == "direct":
            return torch.bmm(q, weight)
        shape = torch.Size((*q.shape[:2], weight.shape[2]))
        return pull(
            self.engine,
            lambda value: torch.bmm(value, weight.mT),
            lambda cotangent: torch.bmm(cotangent, weight),
            shape,
            q,
        )
