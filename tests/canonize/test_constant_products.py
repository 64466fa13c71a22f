"""Products with a constant, in every spelling, have the map of the linear layer that they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx, rules
from lrp_fx.composites import Composite, Uniform, dense, first
from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.graph.calls import name_of
from tests.helpers.closeness import CLOSES, assert_close
from tests.helpers.models import seeded
from tests.helpers.numbers import numbers

COMPOSITES: dict[str, Any] = {
    "zero": "zero",
    "epsilon": "epsilon",
    "z_plus": "z_plus",
    "epsilon_plus_flat": "epsilon_plus_flat",
    "alpha-beta": Uniform(rules.AlphaBeta(2, 1)),
    "generalized gamma": Uniform(rules.GeneralizedGamma(0.25)),
    "w²": Uniform(rules.WSquare()),
    "second layer": Composite([(first(), rules.Epsilon(0.1)), (dense, rules.ZPlus())]),
}
Product = Callable[[Tensor, Tensor, Tensor], Tensor]


class Net(nn.Module):
    """A layer, a product with a constant with a bias or without, and a layer."""

    def __init__(self, form: Product) -> None:
        super().__init__()
        self.a, self.h = nn.Linear(6, 8), nn.Linear(7, 4)
        self.w, self.b = nn.Parameter(torch.randn(7, 8)), nn.Parameter(torch.randn(7))
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.h(torch.relu(self.form(torch.tanh(self.a(x)), self.w, self.b)))


def check(form: Product, twin: Product, composite: Any, **options: Any) -> None:
    """One map, under both engines, batch or single, and a closed ledger."""
    x = numbers(3, 6)
    model, other = seeded(lambda: Net(form)), seeded(lambda: Net(twin))
    expected = LRPFx(other, composite).attribute(x, 1)
    lrp = LRPFx(model, composite, **options)
    found = lrp.attribute(x, 1)
    assert_close(found, expected)
    assert_close(LRPFx(model, composite, propagation="gradient").attribute(x, 1), expected)
    assert_close(torch.cat([lrp.attribute(each[None], 1) for each in x]), expected)
    assert lrp.audit(x, 1).closes(CLOSES)


def plain(y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(y, w)


def biased(y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(y, w, b)


PLAIN: dict[str, Product] = {
    "y @ W.T": lambda y, w, b: y @ w.T,
    "einsum": lambda y, w, b: torch.einsum("bi,oi->bo", y, w),
    "einsum, W first": lambda y, w, b: torch.einsum("oi,bi->bo", w, y),
    "einsum, implicit": lambda y, w, b: torch.einsum("ai,bi", y, w),
    "einsum, upper case": lambda y, w, b: torch.einsum("B i, O i -> B O", y, w),
    "einsum, ellipsis": lambda y, w, b: torch.einsum("...i,oi->...o", y, w),
    "einsum, ellipsis of both": lambda y, w, b: torch.einsum("...i,...oi->...o", y, w),
    "einsum, output first": lambda y, w, b: torch.einsum("bi,oi->ob", y, w).T,
    "einsum, sublists": lambda y, w, b: torch.einsum(y, [0, 1], w, [2, 1], [0, 2]),
    "(W @ y.T).T": lambda y, w, b: (w @ y.t()).t(),
    "W @ y[..., None]": lambda y, w, b: (w @ y.unsqueeze(-1)).squeeze(-1),
    "mm": lambda y, w, b: torch.mm(y, w.t()),
    "bmm": lambda y, w, b: torch.bmm(y[:, None], w.t().expand(len(y), 8, 7))[:, 0],
    "bmm, W first": lambda y, w, b: torch.bmm(w.expand(len(y), 7, 8), y[:, :, None])[:, :, 0],
    "y @ w_i": lambda y, w, b: torch.stack([y @ w[i] for i in range(7)], 1),
    "mv": lambda y, w, b: torch.stack([torch.mv(y, w[i]) for i in range(7)], 1),
    "inner": lambda y, w, b: torch.inner(y, w),
    "inner, W first": lambda y, w, b: torch.inner(w, y).T,
    "tensordot": lambda y, w, b: torch.tensordot(y, w, dims=([1], [1])),
    "tensordot, W first": lambda y, w, b: torch.tensordot(w, y, dims=([1], [1])).T,
    "tensordot, not the last": lambda y, w, b: torch.tensordot(y[..., None], w, ([1], [1]))[:, 0],
    "tensordot over two": lambda y, w, b: torch.tensordot(
        y.view(-1, 2, 4), w.view(7, 2, 4), ([1, 2], [1, 2])
    ),
    "addmm of zeros": lambda y, w, b: torch.addmm(torch.zeros_like(b), y, w.t()),
    "two constants": lambda y, w, b: torch.einsum("bi,ij,oj->bo", y, torch.eye(8).to(y), w),
    "heads": lambda y, w, b: torch.einsum("bhi,hio->bo", y.reshape(-1, 2, 4), w.T.reshape(2, 4, 7)),
}
BIASED: dict[str, Product] = {
    "y @ W.T + b": lambda y, w, b: y @ w.T + b,
    "b + y @ W.T": lambda y, w, b: b + y @ w.T,
    "a bias of each sample's shape": lambda y, w, b: y @ w.T + b[None],
    "W @ y": lambda y, w, b: (w @ y.t() + b[:, None]).t(),
    "W @ y[..., None]": lambda y, w, b: (w @ y.unsqueeze(-1) + b[:, None]).squeeze(-1),
    "einsum": lambda y, w, b: torch.einsum("...i,oi->...o", y, w) + b,
    "einsum, output first": lambda y, w, b: (torch.einsum("bi,oi->ob", y, w) + b[:, None]).T,
    "addmm": lambda y, w, b: torch.addmm(b, y, w.t()),
    "minus": lambda y, w, b: y @ w.T - (-b),
    "subtracted": lambda y, w, b: b - y @ (-w.T),
    "negated": lambda y, w, b: -(y @ -w.T) + b,
    "scaled": lambda y, w, b: (y @ (w.T / b.exp())) * b.exp() + b,
    "scaled by numbers": lambda y, w, b: (y @ w.T / -2 + b / -2) * -2 + 2 * b - b * 2,
    "divided": lambda y, w, b: (y @ (w.T * b.exp()) + b * b.exp()) / b.exp(),
    "W @ y, scaled": lambda y, w, b: ((w / b[:, None]) @ y.T * b[:, None] + b[:, None]).T,
    "einsum, scaled": lambda y, w, b: (
        (torch.einsum("bi,oi->ob", y, w / b[:, None]) * b[:, None] + b[:, None]).T
    ),
    "(W @ y.T).T + b": lambda y, w, b: (w @ y.t()).t() + b,
    "y.permute": lambda y, w, b: b + (w @ y.permute(1, 0)).permute(1, 0),
    "transpose(1, 2)": lambda y, w, b: ((w @ y[:, None].transpose(1, 2)).transpose(1, 2) + b)[:, 0],
    "(W @ y[..., None])[..., 0] + b": lambda y, w, b: (w @ y[..., None])[..., 0] + b,
    "squeeze(-1) * s + b": lambda y, w, b: ((w / b[:, None]) @ y.unsqueeze(-1)).squeeze(-1) * b + b,
    "unsqueezed": lambda y, w, b: (F.linear(y, w).unsqueeze(-1) + b[:, None]).squeeze(-1),
    "bmm": lambda y, w, b: (torch.bmm(y[:, None], w.t().expand(len(y), -1, -1)) + b)[:, 0],
    "bmm, W first": lambda y, w, b: (
        torch.bmm(w[None].expand(len(y), -1, -1), y[:, :, None])[:, :, 0] + b
    ),
    "tensordot": lambda y, w, b: torch.tensordot(y, w, dims=([1], [1])) + b,
    "a negative number behind a view": lambda y, w, b: (w / -2 @ y[..., None])[..., 0] * -2 + b,
}


@pytest.mark.parametrize("composite", ["z_plus", "w²"])
@pytest.mark.parametrize("form", PLAIN)
def test_spellings(form: str, composite: str) -> None:
    check(PLAIN[form], plain, COMPOSITES[composite])


def test_a_product_with_a_matrix_is_a_linear_layer() -> None:
    """One operation, so that whatever is known about linear layers holds for it."""
    steps = LRPFx(seeded(lambda: Net(lambda y, w, b: y @ w.T))).plan(numbers(3, 6)).steps
    assert [name_of(step.node) for step in steps].count("linear") == 3


@pytest.mark.parametrize("composite", COMPOSITES)
def test_every_rule(composite: str) -> None:
    check(PLAIN["W @ y[..., None]"], plain, COMPOSITES[composite])
    check(PLAIN["heads"], plain, COMPOSITES[composite])


@pytest.mark.parametrize("composite", ["z_plus", "w²"])
@pytest.mark.parametrize("form", BIASED)
def test_spellings_with_a_bias(form: str, composite: str) -> None:
    check(BIASED[form], biased, COMPOSITES[composite])


# Einsum against matrices


EINSUMS: dict[str, tuple[Product, Product]] = {
    "a transposition": (
        lambda y, w, b: torch.einsum("bij->bji", y.view(-1, 2, 4)).flatten(1)[:, :7],
        lambda y, w, b: y.view(-1, 2, 4).mT.flatten(1)[:, :7],
    ),
    "a sum": (
        lambda y, w, b: torch.einsum("b...j->b...", y.view(-1, 2, 4)) @ w[:2, :7],
        lambda y, w, b: y.view(-1, 2, 4).sum(-1) @ w[:2, :7],
    ),
    "a diagonal": (
        lambda y, w, b: torch.einsum("bii->bi", y[:, :4].view(-1, 2, 2)) @ w[:2, :7],
        lambda y, w, b: y[:, [0, 3]] @ w[:2, :7],
    ),
    "a trace": (
        lambda y, w, b: torch.einsum("bii->b", y[:, :4].view(-1, 2, 2))[:, None] @ w[:1, :7],
        lambda y, w, b: y[:, [0, 3]].sum(1, keepdim=True) @ w[:1, :7],
    ),
    "a diagonal of the constant": (
        lambda y, w, b: torch.einsum("bi,ii->bi", y[:, :7], w[:, :7]),
        lambda y, w, b: y[:, :7] * w[:, :7].diagonal(),
    ),
    "scaling": (
        lambda y, w, b: torch.einsum("bi,i->bi", y[:, :7], b),
        lambda y, w, b: y[:, :7] * b,
    ),
    "scaling, other order": (
        lambda y, w, b: torch.einsum("h,bhi->ibh", b[:2], y.view(-1, 2, 4)).permute(1, 2, 0),
        lambda y, w, b: y.view(-1, 2, 4) * b[:2, None],
    ),
    "an outer product": (
        lambda y, w, b: torch.einsum("bi,o->bio", y[:, :1], b)[:, 0],
        lambda y, w, b: y[:, :1] * b,
    ),
    "constants that are one": (
        lambda y, w, b: torch.einsum("bi,ji,jk,ko->bo", y, w, w, w.T),
        lambda y, w, b: y @ torch.einsum("ji,jk,ko->io", w, w, w.T),
    ),
    "two activations and a constant": (
        lambda y, w, b: torch.einsum("bi,oi,co->bc", y, w, y[:, :7])[:, :1] @ b[None],
        lambda y, w, b: (F.linear(y, w) @ y[:, :7].T)[:, :1] @ b[None],
    ),
}


@pytest.mark.parametrize("composite", ["zero", "z_plus"])
@pytest.mark.parametrize("form", [name for name in EINSUMS if "two activations" not in name])
def test_einsum_is_what_it_says(form: str, composite: str) -> None:
    check(_padded(EINSUMS[form][0]), _padded(EINSUMS[form][1]), COMPOSITES[composite])


def _padded(form: Product) -> Product:
    """With as many features as the layer behind takes."""
    return lambda y, w, b: F.pad(form(y, w, b).flatten(1), (0, 8))[:, :7]


@pytest.mark.parametrize("composite", ["zero", "z_plus"])
def test_two_activations_and_a_constant(composite: str) -> None:
    """The constant goes to the operand that it is summed with; then half each."""
    form, twin = EINSUMS["two activations and a constant"]
    x = numbers(1, 6)
    found = LRPFx(seeded(lambda: Net(form)), COMPOSITES[composite]).attribute(x, 1)
    assert_close(found, LRPFx(seeded(lambda: Net(twin)), COMPOSITES[composite]).attribute(x, 1))


def test_a_sum_over_an_ellipsis_is_refused() -> None:
    model = seeded(lambda: Net(lambda y, w, b: torch.einsum("b...->b", y)[:, None] * b))
    with pytest.raises(UnsupportedOperationError, match="ellipsis"):
        LRPFx(model).attribute(numbers(3, 6), 1)


# Scale and shift written out behind a linear operation


class Scaled(nn.Module):
    """A layer, batch norm in numbers, as one of PyTorch's or as a sum, and a head."""

    def __init__(self, layer: nn.Module, ones: int, way: str) -> None:
        super().__init__()
        self.layer, self.way = layer, way
        self.norm = [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d][ones](4)
        self.shape = (1, 4, *[1] * ones)
        for tensor in (self.norm.running_mean, self.norm.weight, self.norm.bias):
            nn.init.normal_(tensor)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        y, n = self.layer(x), self.norm
        mean, var, weight, bias = (
            each.reshape(self.shape) for each in (n.running_mean, n.running_var, n.weight, n.bias)
        )
        if self.way == "norm":
            y = n(y)
        elif self.way == "frozen":
            scale = weight * (var + n.eps).rsqrt()
            y = y * scale + (bias - mean * scale)
        else:
            y = (y - mean) / torch.sqrt(var + n.eps) * weight + bias
        return self.head(y.relu().flatten(1))


