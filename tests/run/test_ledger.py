"""The conservation ledger: it closes at every node of every network, and books the right cause."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.composites import Composite, anything, operation
from lrp_fx.errors import LRPError, NonFiniteError, OptionError, TargetError
from lrp_fx.relevance.linear.steps import Share
from lrp_fx.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Half,
    Proportional,
    Stabilizer,
    Uniform,
    Winner,
    Zero,
    ZPlus,
)
from lrp_fx.run.ledger import ROUNDING, Ledger
from tests.helpers.models import NETWORKS, Function, everything
from tests.helpers.networks import COMPOSITES, PAIRS, reading
from tests.helpers.numbers import numbers

EXACT = 1e-12
"""Of Σ |terms|, what sums of some thousand float64 numbers may be off."""
NONE = Stabilizer(0)
"""Takes nothing."""


def linear_layer() -> nn.Linear:
    """The layer of DESIGN's table of numbers: with x = (1, −2) its output is (1.5, −6)."""
    layer = nn.Linear(2, 2).double()
    layer.weight.data = torch.tensor([[3.0, 1.0], [-1.0, 2.0]], dtype=torch.float64)
    layer.bias.data = torch.tensor([0.5, -1.0], dtype=torch.float64)
    return layer


def amounts(ledger: Ledger) -> dict[str, float]:
    """What was taken from the first sample, without rounding."""
    taken = {cause: each[0] for cause, each in ledger.taken.items()}
    return {cause: amount for cause, amount in taken.items() if abs(amount) > EXACT}


@pytest.mark.parametrize(("name", "composite"), PAIRS)
def test_the_ledger_closes(name: str, composite: str) -> None:
    """Per node and sample, in = out + taken; and what arrives is what attribute() returns."""
    inputs = NETWORKS[name].inputs(3)
    lrp = reading(name).with_composite(COMPOSITES[composite])
    ledger = lrp.audit(inputs, target=[0, 1, 1])
    assert ledger.closes(1e-11), max(map(abs, ledger.gap))
    found = sum(r.flatten(1).sum(1) for r in lrp.attribute(inputs, target=[0, 1, 1]))
    scale = max(entry.terms[i] for entry in ledger.entries for i in range(3))
    assert torch.tensor(ledger.relevance, dtype=torch.float64).allclose(found, atol=EXACT * scale)


@pytest.mark.parametrize("bias", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("top_k", [1.0, 0.3])
@pytest.mark.parametrize("propagation", ["direct", "gradient"])
def test_the_ledger_closes_under_all_options(bias: Any, top_k: float, propagation: Any) -> None:
    network = NETWORKS["residual"]
    options: dict[str, Any] = {"bias": bias, "top_k": top_k, "propagation": propagation}
    ledger = LRPFx(network.model(), "epsilon_plus_flat", **options).audit(network.inputs(), 1)
    assert ledger.closes(1e-11)
    assert ("filter" in amounts(ledger)) == (top_k < 1)
    assert ("bias" in amounts(ledger)) == (bias == "absorb")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # Σ R = −4.5; the bias' share of unit 1 is 0.5 / 1.5 · 1.5, of unit 2 −1 / −6 · −6
        (Zero(), {"bias": 0.5 - 1.0}),
        # unit 1: z⁺ = 3 + 0.5; unit 2 has nothing positive: no x⁺w⁺, no x⁻w⁻, no b⁺
        (ZPlus(stabilizer=NONE), {"bias": 0.5 / 3.5 * 1.5, "empty_branch": -6.0}),
        # and −1 times the negative: unit 1: −2 alone; unit 2: −1 − 4 and the bias −1
        (
            AlphaBeta(2, 1, stabilizer=NONE),
            {"bias": 2 * 0.5 / 3.5 * 1.5 + 1 / 6 * 6.0, "empty_branch": 2 * -6.0},
        ),
        # without a bias in its denominator, and an input for every unit
        (Flat(stabilizer=NONE), {}),
        # R (1 − z / (z + ε sgn z)) of both units beside the biases' shares
        (
            Epsilon(0.25),
            {
                "bias": 0.5 * 1.5 / 1.75 + -1.0 * -6 / -6.25,
                "stabilizer": 1.5 * 0.25 / 1.75 - 6 * 0.25 / 6.25,
            },
        ),
    ],
)
def test_the_causes_of_a_linear_layer(rule: Any, expected: dict[str, float]) -> None:
    """By hand, on the layer of DESIGN's table of numbers."""
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    ledger = LRPFx(linear_layer(), Composite([(anything(), rule)]), start=everything).audit(x)
    assert amounts(ledger) == pytest.approx(expected)
    assert ledger.closes(EXACT)


