"""A function of one value has one map, however it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.errors import UnsupportedOperationError
from tests.helpers.canonical import canonical, operations
from tests.helpers.closeness import QUOTIENTS
from tests.helpers.numbers import numbers

Function = Callable[[Tensor], Tensor]


class Model(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Function, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.act, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)
        self.function = function
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


X = 3 * numbers(3, 4)
PAIRS: dict[str, tuple[Function, Function]] = {
    "-relu(-x)": (lambda x: x.clamp(max=0), lambda x: -F.relu(-x)),
    "|-x|": (torch.abs, lambda x: (-x).abs()),
    "-logsigmoid(-x)": (F.softplus, lambda x: -F.logsigmoid(-x)),
    "-log(1 - σ)": (F.softplus, lambda x: -torch.log(1 - torch.sigmoid(x))),
    "logaddexp(x, 0)": (F.softplus, lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "sinh / cosh": (torch.tanh, lambda x: torch.sinh(x) / torch.cosh(x)),
    "ndtr": (F.gelu, lambda x: x * torch.special.ndtr(x)),
    "Φ by erf": (torch.special.ndtr, lambda x: 0.5 * (1 + torch.erf(x / 2**0.5))),
    "a gate Φ": (
        lambda x: x.flip(1) * torch.special.ndtr(x),
        lambda x: x.flip(1) * (0.5 * (1 + torch.erf(x / 2**0.5))),
    ),
    "relu6(x + 3) / 6": (F.hardsigmoid, lambda x: F.relu6(x + 3) / 6),
    "two clamps": (F.hardsigmoid, lambda x: (x / 6 + 0.5).clamp_min(0).clamp_max(1)),
    "elu(x) + 1": (lambda x: F.elu(x) + 1, lambda x: torch.where(x > 0, x + 1, x.exp())),
    "softshrink": (F.softshrink, lambda x: x.sign() * F.relu(x.abs() - 0.5)),
    "threshold": (
        lambda x: F.threshold(x, 0.3, 0.2),
        lambda x: torch.where(x > 0.3, x, torch.full_like(x, 0.2)),
    ),
}


@pytest.mark.parametrize("composite", ["zero", "z_plus"])
@pytest.mark.parametrize("name", PAIRS)
def test_one_map(name: str, composite: str) -> None:
    maps = [LRPFx(Model(each), composite).attribute(X, 1) for each in PAIRS[name]]
    torch.testing.assert_close(maps[0], maps[1], rtol=QUOTIENTS, atol=QUOTIENTS)


def test_a_sign_before_a_rectifier_stays_with_the_layer() -> None:
    """``relu(-z)`` is a layer with negated weights, and ``-relu(z)`` a negated ReLU."""
    model = Model(lambda x: F.relu(-x))
    twin = Model(F.relu)
    with torch.no_grad():
        for each in twin.first.parameters():
            each.neg_()
    for composite in ("zero", "z_plus"):
        expected = LRPFx(twin, composite).attribute(X, 1)
        torch.testing.assert_close(LRPFx(model, composite).attribute(X, 1), expected)
    forms = [Model(lambda x: -F.relu(x)), Model(lambda x: (-x).clamp(max=0))]
    maps = [LRPFx(each, "z_plus").attribute(X, 1) for each in forms]
    torch.testing.assert_close(maps[0], maps[1])


def test_what_is_written_already_stays() -> None:
    """Numbers around an activation are no reason to write it anew."""
    for function in (F.relu, F.gelu, lambda x: F.relu(2 * x), lambda x: F.relu(-x)):
        captured = canonical(Model(function), X)
        assert len(operations(captured)) <= 5


def test_layers_of_a_chain_are_found() -> None:
    """The relevance of the inner layer is that of the whole chain."""
    model = Model(lambda x: -model.act(-x))
    layer = LayerLRPFx(model, "act", "z_plus").attribute(X, 1)
    first = LayerLRPFx(model, "first", "z_plus").attribute(X, 1)
    torch.testing.assert_close(layer, first)


def test_layers_inside_a_product_stay() -> None:
    """A gate gets nothing, and is still there to be asked for."""
    model = Model(lambda x: x)
    model.gate = nn.Sigmoid()
    model.function = lambda x: x * model.gate(x)
    assert not LayerLRPFx(model, "gate", "zero").attribute(X, 1).any()
    silu = LRPFx(Model(F.silu), "zero").attribute(X, 1)
    torch.testing.assert_close(LRPFx(model, "zero").attribute(X, 1), silu)


def test_final_probabilities_are_still_explained_at_their_logits() -> None:
    class Ending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc = nn.Linear(4, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return -F.logsigmoid(-self.fc(x))

    model = Ending()
    torch.testing.assert_close(LRPFx(model).explained_output(X), model.fc(X).detach())


def test_numbers_that_broadcast_stay() -> None:
    """A filled tensor of another shape repeats the value."""

    def spread(x: Tensor) -> Tensor:
        return torch.maximum(x[:, None], x.new_zeros(1, 2, 1)).sum(1)

    model = Model(spread)
    expected = LRPFx(Model(lambda x: 2 * F.relu(x)), "zero").attribute(X, 1)
    torch.testing.assert_close(LRPFx(model, "zero").attribute(X, 1), expected)


def test_indices_stay_whole_numbers() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.last = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, words: Tensor) -> Tensor:
            shown = -torch.relu(-(words - 1)) + torch.relu(words - 1)
            return self.last(self.table(shown + 1).mean(1))  # type: ignore[no-any-return]

    model, words = Words().double().eval(), torch.tensor([[1, 4, 0], [8, 2, 2]])
    lrp = LRPFx(model, "zero")
    torch.testing.assert_close(lrp.explained_output(words), model(words).detach())
    assert lrp.attribute(words, 1).shape == words.shape


CUBE = 2.3 * 2.3 * 2.3
STRANGERS: dict[str, Function] = {
    "a narrow band": lambda x: torch.where((2 * x > 9.02) & (2 * x < 9.05), 0 * x, F.relu(x)),
    "a band of distances": lambda x: torch.where((x.abs() / 8 - 3).abs() < 0.5, 0 * x, x),
    "a band of exponentials": lambda x: torch.where((x.exp() > 100) & (x.exp() < 100.2), 0 * x, x),
    "one point": lambda x: torch.where(2 * x == 5, 7 + 0 * x, F.relu(x)),
    "all points but one": lambda x: torch.where(x * 3 != 7.5, F.relu(x), 7 + 0 * x),
    "one point between bounds": lambda x: torch.where((3 * x >= 7.5) & (3 * x <= 7.5), 0 * x, x),
    "one point by a sign": lambda x: F.relu(x) * (3 * x - 7.5).sign().abs(),
    "one point by a distance": lambda x: torch.where((2 * x - 5).abs() <= 0, 0 * x, F.relu(x)),
    "one point by rounding": lambda x: torch.where((4 * x).round() == 4 * x, 0 * x, F.relu(x)),
    "one point of powers": lambda x: torch.where(x * x * x + 1 == CUBE + 1, 0 * x, F.relu(x)),
    "one point of distances": lambda x: torch.where((x * x * x - CUBE).abs() <= 0, 0 * x, x),
    "far away": lambda x: torch.where(x > 1e20, 0 * x, x),
    "a large end": lambda x: -(-F.relu(x)).clamp(min=-3e5),
    "NaN": lambda x: torch.where(x.isnan(), 0 * torch.ones_like(x), x),
    "NaN by itself": lambda x: torch.where(x != x, torch.zeros_like(x), F.relu(x)),
    "another number for NaN": lambda x: F.relu(x.nan_to_num(nan=0.5)),
}
WHERE = torch.tensor(
    [[4.5175, 24.0, 4.606], [1e21, 4e5, float("nan")], [2.5, 2.3, 3.0]], dtype=torch.float64
)
"""Where these functions differ from those that they are nearly everywhere."""


@pytest.mark.parametrize("name", STRANGERS)
def test_nearly_known_functions_stay(name: str) -> None:
    class Alone(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return STRANGERS[name](x)

    model = Alone().eval()
    (found,) = canonical(model, numbers(2, 3)).module(WHERE)
    torch.testing.assert_close(found, model(WHERE), equal_nan=True)


def test_a_sign_is_no_rectifier() -> None:
    """``x / (1 + exp(-x))`` holds ``-(-x)``, which is ``x``."""
    found = operations(canonical(Model(lambda x: x / (1 + torch.exp(-x))), X))
    assert "leaky_relu" not in found


def test_a_function_with_two_results_is_an_error_that_names_it() -> None:
    """Torch says that frexp works entry by entry, but neither result alone is its value."""
    with pytest.raises(UnsupportedOperationError, match="frexp"):
        LRPFx(Model(lambda x: torch.frexp(x)[0])).attribute(X, 1)
