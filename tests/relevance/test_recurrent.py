"""Recurrent layers and cells by Arras et al. 2017: states that come and go, every layout, any ε.

The twin is the paper's rule written as loops over steps, layers and directions of one sample: gates
get nothing, the signal takes all, each sum is split in proportion with ε, and the relevance of the
state is carried back from step to step, down to the initial state. Where that is a constant, a gate of
it is an activation with a factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx, rules
from lrp_fx.composites import PRESETS, Composite, EpsilonGammaBox, EpsilonPlus, first, operation
from lrp_fx.composites.compat import blog
from lrp_fx.graph import WholeLayers
from tests.helpers.closeness import CLOSES, ROUNDING, assert_close
from tests.helpers.counting import called
from tests.helpers.models import Apply, seeded
from tests.helpers.numbers import numbers
from tests.helpers.twins import explain, quotient

EPS = 0.01
"""Large enough for a wrong stabilizer to show."""
VISIBLE = Composite(
    [
        (operation("recurrent"), rules.Epsilon(EPS)),
        (operation("addition"), rules.Proportional(rules.Stabilizer(EPS))),
    ],
    strict=False,
)
SINGLE = 1e-3
"""Of max |R| in float32: sums of both signs in another order, divided by themselves."""

ways = pytest.mark.parametrize(
    "options",
    [{"propagation": "direct"}, {"propagation": "gradient"}, {"capture": "export"}],
    ids=["direct", "gradient", "export"],
)

State = tuple[Tensor, Tensor]
"""h and the LSTM's cell of one layer and direction, each (H,)."""


def shares(weight: Tensor, x: Tensor, upper: Tensor, z: Tensor) -> Tensor:
    """``Σ_j w_ji x_i R_j / S(z_j)``."""
    return (weight * x * quotient(upper, z, EPS)[:, None]).sum(0)


def shares_of_a_summand(
    weight: Tensor, x: Tensor, upper: Tensor, part: Tensor, z: Tensor, factor: Tensor | float = 1.0
) -> Tensor:
    """What of ``upper`` at ``z = factor · part + …`` goes through ``part = W x + b`` to x."""
    return shares(weight, x, factor * part * quotient(upper, z, EPS), part)