LAYERS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), 0, (2, 5)),
    "linear without bias": (lambda: nn.Linear(5, 4, bias=False), 0, (2, 5)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), 1, (2, 3, 6)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, bias=False), 2, (2, 3, 6, 6)),
    "groups": (lambda: nn.Conv2d(2, 4, 3, padding=1, groups=2), 2, (2, 2, 5, 5)),
    "same": (lambda: nn.Conv2d(2, 4, 2, padding="same"), 2, (2, 2, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2), 2, (2, 3, 4, 4)),
    "transposed groups": (lambda: nn.ConvTranspose2d(2, 4, 3, groups=2), 2, (2, 2, 4, 4)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("composite", ["z_plus"])
@pytest.mark.parametrize("way", ["frozen", "by hand"])
@pytest.mark.parametrize("name", LAYERS)
def test_batch_norm_written_out(name: str, way: str, composite: str) -> None:
    make, ones, shape = LAYERS[name]
    x = numbers(*shape)

    def model(which: str) -> nn.Module:
        def ready() -> nn.Module:
            found = Scaled(make(), ones, which).eval()
            found(x.float())
            return found

        return seeded(ready)

    expected = LRPFx(model("norm"), composite).attribute(x, 1)
    lrp = LRPFx(model(way), composite)
    assert_close(lrp.attribute(x, 1), expected)
    assert lrp.audit(x, 1).closes(CLOSES)


def summands(form: Product) -> list[str]:
    """The operations of the LRP graph's plan."""
    lrp = LRPFx(seeded(lambda: Net(form)), "z_plus")
    lrp.attribute(numbers(3, 6), 1)
    return [step.operation.name for step in lrp.plan().steps if step.operation is not None]


STAYING: dict[str, tuple[Product, str]] = {
    "two readers": (lambda y, w, b: (z := F.linear(y, w)) * b + z.tanh(), "mul"),
    "another value at each place": (
        lambda y, w, b: (w @ y.T[:, :3] + w[:, :3]).T,
        "add",
    ),
    "a positive number": (lambda y, w, b: F.linear(y, w) * 0.5, "mul"),
    "a gate": (lambda y, w, b: F.relu6(F.linear(y, w) + 3) / 6, "hardsigmoid"),
    "a constant of the sample's shape behind a view": (
        lambda y, w, b: (w @ y.T[:, :3]).T + w[:, :3].T,
        "add",
    ),
    "a view with two readers": (lambda y, w, b: (z := (w @ y.T).T) * b + z.tanh(), "mul"),
    "a sum of two activations": (lambda y, w, b: F.linear(y, w) + y[:, :7], "add"),
    "a product of two activations": (lambda y, w, b: F.linear(y, w) * y[:, :7], "mul"),
    "a divisor": (lambda y, w, b: b / F.linear(y, w), "div"),
}


@pytest.mark.parametrize("name", STAYING)
def test_what_is_not_folded(name: str) -> None:
    form, operation = STAYING[name]
    assert operation in summands(form)


def test_what_is_folded_is_gone() -> None:
    for form in BIASED.values():
        assert not {"add", "sub", "rsub", "mul", "div", "neg"} & set(summands(form))