def exact(rules: list[Any]) -> Composite:
    """Rules whose stabilizers take nothing."""
    return Composite(
        [(anything(), rule) for rule in [*rules, Zero(), Proportional(NONE)]], strict=False
    )


X = numbers(1, 6)
MASK = torch.tensor([True, False, True, True, False, False])
PIECE = numbers(1, 6, seed=3)
CAUSES: list[tuple[str, Any, list[Any], dict[str, float]]] = [
    (
        "cat with a constant",
        Function(lambda m, x: torch.cat([x * 2, m.c], 1).sum(1), c=PIECE),
        [],
        {"constant": PIECE.sum().item()},
    ),
    (
        "stack with a constant",
        Function(lambda m, x: torch.stack([m.c, x], 1).sum((1, 2)), c=PIECE),
        [],
        {"constant": PIECE.sum().item()},
    ),
    (
        "where, from a constant",
        Function(lambda m, x: torch.where(m.mask, x.relu(), m.c).sum(1), mask=MASK, c=PIECE),
        [],
        {"constant": PIECE[0, ~MASK].sum().item()},
    ),
    (
        "masked_fill",
        Function(lambda m, x: x.relu().masked_fill(m.mask, 0.5).sum(1), mask=MASK),
        [],
        {"constant": 0.5 * MASK.sum().item()},
    ),
    (
        "a sum with a constant",
        Function(lambda m, x: (x.relu() + m.c).sum(1), c=PIECE),
        [],
        {"constant": PIECE.sum().item()},
    ),
    (
        "half of a sum with a constant",
        Function(lambda m, x: (x.relu() + m.c).sum(1), c=PIECE),
        [Half()],
        {"constant": (X.relu() + PIECE).sum().item() / 2},
    ),
    (
        "a product with zero",
        Function(lambda m, x: (F.elu(x) * m.c + x.abs()).sum(1), c=MASK.double()),
        [Half()],  # of each sum half to the product, whose zeros are lost
        {"constant": X[0, ~MASK].abs().sum().item() / 2},
    ),
    (
        "padding that a rule gives relevance to",
        Function(lambda m, x: F.linear(F.pad(x.relu(), (1, 1)), m.w).sum(1), w=torch.ones(1, 8)),
        [Flat(stabilizer=NONE)],
        {"padding": X.relu().sum().item() * 2 / 8},
    ),
    (
        "zero denominators",
        Function(
            lambda m, x: F.linear(torch.stack([x, -x], -1).flatten(1), m.w), w=torch.ones(1, 12)
        ),
        [Zero()],
        {"dead": 7.0},
    ),
    (
        "softmax",
        Function(lambda m, x: (x.softmax(1) * m.c).sum(1), c=torch.full((6,), 2.0)),
        [],  # R = 2 y: Σ R_j (1 − x_j + Σ x y) = 2 (1 − Σ x y + Σ x y)
        {"linearization": 2.0},
    ),
    (
        "the max pooling of Captum",
        Function(lambda m, x: F.max_pool1d(x.abs(), 2).sum(1)),
        [Winner(Stabilizer(0.5))],
        {"stabilizer": sum(v * 0.5 / (v + 0.5) for v in F.max_pool1d(X.abs(), 2)[0].tolist())},
    ),
    (
        "uniform averages",
        Function(lambda m, x: F.avg_pool1d(x.relu(), 4, 3, 1).sum(1)),
        [Uniform()],
        {},
    ),
]


@pytest.mark.parametrize(
    ("model", "rules", "expected"), [case[1:] for case in CAUSES], ids=[case[0] for case in CAUSES]
)
def test_each_cause_by_hand(model: nn.Module, rules: list[Any], expected: dict[str, float]) -> None:
    """Small functions of which it is clear what takes how much."""

    def start(output: Tensor) -> Tensor:
        return torch.full_like(output, 7.0) if "dead" in expected else output

    model = model.double()
    ledger = LRPFx(model, exact(rules), start=start).audit(X)
    found = amounts(ledger)
    assert found == pytest.approx(expected, rel=1e-9)
    assert ledger.closes(EXACT)


