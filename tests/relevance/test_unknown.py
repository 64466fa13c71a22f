"""What ``unknown="vjp"`` promises: for every operation conservation, or the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import Composite, LRPFx, composites, rules
from lrp_fx.canonize.vocabulary import _CANONICAL, _DROPOUT, _IDENTITIES, _SYNONYMS
from lrp_fx.errors import LRPError, UnsupportedOperationError
from lrp_fx.relevance.handling import registry
from tests.helpers.closeness import assert_close

EPS = 1e-12
KEPT = 1e-7
"""Of Σ|y|: ε beside denominators of 1e-5 and more."""
CLOSE = 1e-9
"""Of max |R|: ε beside denominators of 1e-3 and more."""
D = torch.double


class Net(nn.Module):
    """Positive values, an operation, and all its results in one row."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.function = nn.Linear(6, 12, bias=False), function
        with torch.no_grad():
            self.dense.weight.abs_()

    def forward(self, x: Tensor) -> Tensor:
        value = self.function(self.dense(x))
        results = value if isinstance(value, (list, tuple)) else [value]
        return torch.cat([each.reshape(x.shape[0], -1) for each in results], 1)


def whole(y: Tensor) -> Tensor:
    return y.clone()


X = torch.linspace(0.1, 1.3, 18, dtype=D).reshape(3, 6)


def explained(function: Callable[[Tensor], Any], **options: Any) -> tuple[Tensor, Tensor]:
    """The relevance and the output."""
    options = {"unknown": "vjp", **options}
    lines = [(composites.operation("unknown"), rules.Epsilon(EPS)), *composites.Zero().assignments]
    composite = Composite(lines, strict=False)  # type: ignore[arg-type]
    lrp = LRPFx(Net(function).double().eval(), composite, start=whole, **options)
    return lrp.attribute(X), lrp.explained_output(X)


def conserves(relevance: Tensor, output: Tensor) -> bool:
    return bool(abs(relevance.sum() - output.sum()) <= KEPT * output.abs().sum())


W = torch.linspace(-1, 1, 144, dtype=D).reshape(12, 12)
SHARED: dict[str, Callable[[Tensor], Any]] = {
    "quantile": lambda y: y.quantile(0.3, 1),
    "hypot": lambda y: torch.hypot(y[:, :6], y[:, 6:]),
    "logaddexp": lambda y: torch.logaddexp(y[:, :6], y[:, 6:]),
    "outer product": lambda y: torch.linalg.cross(y[:, :3], y[:, 3:6].flip(1)),
    "vecdot": lambda y: torch.linalg.vecdot(y[:, :6], y[:, 6:]),
    "cdist": lambda y: torch.cdist(y.view(3, 4, 3), y.view(3, 4, 3).square()),
    "prod": lambda y: y.view(-1, 3, 4).prod(2),
    "var": lambda y: y.var(1),
    "var_mean": lambda y: torch.var_mean(y, 1),
    "std": lambda y: y.std(1),
    "norm": lambda y: y.norm(dim=1) * 1.0,
    "aminmax": lambda y: torch.aminmax(y, dim=1),
    "bilinear": lambda y: F.bilinear(y[:, :6], y[:, 6:], W[:4, :9].reshape(1, 6, 6)),
    "cumprod": lambda y: y[:, :4].cumprod(1),
    "asinh": lambda y: y.asinh(),
    "dstack": lambda y: torch.dstack([y, y.asinh()]),
    "diagonal": lambda y: y[:, :9].view(-1, 3, 3).diagonal(dim1=1, dim2=2),
    "tril": lambda y: y[:, :9].view(-1, 3, 3).tril(),
    "min": lambda y: y.view(-1, 3, 4).min(2).values,
    "amin": lambda y: y.view(-1, 3, 4).amin(2),
    "median": lambda y: y.view(-1, 3, 4).median(1).values,
    "kthvalue": lambda y: y.view(-1, 3, 4).kthvalue(2, 1, keepdim=True).values,
    "cummax": lambda y: y.cummax(1).values,
    "cosine": lambda y: F.cosine_similarity(y[:, :6], y[:, 6:], dim=1),
}
REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "eigenvalues": (
        lambda y: torch.linalg.eigvals(y[:, :9].view(-1, 3, 3)).abs(),
        "its values are complex",
    ),
    "a Bessel function": (
        lambda y: torch.special.bessel_j0(y),
        "it cannot be differentiated|has no derivative",
    ),
    "an inverse": (
        lambda y: torch.linalg.inv(y[:, :9].view(-1, 3, 3) + 9 * torch.eye(3, dtype=D)),
        "leaves out more of its value than it passes",
    ),
    "a constant beside": (lambda y: y.lgamma(), "leaves out more of its value than it passes"),
}


@pytest.mark.parametrize("name", SHARED)
def test_relevance_is_shared_by_contributions(name: str) -> None:
    relevance, output = explained(SHARED[name])
    assert relevance.abs().sum() > 0
    assert conserves(relevance, output)


@pytest.mark.parametrize("name", REFUSED)
def test_the_reason_is_said(name: str) -> None:
    """With the operation and the line in the user's code."""
    function, words = REFUSED[name]
    with pytest.raises(UnsupportedOperationError, match=words) as caught:
        explained(function)
    assert f"{__file__}:" in str(caught.value)