@dataclass(frozen=True)
class Cell:
    """One layer in one direction; a GRU's and an RNN's second state is not used."""

    kind: str
    w: Tensor
    u: Tensor
    b: Tensor
    c: Tensor

    def gate(self, k: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``W x + b`` and ``U h + c`` of the gate, and its ``W`` and ``U``."""
        size = self.u.shape[1]
        rows = slice(k * size, (k + 1) * size)
        w, u = self.w[rows], self.u[rows]
        return w @ x + self.b[rows], u @ h + self.c[rows], w, u

    def forward(self, x: Tensor, state: State) -> State:
        h, memory = state
        pre = [self.gate(k, x, h)[:2] for k in range(len(self.w) // self.u.shape[1])]
        if self.kind == "LSTM":
            i, f, g, o = (a + b for a, b in pre)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            return o.sigmoid() * memory.tanh(), memory
        if self.kind == "GRU":
            (r, s), (z, v), (p, hidden) = pre
            update = (z + v).sigmoid()
            return (1 - update) * (p + (r + s).sigmoid() * hidden).tanh() + update * h, memory
        z = sum(pre[0])
        return (z.relu() if self.kind == "relu" else z.tanh()), memory

    def through_gate(self, k: int, x: Tensor, h: Tensor, upper: Tensor) -> Tensor:
        """Relevance of x from that of a gate of a constant."""
        a, b, w, _ = self.gate(k, x, h)
        return shares_of_a_summand(w, x, upper, a, a + b)

    def back(self, x: Tensor, state: State, upper: State, constant: bool) -> tuple[Tensor, State]:
        """Relevance of x and of the state before, from that of the state behind the step.

        That of a constant state is nobody's, and zero here.
        """
        h, memory = state
        none = (torch.zeros_like(h), torch.zeros_like(h))
        if self.kind == "LSTM":
            i, f = (sum(self.gate(k, x, h)[:2]) for k in range(2))
            a, b, w, u = self.gate(2, x, h)
            g = a + b
            kept, new = f.sigmoid() * memory, i.sigmoid() * g.tanh()
            q = quotient(upper[0] + upper[1], kept + new, EPS)
            from_x = shares_of_a_summand(w, x, new * q, a, g)
            if constant:
                return from_x + self.through_gate(1, x, h, kept * q), none
            return from_x, (shares_of_a_summand(u, h, new * q, b, g), kept * q)
        if self.kind == "GRU":
            reset = sum(self.gate(0, x, h)[:2]).sigmoid()
            update = sum(self.gate(1, x, h)[:2]).sigmoid()
            p, hidden, w, u = self.gate(2, x, h)
            before = p + reset * hidden
            new, kept = (1 - update) * before.tanh(), update * h
            q = quotient(upper[0], new + kept, EPS)
            from_x = shares_of_a_summand(w, x, new * q, p, before)
            if constant:
                from_x = from_x + self.through_gate(1, x, h, kept * q)
                opened = reset * hidden * quotient(new * q, before, EPS)
                return from_x + self.through_gate(0, x, h, opened), none
            from_h = shares_of_a_summand(u, h, new * q, hidden, before, reset)
            return from_x, (from_h + kept * q, upper[1])
        a, b, w, u = self.gate(0, x, h)
        from_x = shares_of_a_summand(w, x, upper[0], a, a + b)
        return from_x, (shares_of_a_summand(u, h, upper[0], b, a + b), upper[1])


def cells(layer: nn.RNNBase | nn.RNNCellBase) -> list[Cell]:
    """In PyTorch's order: layer by layer, in each the two directions."""
    kind = type(layer).__name__.removesuffix("Cell")
    kind = layer.nonlinearity if kind == "RNN" else kind
    zeros = torch.zeros(next(layer.parameters()).shape[0], dtype=torch.float64)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    suffixes = [""]
    if isinstance(layer, nn.RNNBase):
        directions = ["", "_reverse"] if layer.bidirectional else [""]
        suffixes = [f"_l{k}{way}" for k in range(layer.num_layers) for way in directions]
    found = []
    for suffix in suffixes:
        own = [getattr(layer, name + suffix, None) for name in names]
        found.append(Cell(kind, *(zeros if p is None else p.detach() for p in own)))
    return found


@dataclass
class Run:
    """A run over one sample's sequence: the inputs and states that the way back needs."""

    cells: list[Cell]
    directions: int
    inputs: list[list[Tensor]]
    states: list[list[State]]

    @property
    def finals(self) -> list[State]:
        return [states[-1] for states in self.states]


def run(layer: nn.RNNBase | nn.RNNCellBase, xs: list[Tensor], initial: list[State]) -> Run:
    """Forward, layer by layer."""
    found = cells(layer)
    directions = 2 if getattr(layer, "bidirectional", False) else 1
    result = Run(found, directions, [xs], [])
    for start in range(0, len(found), directions):
        outputs = []
        for d in range(directions):
            states = [initial[start + d]]
            for x in result.inputs[-1][:: -1 if d else 1]:
                states.append(found[start + d].forward(x, states[-1]))
            result.states.append(states)
            outputs.append([h for h, _ in states[1:]][:: -1 if d else 1])
        result.inputs.append([torch.cat(parts) for parts in zip(*outputs, strict=True)])
    return result


def run_back(
    forward: Run, r_out: list[Tensor], r_last: list[State], constant: bool = True
) -> tuple[list[Tensor], list[State]]:
    """Relevance of the sequence and of the initial states, which may be constants."""
    r_initial: list[Any] = [None] * len(forward.cells)
    d_count = forward.directions
    for start in reversed(range(0, len(forward.cells), d_count)):
        xs = forward.inputs[start // d_count]
        found = [torch.zeros_like(x) for x in xs]
        for d in range(d_count):
            k = start + d
            upper = r_last[k]
            order = list(range(len(xs)))[:: -1 if d else 1]
            for step in reversed(range(len(xs))):
                own = r_out[order[step]].chunk(d_count)[d]
                upper = (upper[0] + own, upper[1])
                r_x, upper = forward.cells[k].back(
                    xs[order[step]], forward.states[k][step], upper, constant and step == 0
                )
                found[order[step]] = found[order[step]] + r_x
            r_initial[k] = upper
        r_out = found
    return r_out, r_initial


def nothing(count: int, size: int = 4) -> list[State]:
    zero = torch.zeros(size, dtype=torch.float64)
    return [(zero, zero)] * count


def recurrent(kind: type[nn.Module], *sizes: int, **options: Any) -> Any:
    """A layer whose parameters are large enough to saturate some gates."""

    def make() -> nn.Module:
        layer = kind(*sizes, **options)
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.6)
        return layer

    return seeded(make)


# One layer, in every layout, of which anything is read

KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "lstm": (nn.LSTM, {}),
    "lstm without bias": (nn.LSTM, {"bias": False}),
    "gru": (nn.GRU, {}),
    "gru without bias": (nn.GRU, {"bias": False}),
    "rnn": (nn.RNN, {}),
    "rnn of relus": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm, two layers both ways": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "gru both ways": (nn.GRU, {"bidirectional": True}),
}