def test_a_layer_in_a_hidden_layout_is_booked_by_sample() -> None:
    """Time-first recurrence and windows merged into the batch: the ledger of a sample is its own."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.mix = nn.GRU(3, 3), nn.Linear(6, 3)
            self.lstm = nn.LSTM(3, 3, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:  # (N, 4, 3)
            windows = x.reshape(-1, 2, 3).softmax(-1) + x.reshape(-1, 2, 3)
            y = self.gru(windows.reshape(x.shape).transpose(0, 1))[0].transpose(0, 1)
            return self.mix(self.lstm(y)[0]).mean(1)

    torch.manual_seed(0)
    model, x = Hidden().double(), numbers(3, 4, 3)
    lrp = LRPFx(model)
    ledger = lrp.audit(x, target=[0, 1, 2])
    assert ledger.closes(1e-11)
    for sample in range(3):
        alone = lrp.audit(x[sample : sample + 1], target=sample)
        mine = ledger.of_sample(sample)
        assert [e.node for e in mine.entries] == [e.node for e in alone.entries]
        for ours, theirs in zip(mine.entries, alone.entries, strict=True):
            assert ours.arrived == pytest.approx(theirs.arrived, abs=1e-10)
            assert ours.passed == pytest.approx(theirs.passed, abs=1e-10)
            for cause in ours.taken.keys() | theirs.taken.keys():
                zero = (0.0,)
                expected = pytest.approx(theirs.taken.get(cause, zero), abs=1e-10)
                assert ours.taken.get(cause, zero) == expected
    with pytest.raises(OptionError, match="samples 0 to 2"):
        ledger.of_sample(3)


def test_what_a_constant_softmax_keeps_is_booked() -> None:
    """CP-LRP treats attention weights as constants: what a mix of heads sends there is theirs."""

    class TalkingHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:  # (N, 3, 3)
            weights = self.mix((x @ x.mT).softmax(-1))
            return (weights @ x).sum((1, 2))

    torch.manual_seed(0)
    ledger = LRPFx(TalkingHeads().double(), "cp_lrp").audit(numbers(2, 3, 3))
    assert ledger.closes(EXACT)
    (kept,) = (entry for entry in ledger.entries if entry.operation == "softmax")
    assert kept.passed == (0, 0)
    assert kept.taken.keys() == {"constant"}
    assert all(abs(amount) > 1e-3 for amount in kept.taken["constant"])


def test_a_faulty_node_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The causes come from the formulas, not from the result: a wrong propagation leaves a gap."""
    network = NETWORKS["functional"]
    lrp = LRPFx(network.model())
    propagate = Share.propagate

    def faulty(self: Share, *args: Any, **kwargs: Any) -> Tensor:
        return propagate(self, *args, **kwargs) * (1 + 1e-6)

    assert lrp.audit(network.inputs(), 1).closes()
    monkeypatch.setattr(Share, "propagate", faulty)
    assert not lrp.audit(network.inputs(), 1).closes()