def test_where_there_is_no_derivative() -> None:
    """Of equal values, a standard deviation has none: what arrives there is accounted for."""

    def spread(y: Tensor) -> Tensor:
        return torch.cat(
            [y[:, :6].std(1, keepdim=True), (y[:, :6] * 0 + 1).std(1, keepdim=True)], 1
        )

    lrp = LRPFx(Net(spread).double().eval(), start=whole, unknown="vjp")
    assert lrp.attribute(X).isfinite().all()
    assert lrp.audit(X).closes()


def test_two_operands_share_by_euler() -> None:
    """A slow twin: x ∂y/∂x / Σ x ∂y/∂x, by the Jacobian written out."""
    y = Net(whole).double().dense(X).detach()
    relevance, output = explained(SHARED["hypot"])
    a, b = y[:, :6], y[:, 6:]
    share = torch.cat([a * a / (a * a + b * b), b * b / (a * a + b * b)], 1) * output.repeat(1, 2)
    weight = Net(whole).double().dense.weight
    expected = X * ((share / y) @ weight)
    assert_close(relevance, expected, CLOSE)


def test_the_ledger_closes_and_the_relevance_is_differentiable() -> None:
    net = Net(SHARED["prod"]).double().eval()
    lrp = LRPFx(net, composites.Epsilon(EPS), start=whole, unknown="vjp")
    assert lrp.audit(X).closes()
    relevance = lrp.attribute(X, create_graph=True)
    (gradient,) = torch.autograd.grad(relevance.square().sum(), net.dense.weight)
    step = torch.zeros_like(net.dense.weight)
    step[2, 3] = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            net.dense.weight.add_(sign * step)
        values.append(lrp.attribute(X).square().sum())
        with torch.no_grad():
            net.dense.weight.sub_(sign * step)
    numeric = (values[0] - values[1]) / 2e-6
    assert abs(numeric - gradient[2, 3]) <= 1e-4 * abs(numeric)
    with torch.inference_mode():
        assert torch.allclose(lrp.attribute(X), relevance.detach())


def test_a_function_of_ones_own() -> None:
    """A custom ``autograd.Function`` ends in a result or in a documented error."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * 2

    for way in ("symbolic", "export", "record", "auto"):
        try:
            assert conserves(*explained(Doubled.apply, capture=way))
        except LRPError:
            continue


_SAMPLES = {"int": 1, "float": 0.5, "bool": False, "number": 0.5, "Scalar": 0.5, "List[int]": [1]}
_RANDOM = {"rand_like", "randn_like", "randint_like", "bernoulli", "normal", "rrelu_with_noise"}
_KNOWN = {*registry(), *_CANONICAL, *_DROPOUT, *_IDENTITIES, *_RANDOM, *_SYNONYMS}
_NOT_OF_VALUES = (
    "_",
    "sym_",
    "rand",
    "empty",
    "new_",
    "q_",
    "is_",
    "set",
    "resize",
    "cuda",
    "cudnn",
)


def _catalog() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation of ATen without a description that takes a tensor, and arguments for it."""
    for name in dir(torch.ops.aten):
        if name in _KNOWN or name.startswith(_NOT_OF_VALUES) or name.endswith("_"):
            continue
        if any(
            word in name for word in ("backward", "quant", "sparse", "cudnn", "miopen", "mkldnn")
        ):
            continue
        packet = getattr(torch.ops.aten, name)
        if not hasattr(packet, "overloads"):
            continue
        for overload in packet.overloads():
            first, *rest = [*getattr(packet, overload)._schema.arguments, None]
            required = [a for a in rest if a is not None and not a.has_default_value()]
            if first is None or str(first.type) != "Tensor" or any(a.is_out for a in required):
                continue
            kinds = {a.name: str(a.type) for a in required}
            if all(kind in _SAMPLES for kind in kinds.values()):
                yield name, {key: _SAMPLES[kind] for key, kind in kinds.items()}
                break


CATALOG = list(_catalog())
TESTED = 150
"""So many operations at least are in the catalog."""


@pytest.mark.filterwarnings("ignore")  # of torch, about single operations
@pytest.mark.parametrize("part", range(8))
def test_every_operation_conserves_or_is_refused(part: int) -> None:
    """What the error of an unknown operation advises is run for each: never a foreign error."""
    assert len(CATALOG) >= TESTED
    wrong = []
    for name, options in CATALOG[part::8]:
        packet = getattr(torch.ops.aten, name)

        def function(y: Tensor, packet: Any = packet, options: Any = options) -> Any:
            return packet(y, **options)

        try:
            value = function(torch.rand(3, 12, dtype=D))
            results = value if isinstance(value, (list, tuple)) else [value]
            fits = all(isinstance(r, Tensor) and r.dim() and len(r) == 3 for r in results)
        except Exception:
            fits = False
        if not fits:
            continue  # not an operation on rows of numbers
        try:
            relevance, output = explained(function)
        except LRPError:
            continue
        if not conserves(relevance, output):
            wrong.append(name)
    assert not wrong


def test_each_sample_is_checked_by_itself() -> None:
    """Whether a sample is refused does not depend on the others: a large one hides nothing."""
    model = Net(torch.lgamma).double()
    nn.init.constant_(model.dense.weight, 1 / 6)  # the mean
    lrp = LRPFx(model, "zero", unknown="vjp")
    large, small = torch.full((1, 6), 1e6, dtype=D), torch.full((1, 6), 1.5, dtype=D)
    lrp.attribute(large, 0)
    for batch in (small, torch.cat([large, small])):
        with pytest.raises(UnsupportedOperationError, match="leaves out more"):
            lrp.attribute(batch, 0)