class Reads(nn.Module):
    """A recurrent layer of which the output, its last step, or the final states are read.

    The input is (N, T, D) in any case; an unbatched layer reads its first sample.
    """

    def __init__(self, layer: nn.RNNBase, layout: str, reads: str) -> None:
        super().__init__()
        self.layer, self.layout, self.reads = layer, layout, reads

    def forward(self, x: Tensor) -> Tensor:
        x = {"batch first": x, "time first": x.transpose(0, 1), "unbatched": x[0]}[self.layout]
        output, states = self.layer(x)
        if self.reads in ("output", "last step"):
            output = output.transpose(0, 1) if self.layout == "time first" else output
            output = output[None] if self.layout == "unbatched" else output
            return output if self.reads == "output" else output[:, -1]
        h, c = states if isinstance(states, tuple) else (states, states)
        state = h if self.reads == "h_n" else c
        return state[None] if self.layout == "unbatched" else state.transpose(0, 1)


def check_layer(name: str, layout: str, reads: str, **options: Any) -> None:
    kind, arguments = KINDS[name]
    layer = recurrent(kind, 3, 4, batch_first=layout == "batch first", **arguments)
    model, x = Reads(layer, layout, reads), numbers(1 if layout == "unbatched" else 2, 4, 3)
    upper = numbers(*model(x).shape, seed=1)
    expected = []
    for sample, r in zip(x, upper, strict=True):
        count = len(cells(layer))
        forward = run(layer, list(sample), nothing(count))
        width = 4 * forward.directions
        r_out = [torch.zeros(width, dtype=x.dtype) for _ in sample]
        r_last = nothing(count)
        if reads == "output":
            r_out = list(r)
        elif reads == "last step":
            r_out[-1] = r
        else:
            zero = torch.zeros(4, dtype=x.dtype)
            r_last = [(each, zero) if reads == "h_n" else (zero, each) for each in r]
        expected.append(torch.stack(run_back(forward, r_out, r_last)[0]))
    assert_close(explain(model, x, upper, VISIBLE, **options), torch.stack(expected))


@ways
@pytest.mark.parametrize("name", KINDS)
def test_layers(name: str, options: dict[str, Any]) -> None:
    check_layer(name, "batch first", "output", **options)


@pytest.mark.parametrize("layout", ["time first", "unbatched"])
@pytest.mark.parametrize("name", KINDS)
def test_layouts(name: str, layout: str) -> None:
    check_layer(name, layout, "output")
    check_layer(name, layout, "h_n")