def exploding() -> Ledger:
    """Of a network whose first layer has a denominator near zero."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    model[0].weight.data = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0 - 1e-5]], dtype=torch.float64)
    return LRPFx(model, "zero").audit(x, 0)


def test_explosions_are_named() -> None:
    """A denominator near zero multiplies the relevance: the ledger says where, the worst first."""
    ledger = exploding()
    (worst,) = ledger.explosions()
    assert worst.path == "0"
    assert worst.growth == pytest.approx(2e5, rel=1e-3)
    assert "relevance explosion" in str(ledger)
    assert f"'{worst.node}'" in str(ledger)
    assert ledger.explosions(1e6) == ()


def test_growth_over_many_nodes_is_told_though_none_explodes() -> None:
    """By 4 at each of ten layers: no node is an explosion, the whole is."""
    layers = [nn.Linear(2, 2, bias=False) for _ in range(10)]
    for layer in layers:  # z = 0.4 x on (1, 1), and of the relevance (a, −a) becomes (4 a, −4 a)
        layer.weight.data = torch.tensor([[1.0, -0.6], [-0.6, 1.0]])
    ledger = LRPFx(nn.Sequential(*layers).double(), "zero").audit(torch.ones(1, 2).double(), 0)
    assert ledger.explosions() == ()
    size, node = ledger.amplification
    assert size == pytest.approx(4.0**10, rel=1e-5)  # weights of float32
    assert node == ledger.entries[-1].node
    assert f"1.05e+06 times that of the start, at '{node}'" in str(ledger)
    assert "times that of the start" not in str(LRPFx(linear_layer()).audit(X[:, :2], 0))


def test_the_ledger_can_be_read_printed_and_exported() -> None:
    """As a table, as JSON, as a data frame, as a picture."""
    network = NETWORKS["residual"]
    ledger = LRPFx(network.model(), top_k=0.5).audit(network.inputs(2), 1)
    text = str(ledger)
    assert all(entry.node in text for entry in ledger.entries)
    assert "filter" in {entry.operation for entry in ledger.entries}
    loaded = json.loads(ledger.to_json())
    assert loaded["start"] == list(ledger.start)
    assert [e["node"] for e in loaded["entries"]] == [e.node for e in ledger.entries]
    console = pytest.importorskip("rich.console").Console(width=240, file=io.StringIO())
    console.print(ledger)
    assert ledger.entries[0].node in console.file.getvalue()


def test_what_is_left_along_the_depth() -> None:
    """From the start to the relevance of the inputs, whatever ways there are between."""
    network = NETWORKS["residual"]
    ledger = LRPFx(network.model(), top_k=0.5).audit(network.inputs(2), [0, 1])
    assert len(ledger.left) == len(ledger.entries)
    assert ledger.left[-1] == pytest.approx(ledger.relevance, rel=1e-9)
    first = ledger.entries[0]
    assert ledger.left[0] == pytest.approx(
        [a - sum(t[i] for t in first.taken.values()) for i, a in enumerate(ledger.start)]
    )


def test_the_picture_of_a_ledger() -> None:
    """Draws what is left, and the size of what each node passes on; explosions by their names."""
    network = NETWORKS["residual"]
    ledger = LRPFx(network.model()).audit(network.inputs(1), 1)
    above, below = ledger.plot().axes
    left, sizes = (line.get_ydata() for line in above.lines)
    assert list(left) == pytest.approx([each[0] / ledger.start[0] for each in ledger.left])
    start = abs(ledger.start[0])
    assert list(sizes) == pytest.approx([e.magnitude_out[0] / start for e in ledger.entries])
    assert len(below.patches) == len(ledger.taken) * len(ledger.entries)
    labels = [label.get_text() for label in below.get_xticklabels()]
    assert labels[0] == (ledger.entries[0].path or ledger.entries[0].node)
    assert not above.texts
    worst = exploding().plot().axes[0].texts
    assert [text.get_text() for text in worst] == ["_0_linear: 2e+05 times"]


def test_the_ledger_as_a_data_frame() -> None:
    pytest.importorskip("pandas")
    network = NETWORKS["residual"]
    ledger = LRPFx(network.model()).audit(network.inputs(2), 1)
    frame = ledger.to_pandas()
    assert len(frame) == 2 * len(ledger.entries)
    taken = frame[["bias", "stabilizer", "constant", "dead", "empty_branch"]].sum(axis=1)
    gap = (frame["in"] - frame["out"] - taken).abs()
    assert (gap <= 1e-11 * (frame["magnitude_in"] + frame["magnitude_out"])).all()


def test_low_precision_and_autocast() -> None:
    """In float32 and under autocast the ledger closes to the precision that there is."""
    network = NETWORKS["residual"]
    model, inputs = network.model().float(), tuple(x.float() for x in network.inputs())
    assert LRPFx(model).audit(inputs, 1).closes(1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LRPFx(model).audit(inputs, 1).closes(1e-1)


def test_bad_input_ends_in_our_errors() -> None:
    model = linear_layer()
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    with pytest.raises(TargetError):
        LRPFx(model).audit(x, 5)
    with pytest.raises(LRPError):
        LRPFx(model).audit(x * math.nan, 0)
    zero = Composite([(operation("dense"), Epsilon(1e-320))])
    with pytest.raises(NonFiniteError, match="linear"):
        LRPFx(model, zero, start=lambda y: y + 1e308).audit(torch.tensor([[0.5, -2.0]]).double())


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_the_ledger_closes_in_every_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(
        *(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU()) for _ in range(6)),
        nn.Linear(64, 5),
    )
    ledger = LRPFx(deep.to(dtype).eval()).audit(torch.randn(2, 64, dtype=dtype), 1)
    assert ledger.closes()
    assert ledger.of_sample(0).rounding == ROUNDING[dtype]
    spoiled = ledger.entries[2]
    wrong = {cause: tuple(a + 1 for a in each) for cause, each in spoiled.taken.items()}
    changed = type(spoiled)(**{**vars(spoiled), "taken": {**wrong, "constant": (9.0, 9.0)}})
    assert not type(ledger)((changed,), ledger.start, ledger.relevance, ledger.rounding).closes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_ledger_closes_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = (nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    lrp = LRPFx(nn.Sequential(*layers, nn.Linear(64, 3)).eval())
    with torch.autocast("cpu", dtype):
        ledger = lrp.audit(torch.randn(2, 64), 1)
    assert ledger.closes()
    assert ledger.rounding == ROUNDING[dtype]