@pytest.mark.parametrize("name", KINDS)
def test_what_is_read(name: str) -> None:
    """Relevance comes in at one step, at the final hidden states, at the final cell states."""
    for reads in ("last step", "h_n", *(["c_n"] if KINDS[name][0] is nn.LSTM else [])):
        check_layer(name, "batch first", reads)


def test_all_results_at_once() -> None:
    """The output sequence and both final states: their relevance adds up."""
    layer, x = recurrent(nn.LSTM, 3, 4, batch_first=True), numbers(2, 4, 3)

    def everything(m: Tensor) -> Tensor:
        output, (h, c) = layer(m)
        return torch.cat([output, h.transpose(0, 1), c.transpose(0, 1)], 1)

    model = Apply(everything)
    model.layer = layer
    upper = numbers(2, 6, 4, seed=1)
    expected = []
    for sample, r in zip(x, upper, strict=True):
        forward = run(layer, list(sample), nothing(1))
        expected.append(torch.stack(run_back(forward, list(r[:4]), [(r[4], r[5])])[0]))
    assert_close(explain(model, x, upper, VISIBLE), torch.stack(expected))


# States that come from the input


class Translator(nn.Module):
    """An encoder whose final states are the decoder's initial ones."""

    def __init__(self, kind: type[nn.RNNBase], layers: int, reads_again: bool) -> None:
        super().__init__()
        self.encoder = kind(3, 4, layers, batch_first=True)
        self.decoder = kind(2, 4, layers, batch_first=True)
        self.reads_again = reads_again
        self.register_buffer("start", numbers(3, 2, seed=5))

    def words(self, x: Tensor) -> Tensor:
        return x[:, :3, :2] if self.reads_again else self.start.expand(x.shape[0], -1, -1)

    def forward(self, x: Tensor) -> Tensor:
        _, states = self.encoder(x)
        return self.decoder(self.words(x), states)[0]


@ways
@pytest.mark.parametrize("reads_again", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_initial_states_that_come_from_the_input(
    kind: type[nn.RNNBase], layers: int, reads_again: bool, options: dict[str, Any]
) -> None:
    """Their relevance goes on to what they come from; with a constant sequence it is all there is."""
    model, x = recurrent(Translator, kind, layers, reads_again), numbers(2, 4, 3)
    upper = numbers(2, 3, 4, seed=1)
    expected = []
    for sample, words, r in zip(x, model.words(x), upper, strict=True):
        encoder = run(model.encoder, list(sample), nothing(layers))
        decoder = run(model.decoder, list(words), encoder.finals)
        r_words, r_states = run_back(decoder, list(r), nothing(layers), constant=False)
        unread = [torch.zeros(4, dtype=x.dtype)] * 4
        found = torch.stack(run_back(encoder, unread, r_states)[0])
        if reads_again:
            found[:3, :2] += torch.stack(r_words)
        expected.append(found)
    assert_close(explain(model, x, upper, VISIBLE, **options), torch.stack(expected))


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_layer_is_first_whatever_its_states_come_from(kind: str, by_hand: bool) -> None:
    """Its map of the input reads the input, also if its initial states lie behind other layers."""
    cell = recurrent(getattr(nn, f"{kind}Cell" if by_hand else kind), 3, 4)
    before = recurrent(nn.Linear, 3, 4)

    def one_step(x: Tensor) -> Tensor:
        h = before(x)
        state = (h, h) if kind == "LSTM" else h
        if by_hand:
            new = cell(x, state)
        else:
            deeper = (h[None], h[None]) if kind == "LSTM" else h[None]
            new = cell(x[None], deeper)[1]
        return (new[0] if kind == "LSTM" else new).reshape(-1, 4)

    model = Apply(one_step)
    model.cell, model.before = cell, before
    plan = LRPFx(model, Composite([(first(), rules.WSquare())])).plan(numbers(2, 3))
    found = [step.rule for step in plan.steps if isinstance(step.rule, rules.Recurrent)]
    assert [(rule.input, rule.hidden) for rule in found] == [(rules.WSquare(), rules.Epsilon())]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_ledger_closes_over_states(kind: type[nn.RNNBase]) -> None:
    """What reaches a decoder's initial states is passed on, not booked as a constant's share."""
    model, x = recurrent(Translator, kind, 2, True), numbers(2, 4, 3)
    head = nn.Sequential(model, nn.Flatten(), nn.Linear(12, 3)).double()
    assert LRPFx(head, VISIBLE).audit(x, 1).closes(CLOSES)


# Cells


class ByCells(nn.Module):
    """A loop over the steps, as people write it."""

    def __init__(self, kind: type[nn.RNNCellBase], **options: Any) -> None:
        super().__init__()
        self.cell = kind(3, 4, **options)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        outputs = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


CELLS: dict[str, tuple[type[nn.RNNCellBase], dict[str, Any]]] = {
    "lstm": (nn.LSTMCell, {}),
    "lstm without bias": (nn.LSTMCell, {"bias": False}),
    "gru": (nn.GRUCell, {}),
    "gru without bias": (nn.GRUCell, {"bias": False}),
    "rnn": (nn.RNNCell, {}),
    "rnn of relus": (nn.RNNCell, {"nonlinearity": "relu"}),
}


@ways
@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str, options: dict[str, Any]) -> None:
    """One call of a cell is one step of its layer."""
    kind, arguments = CELLS[name]
    model, x = recurrent(ByCells, kind, **arguments), numbers(2, 4, 3)
    upper = numbers(2, 4, 4, seed=1)
    expected = []
    for sample, r in zip(x, upper, strict=True):
        forward = run(model.cell, list(sample), nothing(1))
        expected.append(torch.stack(run_back(forward, list(r), nothing(1))[0]))
    assert_close(explain(model, x, upper, VISIBLE, **options), torch.stack(expected))


def test_a_cell_that_reads_its_own_output() -> None:
    """A generator: the next input is computed from the state; relevance adds up where both meet."""
    cell, out = recurrent(nn.GRUCell, 4, 4), recurrent(nn.Linear, 4, 4)

    def generate(x: Tensor) -> Tensor:
        h = cell(x)
        return cell(out(h), h)

    model = Apply(generate)
    model.cell, model.out = cell, out
    composite = Composite([*VISIBLE.assignments, (nn.Linear, rules.Epsilon(EPS))], strict=False)
    x, upper = numbers(2, 4), numbers(2, 4, seed=1)
    (own,), expected = cells(cell), []
    for sample, r in zip(x, upper, strict=True):
        ((zero, _),) = nothing(1)
        h, _ = own.forward(sample, (zero, zero))
        word = out.weight.detach() @ h + out.bias.detach()
        r_word, (r_h, _) = own.back(word, (h, zero), (r, zero), False)
        r_h = r_h + shares(out.weight.detach(), h, r_word, word)
        expected.append(own.back(sample, (zero, zero), (r_h, zero), True)[0])
    assert_close(explain(model, x, upper, composite), torch.stack(expected))


# Written out, under every composite


class WrittenOut(nn.Module):
    """Two layers step by step in F.linear, sums, gates and tanh, or as one call, and a head.

    The initial states are parameters, or zero as by default.
    """

    def __init__(self, kind: str, by_hand: bool, learned: bool) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(3, 4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)
        self.kind, self.by_hand = kind, by_hand
        self.starts = nn.Parameter(torch.randn(2, 2, 4)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        if not self.by_hand:
            return self.head(self.layer(x, self.given(len(x)))[0][:, -1])
        steps = list(x.unbind(1))
        for k in range(2):
            state = (x.new_zeros(x.shape[0], 4),) * 2
            if self.starts is not None:
                state = tuple(each.expand(x.shape[0], -1) for each in self.starts[:, k])
            outputs = []
            for each in steps:
                state = self.step(k, each, state)
                outputs.append(state[0])
            steps = outputs
        return self.head(steps[-1])

    def given(self, samples: int) -> Any:
        if self.starts is None:
            return None
        h, c = (each.unsqueeze(1).expand(-1, samples, -1).contiguous() for each in self.starts)
        return (h, c) if self.kind == "LSTM" else h

    def step(self, k: int, x: Tensor, state: State) -> State:
        h, c = state
        own = (("ih", x), ("hh", h))
        a, b = (
            F.linear(v, *(getattr(self.layer, f"{p}_{name}_l{k}") for p in ("weight", "bias")))
            for name, v in own
        )
        if self.kind == "RNN":
            return (a + b).tanh(), c
        if self.kind == "LSTM":
            i, f, g, o = (a + b).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        (r, z, p), (s, v, u) = a.chunk(3, 1), b.chunk(3, 1)
        n = (p + (r + s).sigmoid() * u).tanh()
        return (-(z + v)).sigmoid() * n + (z + v).sigmoid() * h, c


EVERY: dict[str, Any] = {name: name for name in PRESETS if name != "epsilon_gamma_box"} | {
    "epsilon_gamma_box": EpsilonGammaBox(-4.0, 4.0),
    "a visible ε": EpsilonPlus(EPS),
    "sums by magnitude": Composite([(operation("addition"), rules.ByMagnitude())]),
    "blog": blog(),
}


@pytest.mark.parametrize(
    ("composite", "learned"),
    [*((name, False) for name in EVERY), *((name, True) for name in ("zero", "a visible ε"))],
)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_written_out(kind: str, learned: bool, composite: str) -> None:
    """The maps have the rule of linear layers, the first ones too; the head is no first layer."""
    model = seeded(lambda: WrittenOut(kind, False, learned))
    twin, x = seeded(lambda: WrittenOut(kind, True, learned)), numbers(2, 3, 3)
    expected = LRPFx(twin, EVERY[composite]).attribute(x, 1)
    assert_close(LRPFx(model, EVERY[composite]).attribute(x, 1), expected)
    gradient = LRPFx(model, EVERY[composite], propagation="gradient")
    assert_close(gradient.attribute(x, 1), expected)
    assert LRPFx(model, EVERY[composite]).audit(x, 1).closes(CLOSES)


class Branching(nn.Module):
    """A layer behind which Python branches on data, so that its call is recorded."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)[0]
        return y if y.isfinite().all() else x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KINDS)
def test_recorded_layers(name: str, dtype: torch.dtype) -> None:
    """A recording shows the cells, or one call for each layer and direction: the map is the layer's."""
    kind, arguments = KINDS[name]
    layer = recurrent(kind, 3, 4, batch_first=True, **arguments).to(dtype)
    x, upper = (
        numbers(2, 4, 3).to(dtype),
        numbers(2, 4, 4 * (1 + layer.bidirectional), seed=1).to(dtype),
    )
    expected = explain(Reads(layer, "batch first", "output"), x, upper, "zero")
    recorded = explain(Branching(layer), x, upper, "zero")
    assert_close(recorded, expected, SINGLE if dtype is torch.float32 else ROUNDING)


# What is not described


class Projected(nn.Module):
    """One step of an LSTM whose state is projected, by itself or as a layer before a linear one."""

    def __init__(self, written: bool) -> None:
        super().__init__()
        self.written = written
        self.layer = nn.LSTM(3, 4, proj_size=2, batch_first=True, bias=False)
        self.plain = nn.LSTM(3, 4, batch_first=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.written:
            return F.linear(self.plain(x)[0], self.layer.weight_hr_l0)
        result: Tensor = self.layer(x)[0]
        return result


@pytest.mark.parametrize("capture", ["auto", "export"])
def test_a_projection_is_a_linear_layer_behind_the_cell(capture: str) -> None:
    """In the first step the state is zero, so that the projection is a linear layer by itself."""
    one, other = Projected(False).double().eval(), Projected(True).double().eval()
    with torch.no_grad():
        other.layer.load_state_dict(one.layer.state_dict())
        other.plain.weight_ih_l0.copy_(one.layer.weight_ih_l0)
    x = numbers(2, 1, 3)
    maps = [LRPFx(m, "zero", capture=capture, start=lambda y: y).attribute(x) for m in (one, other)]
    assert_close(maps[0], maps[1], CLOSES)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_the_ledger_closes_over_projections(options: dict[str, Any]) -> None:
    layer = nn.LSTM(3, 4, proj_size=2, batch_first=True, **options).double()
    model: Any = Apply(lambda x: layer(x)[0])
    model.layer = layer
    assert LRPFx(model, "zero", start=lambda y: y).audit(numbers(2, 4, 3)).closes()


# Every step at once


class ProjectedByHand(nn.Module):
    """An LSTM whose state is projected, as one layer or written out with linear maps."""

    def __init__(self, by_hand: bool) -> None:
        super().__init__()
        self.by_hand = by_hand
        self.layer = nn.LSTM(3, 4, proj_size=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if not self.by_hand:
            result: Tensor = self.layer(x)[0]
            return result
        m, found = self.layer, []
        h, c = x.new_zeros(x.shape[0], 2), x.new_zeros(x.shape[0], 4)
        for step in x.unbind(1):
            a, b = F.linear(step, m.weight_ih_l0, m.bias_ih_l0), F.linear(h, m.weight_hh_l0)
            i, f, g, o = (a + (b + m.bias_hh_l0)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = F.linear(o.sigmoid() * c.tanh(), m.weight_hr_l0)
            found.append(h)
        return torch.stack(found, 1)


@pytest.mark.parametrize("composite", ["zero", "z_plus", "epsilon_gamma"])
def test_projections_written_out(composite: str) -> None:
    """The projection is a linear layer in each step, through which relevance of later steps goes too."""
    one, other = (seeded(lambda each=each: ProjectedByHand(each)) for each in (False, True))
    x, upper = numbers(2, 4, 3), numbers(2, 4, 2, seed=1)
    expected = explain(other, x, upper, composite)
    assert_close(explain(one, x, upper, composite), expected, CLOSES)
    assert_close(explain(one, x, upper, composite, propagation="gradient"), expected, CLOSES)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_derivatives_of_maps(kind: str) -> None:
    """A differentiable map takes its steps one by one; its derivatives are those of the cells."""
    found = []
    for by_hand in (False, True):
        model = seeded(lambda by_hand=by_hand: WrittenOut(kind, by_hand, False))
        x = numbers(2, 3, 3).requires_grad_()
        relevance = LRPFx(model, EVERY["a visible ε"]).attribute(x, 1, create_graph=True)
        found.append(torch.autograd.grad(relevance.square().sum(), x)[0])
    assert_close(found[0], found[1], CLOSES)


def _summed_layer(kind: type[nn.RNNBase]) -> Any:
    layer = recurrent(kind, 3, 4, 2, batch_first=True, bidirectional=True)
    model: Any = Apply(lambda x: layer(x)[0].sum(1))
    model.layer = layer
    return model


PER_STEP = 5
"""Operations of a step and layer: q = f R, Wᵀ q, x ⊙ Wᵀ q + outer, + K R; and one of the memory c."""


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_step_takes_few_operations(kind: type[nn.RNNBase]) -> None:
    """Both directions together. All else is done for all steps at once, in a number that is fixed."""
    lrp, counts = LRPFx(_summed_layer(kind), "epsilon"), []
    for steps in (8, 24):
        x = numbers(2, steps, 3)
        with WholeLayers():
            counts.append(sum(called(lambda x=x: lrp.attribute(x, 1)).values()))
    # each direction has a recurrence of c; views of single steps are made by one unbind
    allowed = 2 * (PER_STEP + 1) * (24 - 8)
    assert counts[1] - counts[0] <= allowed


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("capture", ["export", "record"])
def test_a_layer_is_one_step_of_the_plan(kind: type[nn.RNNBase], capture: str) -> None:
    """Also without data and in recordings, where torch shows its steps."""
    lrp = LRPFx(_summed_layer(kind), capture=capture)
    operations = [step.operation for step in lrp.plan(numbers(2, 9, 3)).steps]
    assert [each.kind for each in operations if each is not None].count("recurrent") == 1
