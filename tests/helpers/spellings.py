"""Meanings and their spellings: the same function of the same parameters, written in several ways.

A *meaning* is a step of a network: a module that holds its parameters, and *spellings*, functions of
that module and of the operands which all compute the same. The first spelling calls torch's own
modules where there are such. Values are of three spaces, per sample: an image (D, 4, 4), tokens
(4, D), a vector (D); most steps keep the space, and "features" are tokens or a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

SIDE, TOKENS, CLASSES, HEADS = 4, 4, 3, 2
"""Sizes that do not matter to any rule."""

EXCEPT_ZERO = "linear maps split or merged"
"""The one kind of rewrite that a rule but ε = 0 may tell apart: W = W₂ W₁ has other positive parts
than its factors, and sums of parts of a row other denominators."""

DENSE_AS_CONVOLUTION = ("zero", "epsilon", "z_plus", "uniform")
"""The presets that give dense layers and convolutions the same rule."""


@dataclass(frozen=True)
class Spelling:
    """One way to write a meaning.

    Args:
        kind: of rewrite, what a table counts.
        write: the function of the prepared module and the operands.
        prepare: makes the modules that this spelling calls from those of the first one.
        under: the presets under which the map must stay, None for all.
    """

    kind: str
    write: Callable[..., Tensor]
    prepare: Callable[[Any], nn.Module | None] = lambda module: module
    under: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Meaning:
    """A step, with all its spellings; the first is what the others are compared with."""

    name: str
    space: str
    make: Callable[[int], nn.Module | None]
    operands: int = 1
    result: str = ""
    spellings: dict[str, Spelling] = field(default_factory=dict)

    def also(self, kind: str, prepare: Any = None, under: Any = None, **options: Any) -> None:
        """Add spellings of a kind: ``first=function`` or ``**{"in words": function}``."""
        under = ("zero",) if kind == EXCEPT_ZERO else under
        more = {} if prepare is None else {"prepare": prepare}
        for name, write in options.items():
            self.spellings[name] = Spelling(kind, write, under=under, **more)

    @property
    def first(self) -> str:
        return next(iter(self.spellings))

    @property
    def kind(self) -> str:
        """Of most rewrites."""
        return list(self.spellings.values())[len(self.spellings) // 2].kind


MEANINGS: dict[str, Meaning] = {}


def meaning(
    name: str,
    space: str,
    make: Callable[[int], nn.Module | None],
    first: Callable[..., Tensor],
    *,
    operands: int = 1,
    result: str = "",
) -> Meaning:
    """A new meaning with its first spelling."""
    new = Meaning(name, space, make, operands, result or space)
    new.also("", **{"as modules": first})
    MEANINGS[name] = new
    return new


class Parts(nn.Module):
    """Named modules."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _nothing(d: int) -> None:
    """No module: the step has no parameters, and torch has no module for it."""


# --- linear maps ----------------------------------------------------------------------------------

WORDS = "linear maps in other words"
LINEAR = meaning("linear", "features", lambda d: nn.Linear(d, d), lambda m, x: m(x))
LINEAR.also(
    WORDS,
    **{
        "F.linear": lambda m, x: F.linear(x, m.weight, m.bias),
        "x @ W.T + b": lambda m, x: x @ m.weight.T + m.bias,
        "x.matmul(W.t())": lambda m, x: m.bias + x.matmul(m.weight.t()),
        "W @ x": lambda m, x: (m.weight @ x.unsqueeze(-1)).squeeze(-1) + m.bias,
        "(W @ x.T).T": lambda m, x: (m.weight @ x.transpose(-2, -1)).transpose(-2, -1) + m.bias,
        "einsum": lambda m, x: torch.einsum("...i,oi->...o", x, m.weight) + m.bias,
        "einsum, weight first": lambda m, x: torch.einsum("oi,...i->...o", m.weight, x) + m.bias,
        "bmm": lambda m, x: _bmm(m, x),
        "addmm": lambda m, x: _addmm(m, x),
        "tensordot": lambda m, x: torch.tensordot(x, m.weight, ([-1], [1])) + m.bias,
        "entry by entry": lambda m, x: (x.unsqueeze(-2) * m.weight).sum(-1) + m.bias,
        "rows apart": lambda m, x: torch.cat(
            [F.linear(x, w, b) for w, b in zip(m.weight.chunk(2), m.bias.chunk(2), strict=True)],
            -1,
        ),
        "bias by itself": lambda m, x: torch.add(F.linear(x, m.weight), m.bias),
        "weight times constant": lambda m, x: F.linear(x, m.weight * 2, m.bias * 2) / 2,
    },
)
LINEAR.also(
    WORDS,
    under=DENSE_AS_CONVOLUTION,
    **{
        "1×1 convolution": lambda m, x: _as_conv1d(m, x),
    },
)


def _bmm(m: nn.Linear, x: Tensor) -> Tensor:
    rows = x.reshape(x.shape[0], -1, x.shape[-1])
    y = torch.bmm(rows, m.weight.T.expand(x.shape[0], -1, -1)) + m.bias
    return y.reshape(x.shape)


def _addmm(m: nn.Linear, x: Tensor) -> Tensor:
    return torch.addmm(m.bias, x.reshape(-1, x.shape[-1]), m.weight.t()).reshape(x.shape)


def _as_conv1d(m: nn.Linear, x: Tensor) -> Tensor:
    columns = x.reshape(-1, m.in_features, 1)
    return F.conv1d(columns, m.weight[..., None], m.bias).reshape(x.shape)


def orthogonal(d: int, like: Tensor) -> Tensor:
    """A matrix Q (d + 2, d) with QᵀQ = 1."""
    numbers = torch.randn(d + 2, d, generator=torch.Generator().manual_seed(d), dtype=like.dtype)
    return torch.linalg.qr(numbers)[0]


def _split(m: nn.Linear) -> nn.Module:
    q = orthogonal(m.in_features, m.weight)
    inner = nn.Linear(*q.T.shape, bias=False).to(q.dtype)
    outer = nn.Linear(*q.shape).to(q.dtype)
    with torch.no_grad():
        inner.weight.copy_(q)
        outer.weight.copy_(m.weight @ q.T)
        outer.bias.copy_(m.bias)
    return nn.Sequential(inner, outer)


def _merged(m: nn.Sequential) -> nn.Module:
    first, second = m
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    one = nn.Linear(first.in_features, second.out_features).to(first.weight.dtype)
    with torch.no_grad():
        one.weight.copy_(second.weight @ first.weight)
        one.bias.copy_(second.weight @ first.bias + second.bias)
    return one


def _columns(m: nn.Linear, x: Tensor) -> Tensor:
    pairs = zip(x.chunk(2, -1), m.weight.chunk(2, 1), strict=True)
    a, b = (F.linear(part, weight) for part, weight in pairs)
    return a + b + m.bias


LINEAR.also(EXCEPT_ZERO, _split, **{"W = W2 W1": lambda m, x: m(x)})
LINEAR.also(
    EXCEPT_ZERO,
    **{
        "columns apart": _columns,
    },
)
TWO_LINEAR = meaning(
    "two linear maps",
    "features",
    lambda d: nn.Sequential(nn.Linear(d, d + 1), nn.Linear(d + 1, d)),
    lambda m, x: m(x),
)
TWO_LINEAR.also(EXCEPT_ZERO, _merged, **{"one linear map": lambda m, x: m(x)})
TWO_LINEAR.also(
    WORDS,
    **{"x @ W.T twice": lambda m, x: (x @ m[0].weight.T + m[0].bias) @ m[1].weight.T + m[1].bias},
)

CONV = meaning("convolution", "image", lambda d: nn.Conv2d(d, d, 3, padding=1), lambda m, x: m(x))
CONV.also(
    WORDS,
    **{
        "F.conv2d": lambda m, x: F.conv2d(x, m.weight, m.bias, padding=1),
        "padding same": lambda m, x: F.conv2d(x, m.weight, m.bias, padding="same"),
        "padding by itself": lambda m, x: F.conv2d(F.pad(x, (1, 1, 1, 1)), m.weight, m.bias),
        "bias by itself": lambda m, x: F.conv2d(x, m.weight, padding=1) + m.bias.view(1, -1, 1, 1),
        "channels apart": lambda m, x: torch.cat(
            [
                F.conv2d(x, w, b, padding=1)
                for w, b in zip(m.weight.chunk(2), m.bias.chunk(2), strict=True)
            ],
            1,
        ),
        "conv3d": lambda m, x: F.conv3d(
            x.unsqueeze(2), m.weight.unsqueeze(2), m.bias, padding=(0, 1, 1)
        ).squeeze(2),
        "transposed": lambda m, x: F.conv_transpose2d(
            x, m.weight.transpose(0, 1).flip(-1, -2), m.bias, padding=1
        ),
    },
)
CONV.also(
    EXCEPT_ZERO,
    **{
        "unfold and matmul": lambda m, x: (
            (m.weight.flatten(1) @ F.unfold(x, 3, padding=1)).unflatten(2, (SIDE, SIDE))
            + m.bias.view(1, -1, 1, 1)
        ),
        "input channels apart": lambda m, x: (
            F.conv2d(x[:, :2], m.weight[:, :2], m.bias, padding=1)
            + F.conv2d(x[:, 2:], m.weight[:, 2:], padding=1)
        ),
    },
)
POINTWISE = meaning("1×1 convolution", "image", lambda d: nn.Conv2d(d, d, 1), lambda m, x: m(x))
POINTWISE.also(
    WORDS,
    under=DENSE_AS_CONVOLUTION,
    **{
        "linear on channels": lambda m, x: F.linear(
            x.permute(0, 2, 3, 1), m.weight[:, :, 0, 0], m.bias
        ).permute(0, 3, 1, 2),
        "einsum": lambda m, x: (
            torch.einsum("nihw,oi->nohw", x, m.weight[:, :, 0, 0]) + m.bias.view(1, -1, 1, 1)
        ),
    },
)

# --- batch norm -----------------------------------------------------------------------------------

BATCH_NORM = "batch norm"


def shaken(norm: Any) -> Any:
    """The norm with parameters and statistics that differ from those of a new one."""
    with torch.no_grad():
        for name, each in norm.state_dict().items():
            if each.is_floating_point():
                each.uniform_(0.5, 1.5) if "var" in name or "weight" in name else each.normal_(
                    0, 0.3
                )
    return norm


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale.view(1, -1, 1, 1), (norm.bias - norm.running_mean * scale).view(1, -1, 1, 1)


def _folded(m: Any) -> nn.Module:
    conv = nn.Conv2d(*m.conv.weight.shape[1::-1], m.conv.kernel_size, padding=m.conv.padding)
    conv.to(m.conv.weight.dtype)
    scale, shift = _affine(m.norm)
    with torch.no_grad():
        conv.weight.copy_(m.conv.weight * scale.view(-1, 1, 1, 1))
        conv.bias.copy_(m.conv.bias * scale.flatten() + shift.flatten())
    return conv


def _frozen(norm: nn.BatchNorm2d) -> nn.Module:
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps).to(norm.weight.dtype)
    state = norm.state_dict()
    frozen.load_state_dict({k: v for k, v in state.items() if "num_batches" not in k})
    return frozen


NORMS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "F.batch_norm": lambda n, y: F.batch_norm(
        y, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps
    ),
    "scale and shift": lambda n, y: y * _affine(n)[0] + _affine(n)[1],
    "subtracted, divided": lambda n, y: (
        (y - n.running_mean.view(1, -1, 1, 1))
        / torch.sqrt(n.running_var.view(1, -1, 1, 1) + n.eps)
        * n.weight.view(1, -1, 1, 1)
        + n.bias.view(1, -1, 1, 1)
    ),
    "addcmul": lambda n, y: torch.addcmul(_affine(n)[1], y, _affine(n)[0]),
}


def _conv_norm(d: int) -> nn.Module:
    return Parts(conv=nn.Conv2d(d, d, 3, padding=1), norm=shaken(nn.BatchNorm2d(d)))


CONV_NORM = meaning("normed convolution", "image", _conv_norm, lambda m, x: m.norm(m.conv(x)))
CONV_NORM.also(BATCH_NORM, _folded, **{"folded by hand": lambda m, x: m(x)})
CONV_NORM.also(
    BATCH_NORM,
    lambda m: Parts(conv=m.conv, norm=_frozen(m.norm)),
    frozen=lambda m, x: m.norm(m.conv(x)),
)
CONV_NORM.also(
    BATCH_NORM,
    **{name: lambda m, x, norm=norm: norm(m.norm, m.conv(x)) for name, norm in NORMS.items()},
)


def _norm_conv(d: int) -> nn.Module:
    return Parts(norm=shaken(nn.BatchNorm2d(d)), act=nn.ReLU(), conv=nn.Conv2d(d, d, 3, padding=1))


NORM_CONV = meaning(
    "pre-activation", "image", _norm_conv, lambda m, x: m.conv(m.act(m.norm(m.act(x))))
)
NORM_CONV.also(
    BATCH_NORM,
    lambda m: Parts(conv=m.conv, norm=_frozen(m.norm)),
    frozen=lambda m, x: m.conv(m.norm(x.relu()).relu()),
)
NORM_CONV.also(
    BATCH_NORM,
    **{
        name: lambda m, x, norm=norm: m.conv(norm(m.norm, x.relu()).relu())
        for name, norm in NORMS.items()
    },
)
NORM_THEN_POINTWISE = meaning(
    "norm before a convolution",
    "image",
    lambda d: Parts(act=nn.ReLU(), norm=shaken(nn.BatchNorm2d(d)), conv=nn.Conv2d(d, d, 1)),
    lambda m, x: m.conv(m.norm(m.act(x))),
)
NORM_THEN_POINTWISE.also(
    BATCH_NORM,
    **{
        name: lambda m, x, norm=norm: m.conv(norm(m.norm, x.relu())) for name, norm in NORMS.items()
    },
)


def _dense_norm(d: int) -> nn.Module:
    return Parts(norm=shaken(nn.BatchNorm1d(d)), linear=nn.Linear(d, d))


def _dense_affine(norm: Any) -> tuple[Tensor, Tensor]:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


NORM_THEN_LINEAR = meaning(
    "norm before a linear layer", "vector", _dense_norm, lambda m, x: m.linear(m.norm(x.tanh()))
)
NORM_THEN_LINEAR.also(
    BATCH_NORM,
    **{
        "scale and shift": lambda m, x: m.linear(
            x.tanh() * _dense_affine(m.norm)[0] + _dense_affine(m.norm)[1]
        ),
        "addcmul": lambda m, x: m.linear(
            torch.addcmul(_dense_affine(m.norm)[1], x.tanh(), _dense_affine(m.norm)[0])
        ),
        "subtracted, divided": lambda m, x: m.linear(
            (x.tanh() - m.norm.running_mean)
            / (m.norm.running_var + m.norm.eps).sqrt()
            * m.norm.weight
            + m.norm.bias
        ),
        "x @ W.T": lambda m, x: m.norm(x.tanh()) @ m.linear.weight.T + m.linear.bias,
        "folded": lambda m, x: F.linear(
            x.tanh(),
            m.linear.weight * _dense_affine(m.norm)[0],
            m.linear.bias + m.linear.weight @ _dense_affine(m.norm)[1],
        ),
        "twice the half": lambda m, x: m.linear(
            2 * (x.tanh() * _dense_affine(m.norm)[0] / 2 + _dense_affine(m.norm)[1] / 2)
        ),
    },
)

# --- norms ----------------------------------------------------------------------------------------

NORM = "norms fused or written out"


def _standardized(
    x: Tensor, eps: float, statistic: Callable[[Tensor], Tensor], dims: Any = -1
) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred / torch.sqrt(statistic(centred) + eps)


LAYER_NORM = meaning("layer norm", "features", lambda d: shaken(nn.LayerNorm(d)), lambda m, x: m(x))
LAYER_NORM.also(
    NORM,
    **{
        "F.layer_norm": lambda m, x: F.layer_norm(x, x.shape[-1:], m.weight, m.bias, m.eps),
        "affine part by itself": lambda m, x: (
            F.layer_norm(x, m.normalized_shape, eps=m.eps) * m.weight + m.bias
        ),
        "variance": lambda m, x: (
            (x - x.mean(-1, keepdim=True))
            / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + m.eps)
            * m.weight
            + m.bias
        ),
        "mean of squares": lambda m, x: (
            _standardized(x, m.eps, lambda c: c.pow(2).mean(-1, keepdim=True)) * m.weight + m.bias
        ),
        "rsqrt": lambda m, x: _rsqrt_norm(m, x - x.mean(-1, keepdim=True)),
        "pow(-0.5)": lambda m, x: (
            (x - x.mean(-1, True))
            * (x.var(-1, correction=0, keepdim=True) + m.eps) ** -0.5
            * m.weight
            + m.bias
        ),
        "mean square less squared mean": lambda m, x: (
            (x - x.mean(-1, keepdim=True))
            * torch.rsqrt((x * x).mean(-1, True) - x.mean(-1, True) ** 2 + m.eps)
            * m.weight
            + m.bias
        ),
        "einsum": lambda m, x: (
            _standardized(
                x,
                m.eps,
                lambda c: torch.einsum("...d,...d->...", c, c).unsqueeze(-1) / x.shape[-1],
            )
            * m.weight
            + m.bias
        ),
        "group norm": lambda m, x: F.group_norm(
            x.reshape(-1, x.shape[-1]), 1, m.weight, m.bias, m.eps
        ).reshape(x.shape),
        "multiplied out": lambda m, x: (
            (x * _inverse(m, x) - x.mean(-1, True) * _inverse(m, x)) * m.weight + m.bias
        ),
        "var_mean": lambda m, x: _of_both(m, x, torch.var_mean(x, -1, correction=0, keepdim=True)),
        "var_mean, put back": lambda m, x: _of_both(
            m, x, [v.unsqueeze(-1) for v in torch.var_mean(x, -1, unbiased=False)]
        ),
        "divided one by one": lambda m, x: (
            (x / _inverse(m, x).reciprocal() - x.mean(-1, True) / _inverse(m, x).reciprocal())
            * m.weight
            + m.bias
        ),
        "scale and shift": lambda m, x: (
            lambda scale: x * scale + (m.bias - x.mean(-1, keepdim=True) * scale)
        )(m.weight * _inverse(m, x)),
    },
)


def _of_both(m: nn.LayerNorm, x: Tensor, both: Any) -> Tensor:
    return (x - both[1]) * torch.rsqrt(both[0] + m.eps) * m.weight + m.bias


def _inverse(m: nn.LayerNorm, x: Tensor) -> Tensor:
    return torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + m.eps)


def _rsqrt_norm(m: nn.LayerNorm, centred: Tensor) -> Tensor:
    scale = torch.rsqrt(torch.mean(centred * centred, -1, keepdim=True) + m.eps)
    return m.bias + m.weight * (centred * scale)


RMS_NORM = meaning(
    "RMS norm", "features", lambda d: shaken(nn.RMSNorm(d, eps=1e-6)), lambda m, x: m(x)
)
RMS_NORM.also(
    NORM,
    **{
        "F.rms_norm": lambda m, x: F.rms_norm(x, m.normalized_shape, m.weight, m.eps),
        "rsqrt": lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.eps) * m.weight,
        "weight first": lambda m, x: (
            m.weight * (x / torch.sqrt(torch.mean(x**2, -1, True) + m.eps))
        ),
        "norm": lambda m, x: (
            x / (x.norm(dim=-1, keepdim=True).square() / x.shape[-1] + m.eps).sqrt() * m.weight
        ),
        "einsum": lambda m, x: (
            x
            * (torch.einsum("...d,...d->...", x, x)[..., None] / x.shape[-1] + m.eps) ** -0.5
            * m.weight
        ),
        "x @ x": lambda m, x: (
            x
            * torch.rsqrt((x.unsqueeze(-2) @ x.unsqueeze(-1)).squeeze(-1) / x.shape[-1] + m.eps)
            * m.weight
        ),
        "in float64": lambda m, x: (
            (x.double() * (x.double().square().mean(-1, True) + m.eps).rsqrt()).type_as(x)
            * m.weight
        ),
    },
)
L2_NORM = meaning("L2 norm", "features", _nothing, lambda m, x: F.normalize(x, dim=-1))
L2_NORM.also(
    NORM,
    **{
        "x / x.norm()": lambda m, x: x / x.norm(dim=-1, keepdim=True),
        "linalg": lambda m, x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True),
        "sqrt of the sum": lambda m, x: x / x.square().sum(-1, keepdim=True).sqrt(),
        "rsqrt of the sum": lambda m, x: x * torch.rsqrt((x * x).sum(-1, keepdim=True)),
        "power": lambda m, x: x * (x**2).sum(-1, True).pow(-0.5),
        "einsum": lambda m, x: x / torch.einsum("...d,...d->...", x, x).sqrt().unsqueeze(-1),
        "x @ x": lambda m, x: (
            x / (x.unsqueeze(-2) @ x.unsqueeze(-1)).squeeze(-1).sqrt().clamp_min(1e-12)
        ),
        "norm to the power": lambda m, x: x * x.norm(2, -1, True).reciprocal(),
    },
)
GROUP_NORM = meaning("group norm", "image", lambda d: shaken(nn.GroupNorm(2, d)), lambda m, x: m(x))


def _by_groups(m: nn.GroupNorm, x: Tensor) -> Tensor:
    groups = x.reshape(x.shape[0], m.num_groups, -1)
    y = (groups - groups.mean(-1, keepdim=True)) / torch.sqrt(
        groups.var(-1, unbiased=False, keepdim=True) + m.eps
    )
    return y.reshape(x.shape) * m.weight.view(1, -1, 1, 1) + m.bias.view(1, -1, 1, 1)


def _by_channels(m: nn.GroupNorm, x: Tensor) -> Tensor:
    groups = x.reshape(x.shape[0], m.num_groups, -1)
    inverse = torch.rsqrt(groups.var(-1, unbiased=False) + m.eps)
    size = m.num_channels // m.num_groups
    scale = inverse.repeat_interleave(size, 1)[:, :, None, None]
    mean = groups.mean(-1).repeat_interleave(size, 1)[:, :, None, None]
    y = x * scale - mean * scale
    return y * m.weight.view(1, -1, 1, 1) + m.bias.view(1, -1, 1, 1)


GROUP_NORM.also(
    NORM,
    **{
        "F.group_norm": lambda m, x: F.group_norm(x, 2, m.weight, m.bias, m.eps),
        "by groups": _by_groups,
        "scale and shift of channels": _by_channels,
        "layer norm of groups": lambda m, x: (
            F.layer_norm(
                x.reshape(x.shape[0], 2, -1), (m.num_channels // 2 * SIDE * SIDE,), eps=m.eps
            ).reshape(x.shape)
            * m.weight.view(1, -1, 1, 1)
            + m.bias.view(1, -1, 1, 1)
        ),
    },
)
INSTANCE_NORM = meaning(
    "instance norm",
    "image",
    lambda d: shaken(nn.InstanceNorm2d(d, affine=True)),
    lambda m, x: m(x),
)
INSTANCE_NORM.also(
    NORM,
    **{
        "F.instance_norm": lambda m, x: F.instance_norm(x, weight=m.weight, bias=m.bias, eps=m.eps),
        "one group a channel": lambda m, x: F.group_norm(
            x, m.num_features, m.weight, m.bias, m.eps
        ),
        "mean of squares": lambda m, x: (
            _standardized(x, m.eps, lambda c: c.square().mean((2, 3), keepdim=True), (2, 3))
            * m.weight.view(1, -1, 1, 1)
            + m.bias.view(1, -1, 1, 1)
        ),
    },
)
RESPONSE_NORM = meaning(
    "local response norm",
    "image",
    lambda d: nn.LocalResponseNorm(3, alpha=0.1, k=2.0),
    lambda m, x: m(x),
)


def _response(x: Tensor, mean: Tensor) -> Tensor:
    return x / (2 + 0.1 * mean) ** 0.75


RESPONSE_NORM.also(
    NORM,
    **{
        "F.local_response_norm": lambda m, x: F.local_response_norm(x, 3, 0.1, 0.75, 2.0),
        "pool over channels": lambda m, x: _response(
            x,
            F.avg_pool3d(x.square().unsqueeze(1), (3, 1, 1), 1, (1, 0, 0)).squeeze(1),
        ),
        "slices of channels": lambda m, x: _response(
            x, sum(F.pad(x * x, (0, 0, 0, 0, 1, 1))[:, i : i + x.shape[1]] for i in range(3)) / 3
        ),
        "slices stacked": lambda m, x: _response(x, torch.stack(_shifted(x), 1).mean(1)),
        "slices by narrow": lambda m, x: _response(
            x, torch.add(*_shifted(x)[1:]).add(_shifted(x)[0]).div(3)
        ),
        "unfolded": lambda m, x: _response(
            x, F.pad(x.square(), (0, 0, 0, 0, 1, 1)).unfold(1, 3, 1).mean(-1)
        ),
    },
)


def _shifted(x: Tensor) -> list[Tensor]:
    """The squares of each channel and of both beside it."""
    padded = F.pad(x.square(), (0, 0, 0, 0, 1, 1))
    return [padded.narrow(1, i, x.shape[1]) for i in range(3)]


# --- activations ----------------------------------------------------------------------------------

FORMS = "functions, methods, in place"
ACTIVATIONS: dict[str, tuple[type[nn.Module], dict[str, Callable[[Tensor], Tensor]]]] = {
    "ReLU": (
        nn.ReLU,
        {
            "F.relu": F.relu,
            "method": lambda x: x.relu(),
            "in place": lambda x: x.clone().relu_(),
            "F.relu in place": lambda x: F.relu(x * 1, inplace=True),
            "clamp": lambda x: x.clamp(min=0),
            "clamp_min": lambda x: x.clamp_min(0.0),
            "threshold": lambda x: F.threshold(x, 0, 0),
            "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
            "times mask": lambda x: x * (x > 0),
            "masked_fill": lambda x: x.masked_fill(x < 0, 0),
        },
    ),
    "GELU": (
        nn.GELU,
        {
            "F.gelu": F.gelu,
            "erf": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
            "erf last": lambda x: x * ((torch.erf(x * 0.5**0.5) + 1) / 2),
        },
    ),
    "SiLU": (
        nn.SiLU,
        {
            "F.silu": F.silu,
            "x sigmoid(x)": lambda x: x * torch.sigmoid(x),
            "sigmoid first": lambda x: x.sigmoid().mul(x),
            "x / (1 + exp(-x))": lambda x: x / (1 + torch.exp(-x)),
            "in place": lambda x: F.silu(x.clone(), inplace=True),
        },
    ),
    "tanh": (
        nn.Tanh,
        {
            "torch.tanh": torch.tanh,
            "in place": lambda x: x.clone().tanh_(),
            "2 sigmoid(2x) - 1": lambda x: 2 * torch.sigmoid(2 * x) - 1,
            "-tanh(-x)": lambda x: -torch.tanh(-x),
            "-2 tanh(-x) / 2": lambda x: -2 * (x * -1).tanh() / 2,
        },
    ),
    "log-sigmoid": (
        nn.LogSigmoid,
        {
            "F.logsigmoid": F.logsigmoid,
            "-softplus(-x)": lambda x: -F.softplus(-x),
            "softplus times -1": lambda x: F.softplus(x * -1) * -1,
        },
    ),
    "leaky ReLU": (
        lambda: nn.LeakyReLU(0.1),  # type: ignore[dict-item]
        {
            "F.leaky_relu": lambda x: F.leaky_relu(x, 0.1),
            "where": lambda x: torch.where(x > 0, x, 0.1 * x),
            "prelu": lambda x: F.prelu(x, torch.tensor([0.1], dtype=torch.double)),
        },
    ),
    "hardswish": (
        nn.Hardswish,
        {
            "F.hardswish": F.hardswish,
            "relu6": lambda x: x * F.relu6(x + 3) / 6,
            "hardsigmoid": lambda x: x * F.hardsigmoid(x),
            "clamp": lambda x: x * (x / 6 + 0.5).clamp(0, 1),
        },
    ),
    "mish": (
        nn.Mish,
        {"F.mish": F.mish, "tanh of softplus": lambda x: x * torch.tanh(F.softplus(x))},
    ),
    "softsign": (
        nn.Softsign,
        {
            "F.softsign": F.softsign,
            "x / (1 + |x|)": lambda x: x / (1 + x.abs()),
            "-softsign(-x)": lambda x: -F.softsign(-x),
        },
    ),
    "absolute value": (
        lambda: Calls(torch.abs),
        {
            "x sign(x)": lambda x: x * torch.sign(x),
            "x sgn(x)": lambda x: x.sgn() * x,
            "x (x / |x|)": lambda x: x * (x / x.abs()),
            "copysign": lambda x: torch.copysign(x, torch.ones_like(x)),
            "root of the square": lambda x: (x * x).sqrt(),
            "maximum of x and -x": lambda x: torch.maximum(x, -x),
            "two rectifiers": lambda x: x.relu() + (-x).relu(),
        },
    ),
}
for _name, (_module, _forms) in ACTIVATIONS.items():
    for _space in ("features", "image"):
        meaning(
            f"{_name} of {_space}", _space, lambda d, make=_module: make(), lambda m, x: m(x)
        ).also(FORMS, **{k: lambda m, x, f=f: f(x) for k, f in _forms.items()})

# --- gates ----------------------------------------------------------------------------------------

GATE = "gates"
SIGMOIDS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "σ(z), σ(-z)": lambda z: (torch.sigmoid(z), torch.sigmoid(-z)),
    "method": lambda z: (z.sigmoid(), 1.0 - z.sigmoid()),
    "1 / (1 + exp(-z))": lambda z: (1 / (1 + torch.exp(-z)), 1 / (1 + torch.exp(z))),
    "reciprocal": lambda z: ((1 + (-z).exp()).reciprocal(), 1 - (1 + (-z).exp()).reciprocal()),
    "exp(z) / (1 + exp(z))": lambda z: (z.exp() / (1 + z.exp()), 1 / (1 + z.exp())),
    "(tanh(z / 2) + 1) / 2": lambda z: (
        (torch.tanh(z / 2) + 1) / 2,
        0.5 - 0.5 * torch.tanh(z / 2),
    ),
    "exp(logsigmoid)": lambda z: (F.logsigmoid(z).exp(), F.logsigmoid(-z).exp()),
    "softmax of two": lambda z: torch.stack([z, torch.zeros_like(z)], -1).softmax(-1).unbind(-1),
    "expit": lambda z: (torch.special.expit(z), 1 - torch.special.expit(z)),
    "half of 2σ": lambda z: (2 * z.sigmoid() * 0.5, (2 - 2 * z.sigmoid()) / 2),
    "complement by neg": lambda z: (z.sigmoid(), -z.sigmoid() + 1),
    "rsub": lambda z: (z.sigmoid(), torch.rsub(z.sigmoid(), 1)),
}
HARD_SIGMOIDS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "F.hardsigmoid": lambda z: (F.hardsigmoid(z), F.hardsigmoid(-z)),
    "relu6(z + 3) / 6": lambda z: (F.relu6(z + 3) / 6, 1 - F.relu6(z + 3) / 6),
    "relu6 twice": lambda z: (F.relu6(z + 3) * (1 / 6), F.relu6(3 - z) / 6),
    "clamp": lambda z: (torch.clamp(z / 6 + 0.5, 0, 1), torch.clamp(0.5 - z / 6, 0, 1)),
    "hardtanh": lambda z: (
        F.hardtanh(z / 6 + 0.5, 0.0, 1.0),
        1 - F.hardtanh(z / 6 + 0.5, 0.0, 1.0),
    ),
    "clamp(0, 6)": lambda z: ((z + 3).clamp(0, 6) / 6, 1 - (z + 3).clamp(0, 6) / 6),
}


def _fusion(gate: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    return lambda d: Parts(
        z=nn.Linear(d, d), gate=gate(), signal=nn.Linear(d, d), other=nn.Linear(d, d)
    )


def _fused(m: Any, x: Tensor) -> Tensor:
    g = m.gate(m.z(x))
    return g * m.signal(x) + (1 - g) * m.other(x)


def _fused_by(m: Any, x: Tensor, gates: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    g, rest = gates(m.z(x))
    return g * m.signal(x) + rest * m.other(x)


def _fused_by_difference(m: Any, x: Tensor) -> Tensor:
    a, b = m.signal(x), m.other(x)
    return b + m.gate(m.z(x)) * (a - b)


def _by_exponential(write: Callable[..., Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(m.z(x).exp(), m.signal(x), m.other(x))


ONE_QUOTIENT = {
    "(e a + b) / (1 + e)": _by_exponential(lambda e, a, b: (e * a + b) / (1 + e)),
    "(b + 2 a e) / (e + 1)": _by_exponential(lambda e, a, b: (b + 2 * a * e / 2) / (e + 1)),
    "by a reciprocal": _by_exponential(lambda e, a, b: (a * e + b) * (1 / (1 + e))),
    "(a + e b) / (1 + e)": lambda m, x: (lambda e: (m.signal(x) + e * m.other(x)) / (1 + e))(
        torch.exp(-m.z(x))
    ),
}
for _name, _make, _table in (
    ("gated sum", nn.Sigmoid, SIGMOIDS),
    ("hard-gated sum", nn.Hardsigmoid, HARD_SIGMOIDS),
):
    meaning(_name, "features", _fusion(_make), _fused).also(
        GATE,
        **{name: lambda m, x, f=f: _fused_by(m, x, f) for name, f in _table.items()},
        **{
            "g * (a - b) + b": _fused_by_difference,
            "lerp": lambda m, x: torch.lerp(m.other(x), m.signal(x), m.gate(m.z(x))),
            "signal first": lambda m, x: (
                m.signal(x).mul(m.gate(m.z(x))).add(m.other(x).mul(1 - m.gate(m.z(x))))
            ),
        },
        **(ONE_QUOTIENT if _make is nn.Sigmoid else {}),
    )


SWITCHES: dict[str, Callable[[Tensor], Tensor]] = {
    "(z > 0).double()": lambda z: (z > 0).double(),
    "less the opposite": lambda z: 1 - (z <= 0).to(z),
    "where of numbers": lambda z: torch.where(z >= 0, 1.0, 0.0),
    "heaviside": lambda z: torch.heaviside(z, torch.zeros_like(z)),
    "rectified sign": lambda z: z.sign().relu(),
    "clamped sign": lambda z: torch.clamp(z.sign(), 0),
    "(sign + 1) / 2": lambda z: (torch.sgn(z) + 1) / 2,
    "rectified z / |z|": lambda z: (z / z.abs()).relu(),
    "z (1 / |z|) in two calls": lambda z: (1 + z * (1 / z.abs())) / 2,
    "copysign": lambda z: torch.copysign(torch.full_like(z, 0.5), z) + 0.5,
    "signbit": lambda z: 1 - torch.signbit(z).to(z),
    "rounded sigmoid": lambda z: torch.sigmoid(z).round(),
    "floor": lambda z: torch.floor(z.sigmoid() + 0.5),
}
SIGNS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": torch.sign,
    "sgn": lambda z: z.sgn(),
    "z / |z|": lambda z: z / z.abs(),
    "z (1 / |z|)": lambda z: z * (1 / z.abs()),
    "|z| / z": lambda z: z.abs() / z,
    "copysign": lambda z: torch.copysign(torch.ones_like(z), z),
    "where of numbers": lambda z: torch.where(z > 0, 1.0, -1.0),
    "difference of masks": lambda z: (z > 0).double() - (z < 0).double(),
    "2 step - 1": lambda z: 2 * z.sign().relu() - 1,
    "z / √z²": lambda z: z * (z * z).rsqrt(),
    "z (z²) ** -½": lambda z: z * z.pow(2) ** -0.5,
}


def _switch(d: int) -> nn.Module:
    return Parts(z=nn.Linear(d, d), signal=nn.Linear(d, d))


for _name, _first, _table in (
    ("switched", lambda z, y: torch.where(z > 0, y, 0.0), SWITCHES),
    ("switched in sign", lambda z, y: torch.where(z > 0, y, -y), SIGNS),
):
    meaning(_name, "features", _switch, lambda m, x, first=_first: first(m.z(x), m.signal(x))).also(
        GATE, **{n: lambda m, x, f=f: m.signal(x) * f(m.z(x)) for n, f in _table.items()}
    )


BLEND = meaning(
    "a blend with a constant",
    "features",
    lambda d: Parts(z=nn.Linear(d, d), signal=nn.Linear(d, d), rest=nn.Linear(1, d)),
    lambda m, x: _blended(m, x, lambda z, n, u: (1 - z) * n + z * u),
)


def _blended(m: Any, x: Tensor, write: Callable[..., Tensor]) -> Tensor:
    return write(torch.sigmoid(m.z(x)), torch.tanh(m.signal(x)), m.rest.bias)


BLEND.also(
    GATE,
    **{
        name: lambda m, x, f=f: _blended(m, x, f)
        for name, f in {
            "by the difference": lambda z, n, u: n + z * (u - n),
            "from the constant": lambda z, n, u: u + (1 - z) * (n - u),
            "less": lambda z, n, u: n - z * (n - u),
            "lerp": lambda z, n, u: torch.lerp(n, u.expand_as(n), z),
            "constant first": lambda z, n, u: u * z + n - n * z,
        }.items()
    },
)
PLACED = meaning(
    "a gate in some places",
    "vector",
    lambda d: Parts(z=nn.Linear(d, d), signal=nn.Linear(d, d)),
    lambda m, x: F.pad(torch.sigmoid(m.z(x))[:, 1:], (1, 0)) * m.signal(x),
)


def _placed(write: Callable[[Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(torch.sigmoid(m.z(x))) * m.signal(x)


PLACED.also(
    GATE,
    **{
        "cat": _placed(lambda g: torch.cat([torch.zeros(g.shape[0], 1).double(), g[:, 1:]], 1)),
        "mask": _placed(lambda g: g * (torch.arange(g.shape[1]) > 0)),
        "index_copy": _placed(
            lambda g: torch.zeros_like(g).index_copy(1, torch.arange(1, g.shape[1]), g[:, 1:])
        ),
        "scatter": _placed(
            lambda g: torch.zeros_like(g).scatter(
                1, torch.arange(1, g.shape[1]).expand(g.shape[0], -1), g[:, 1:]
            )
        ),
        "slice_scatter": _placed(lambda g: torch.zeros_like(g).slice_scatter(g[:, 1:], 1, 1)),
    },
)


def _decaying(d: int) -> nn.Module:
    return Parts(z=nn.Linear(d, d), signal=nn.Linear(d, d), rate=shaken(nn.LayerNorm(d)))


DECAY = meaning(  # of a state space: softplus(z) is a time, exp(a) a rate
    "decay",
    "features",
    _decaying,
    lambda m, x: torch.exp(-m.rate.weight.exp() * F.softplus(m.z(x))) * m.signal(x),
)
DECAY.also(
    GATE,
    **{
        "time first": lambda m, x: m.signal(x) * (F.softplus(m.z(x)) * -m.rate.weight.exp()).exp(),
        "negated last": lambda m, x: (
            torch.exp(-(m.rate.weight.exp() * F.softplus(m.z(x)))) * m.signal(x)
        ),
        "power of a sigmoid": lambda m, x: (
            torch.exp(F.logsigmoid(-m.z(x)) * m.rate.weight.exp()) * m.signal(x)
        ),
        "divided": lambda m, x: m.signal(x) / torch.exp(F.softplus(m.z(x)) * m.rate.weight.exp()),
    },
)
GLU = meaning(
    "gated linear unit",
    "features",
    lambda d: Parts(both=nn.Linear(d, 2 * d), glu=nn.GLU(-1)),
    lambda m, x: m.glu(m.both(x)),
)


def _by_halves(m: Any, x: Tensor, gates: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    signal, z = m.both(x).chunk(2, -1)
    return signal * gates(z)[0]


GLU.also(
    GATE,
    **{"F.glu": lambda m, x: F.glu(m.both(x), -1)},
    **{name: lambda m, x, f=f: _by_halves(m, x, f) for name, f in SIGMOIDS.items()},
)


def _excited(
    m: Any, x: Tensor, gates: Callable[[Tensor], tuple[Tensor, Tensor]], mean: Tensor
) -> Tensor:
    return x * gates(m.z(mean))[0].reshape(x.shape[0], -1, 1, 1)


for _name, _make, _table in (
    ("squeeze-excitation", nn.Sigmoid, SIGMOIDS),
    ("hard squeeze-excitation", nn.Hardsigmoid, HARD_SIGMOIDS),
):
    meaning(
        _name,
        "image",
        lambda d, make=_make: Parts(pool=nn.AdaptiveAvgPool2d(1), z=nn.Linear(d, d), gate=make()),
        lambda m, x: x * m.gate(m.z(m.pool(x).flatten(1))).unsqueeze(-1).unsqueeze(-1),
    ).also(
        GATE,
        **{name: lambda m, x, f=f: _excited(m, x, f, x.mean((2, 3))) for name, f in _table.items()},
        **{
            "gate expanded": lambda m, x: (
                m.gate(m.z(x.flatten(2).mean(-1)))[..., None, None].expand_as(x) * x
            ),
            "gate divided off": lambda m, x: x / (1 / m.gate(m.z(x.mean((2, 3)))))[..., None, None],
        },
    )

# --- softmax --------------------------------------------------------------------------------------

SOFTMAX = "softmax in other words"
SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "F.softmax": lambda z: F.softmax(z, -1),
    "method": lambda z: z.softmax(dim=-1),
    "exp / sum of exp": lambda z: z.exp() / z.exp().sum(-1, keepdim=True),
    "exp once": lambda z: (lambda e: e / torch.sum(e, -1, True))(torch.exp(z)),
    "maximum subtracted": lambda z: (lambda e: e / e.sum(-1, keepdim=True))(
        torch.exp(z - z.amax(-1, keepdim=True))
    ),
    "detached maximum": lambda z: F.softmax(z - z.max(-1, keepdim=True)[0].detach(), -1),
    "exp(log_softmax)": lambda z: z.log_softmax(-1).exp(),
    "exp(z - logsumexp)": lambda z: torch.exp(z - z.logsumexp(-1, keepdim=True)),
    "F.normalize": lambda z: F.normalize(z.exp(), p=1, dim=-1),
    "transposed": lambda z: z.unsqueeze(1).transpose(1, -1).softmax(1).transpose(1, -1).squeeze(1),
}
EXPERTS = meaning(
    "experts",
    "features",
    lambda d: Parts(
        router=nn.Linear(d, 2), softmax=nn.Softmax(-1), one=nn.Linear(d, d), two=nn.Linear(d, d)
    ),
    lambda m, x: _mixed(m, x, m.softmax),
)


def _mixed(m: Any, x: Tensor, softmax: Callable[[Tensor], Tensor]) -> Tensor:
    weights = softmax(m.router(x))
    return weights[..., :1] * m.one(x) + weights[..., 1:] * m.two(x)


EXPERTS.also(SOFTMAX, **{k: lambda m, x, f=f: _mixed(m, x, f) for k, f in SOFTMAXES.items()})
EXPERTS.also(
    SOFTMAX,
    **{
        "stacked": lambda m, x: (
            m.softmax(m.router(x)).unsqueeze(-1) * torch.stack([m.one(x), m.two(x)], -2)
        ).sum(-2),
        "sigmoid of the difference": lambda m, x: (lambda g: g * m.one(x) + (1 - g) * m.two(x))(
            torch.sigmoid(m.router(x)[..., :1] - m.router(x)[..., 1:])
        ),
        "shares of two exponentials": lambda m, x: (
            lambda e, f: e / (e + f) * m.one(x) + f / (e + f) * m.two(x)
        )(*m.router(x).exp().split(1, -1)),
        "divided at once": lambda m, x: (lambda e, f: (e * m.one(x) + f * m.two(x)) / (e + f))(
            *(each.exp() for each in m.router(x).split(1, -1))
        ),
    },
)

# --- weighted sums --------------------------------------------------------------------------------

WEIGHTED = "weighted sums"


def _weighed(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (N, T, 1), and what they weight (N, T, D)."""
    return m.weigh(m.score(x)), m.value(x)


def _weighted(write: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(*_weighed(m, x))


WEIGHTED_SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matmul": lambda w, h: (w.mT @ h).squeeze(1),
    "matmul, values first": lambda w, h: (h.mT @ w).squeeze(-1),
    "bmm": lambda w, h: torch.bmm(w.transpose(1, 2), h)[:, 0],
    "einsum": lambda w, h: torch.einsum("nto,ntd->nd", w, h),
    "einsum of three indices": lambda w, h: torch.einsum("nt,ntd->nd", w.squeeze(-1), h),
    "mean times n": lambda w, h: (h * w).mean(1) * TOKENS,
    "one by one": lambda w, h: sum(w[:, t] * h[:, t] for t in range(TOKENS)),  # type: ignore[misc]
    "transposed": lambda w, h: (w.squeeze(-1).unsqueeze(1) * h.mT).sum(-1),
    "masked": lambda w, h: w.masked_fill(torch.zeros(TOKENS, 1, dtype=torch.bool), 0).mT.matmul(h)[
        :, 0
    ],
}
for _name, _make in {"softmax": lambda: nn.Softmax(1), "sigmoid": nn.Sigmoid}.items():
    meaning(
        f"sum weighted by a {_name}",
        "tokens",
        lambda d, make=_make: Parts(score=nn.Linear(d, 1), weigh=make(), value=nn.Linear(d, d)),
        _weighted(lambda w, h: (w * h).sum(1)),
        result="vector",
    ).also(WEIGHTED, **{k: _weighted(f) for k, f in WEIGHTED_SUMS.items()})


def _divided_behind(write: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Of ``exp(z)``, with the maximum taken off, and the values."""

    def whole(m: Any, x: Tensor) -> Tensor:
        z = m.score(x)
        return write((z - z.amax(1, keepdim=True)).exp(), m.value(x))

    return whole


MEANINGS["sum weighted by a softmax"].also(
    SOFTMAX,
    **{
        "divided behind the sum": lambda m, x: (lambda e, h: (e * h).sum(1) / e.sum(1))(
            m.score(x).exp(), m.value(x)
        ),
        "maximum subtracted, divided behind the sum": _divided_behind(
            lambda e, h: (h * e).sum(1, keepdim=True).squeeze(1) / e.sum(dim=1)
        ),
        "divided behind matmul": _divided_behind(
            lambda e, h: (e.mT @ h / e.sum(1, keepdim=True)).squeeze(1)
        ),
        "divided behind bmm": _divided_behind(
            lambda e, h: torch.bmm(e.transpose(1, 2), h).squeeze(1) / e.sum(1)
        ),
        "divided behind einsum": _divided_behind(
            lambda e, h: torch.einsum("nto,ntd->nd", e, h) / (e.sum(1) + 1e-12)
        ),
        "multiplied before": _divided_behind(lambda e, h: (e * h / e.sum(1, keepdim=True)).sum(1)),
        "times one over the sum": _divided_behind(lambda e, h: (e * h).sum(1) * (1 / e.sum(1))),
    },
)

# --- products -------------------------------------------------------------------------------------

PRODUCT = "products re-associated, commuted"
THREE = meaning(
    "product of three",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d), c=nn.Linear(d, d), act=nn.Tanh()),
    lambda m, x: m.act(m.a(x)) * m.b(x) * m.c(x),
)


def _factors(m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return m.act(m.a(x)), m.b(x), m.c(x)


def _three(write: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(*_factors(m, x))


THREE.also(
    PRODUCT,
    **{
        "a (b c)": _three(lambda a, b, c: a * (b * c)),
        "b (a c)": _three(lambda a, b, c: b * (a * c)),
        "torch.mul": _three(lambda a, b, c: torch.mul(torch.mul(c, a), b)),
        "in place": _three(lambda a, b, c: (b * 1).mul_(c).mul_(a)),
        "views between": _three(lambda a, b, c: (a * b).unsqueeze(1).squeeze(1).contiguous() * c),
        "constants between": _three(lambda a, b, c: (a * 2 * b) * (c / 2)),
        "signs between": _three(lambda a, b, c: -(a * b) * -c),
    },
)
OPPOSITE = meaning(
    "negative product",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d), act=nn.Tanh()),
    lambda m, x: -(m.act(m.a(x)) * m.b(x)),
)
OPPOSITE.also(
    PRODUCT,
    **{
        name: lambda m, x, f=f: f(m.a(x), m.b(x))
        for name, f in {
            "(-a) b": lambda a, b: -a.tanh() * b,
            "sign inside": lambda a, b: (-a).tanh() * b,
            "a (-b)": lambda a, b: a.tanh() * (b * -1),
            "sign behind a view": lambda a, b: a.tanh() * (-b.unsqueeze(1)).squeeze(1),
            "all three": lambda a, b: -((-a).tanh() * -b),
        }.items()
    },
)
GATED_PRODUCT = meaning(
    "gated product of two",
    "features",
    lambda d: Parts(
        a=nn.Linear(d, d), b=nn.Linear(d, d), z=nn.Linear(d, d), act=nn.Tanh(), gate=nn.Sigmoid()
    ),
    lambda m, x: m.gate(m.z(x)) * m.act(m.a(x)) * m.b(x),
)


def _gated(write: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(m.gate(m.z(x)), m.act(m.a(x)), m.b(x))


GATED_PRODUCT.also(
    PRODUCT,
    **{
        "g (a b)": _gated(lambda g, a, b: g * (a * b)),
        "a (g b)": _gated(lambda g, a, b: a * (g * b)),
        "(a b) g": _gated(lambda g, a, b: (a * b).mul_(g)),
        "divided": _gated(lambda g, a, b: a * b / (1 / g)),
    },
)
SWIGLU = meaning(
    "SwiGLU",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d), act=nn.SiLU()),
    lambda m, x: m.act(m.a(x)) * m.b(x),
)
SWIGLU.also(
    PRODUCT,
    **{
        "F.silu": lambda m, x: m.b(x) * F.silu(m.a(x)),
        "written out": lambda m, x: (lambda a: a * a.sigmoid() * m.b(x))(m.a(x)),
        "other bracketing": lambda m, x: (lambda a: a * (a.sigmoid() * m.b(x)))(m.a(x)),
    },
)
SQUARE = meaning("square", "features", lambda d: nn.Linear(d, d), lambda m, x: m(x).square())
SQUARE.also(
    PRODUCT,
    **{
        "power": lambda m, x: m(x) ** 2,
        "pow": lambda m, x: torch.pow(m(x), 2),
        "y * y": lambda m, x: (lambda y: y * y)(m(x)),
        "y y with views": lambda m, x: (lambda y: y.unsqueeze(1) * y.unsqueeze(1))(m(x)).squeeze(1),
    },
)
QUOTIENT = meaning(
    "quotient",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d), act=nn.Tanh()),
    lambda m, x: m.a(x) / (3 + m.act(m.b(x))),
)
QUOTIENT.also(
    PRODUCT,
    **{
        "times one over": lambda m, x: m.a(x) * (1 / (3 + m.act(m.b(x)))),
        "reciprocal": lambda m, x: (3 + m.act(m.b(x))).reciprocal() * m.a(x),
        "power": lambda m, x: m.a(x) * (m.act(m.b(x)) + 3) ** -1,
        "torch.div": lambda m, x: torch.div(m.a(x), torch.add(m.act(m.b(x)), 3)),
    },
)

# --- sums -----------------------------------------------------------------------------------------

SUM = "sums re-ordered"
SUMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "a + (b + c)": lambda a, b, c: a + (b + c),
    "c + a + b": lambda a, b, c: c + a + b,
    "torch.add": lambda a, b, c: torch.add(torch.add(b, c), a),
    "method": lambda a, b, c: b.add(a).add(c),
    "in place": lambda a, b, c: a.clone().add_(b).add_(c),
    "augmented": lambda a, b, c: _augmented(a, b, c),
    "sum()": lambda a, b, c: sum([a, b, c]),  # type: ignore[return-value,arg-type]
    "stacked": lambda a, b, c: torch.stack([a, b, c]).sum(0),
    "mean of three": lambda a, b, c: torch.stack([a, b, c], -1).mean(-1) * 3,
    "negative subtracted": lambda a, b, c: a - (-b) + c,
    "alpha": lambda a, b, c: torch.add(a + b, c / 2, alpha=2),
    "twice the half": lambda a, b, c: 2 * (a / 2 + b / 2 + c / 2),
    "concatenated": lambda a, b, c: torch.cat(
        [a.unsqueeze(1), b.unsqueeze(1), c.unsqueeze(1)], 1
    ).sum(1),
}


def _augmented(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    y = a + b
    y += c
    return y


DIFFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a + (-b)": lambda a, b: a + (-b),
    "neg": lambda a, b: torch.neg(b) + a,
    "-(b - a)": lambda a, b: -(b - a),
    "alpha": lambda a, b: torch.add(a, b, alpha=-1),
    "torch.sub": lambda a, b: torch.sub(a, b),
    "rsub": lambda a, b: torch.rsub(b, a),
    "in place": lambda a, b: a.clone().sub_(b),
    "a + b * -1": lambda a, b: a + b * -1,
    "stacked": lambda a, b: torch.stack([a, -b]).sum(0),
    "taken away twice": lambda a, b: a - 2 * b - (-b),
    "turned twice": lambda a, b: a - b.neg().neg(),
}
LESS = meaning(
    "a layer less another",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d)),
    lambda m, x: m.a(x).relu() - m.b(x),
)
LESS.also(
    SUM,
    **{
        "the negative added": lambda m, x: m.a(x).relu() + (-m.b(x)),
        "negative weights": lambda m, x: m.a(x).relu() + F.linear(x, -m.b.weight, -m.b.bias),
        "the difference turned round": lambda m, x: -(m.b(x) - m.a(x).relu()),
        "negative weights taken away twice": lambda m, x: (
            m.a(x).relu() - (-F.linear(x, -m.b.weight, -m.b.bias))
        ),
    },
)
for _space in ("vector", "tokens", "image"):
    meaning(
        f"sum of three in {_space}", _space, _nothing, lambda m, a, b, c: a + b + c, operands=3
    ).also(SUM, **{k: lambda m, a, b, c, f=f: f(a, b, c) for k, f in SUMS.items()})
    meaning(f"difference in {_space}", _space, _nothing, lambda m, a, b: a - b, operands=2).also(
        SUM, **{k: lambda m, a, b, f=f: f(a, b) for k, f in DIFFERENCES.items()}
    )
GROWTH = meaning(
    "a sum with a function less its value at rest",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d)),
    lambda m, x: m.b(x).relu() + m.a(x).expm1(),
)
GROWTH.also(
    SUM,
    **{
        "beside its function": lambda m, x: m.b(x).relu() + (m.a(x).exp() - 1),
        "at the end": lambda m, x: m.b(x).relu() + m.a(x).exp() - 1,
        "at the beginning": lambda m, x: (-1 + m.b(x).relu()) + torch.exp(m.a(x)),
        "a tensor": lambda m, x: m.b(x).relu() + m.a(x).exp() - torch.tensor(1.0),
        "a tensor of ones": lambda m, x: (m.a(x).exp() - torch.ones(x.shape[-1])) + m.b(x).relu(),
        "twice": lambda m, x: torch.relu(m.b(x)) - (2 - (m.a(x).expm1() + 1) - 1),
    },
)
COMPLEMENT = meaning(
    "a residual complement",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d)),
    lambda m, x: m.b(x) + torch.sigmoid(-m.a(x)),
)
COMPLEMENT.also(
    SUM,
    **{
        "one less": lambda m, x: m.b(x) + (1 - torch.sigmoid(m.a(x))),
        "one at the beginning": lambda m, x: 1 + m.b(x) - m.a(x).sigmoid(),
        "twice": lambda m, x: m.b(x) - ((1 - (1 - m.a(x).sigmoid())) - 1),
    },
)
BOTH_GROW = meaning(
    "a sum of two functions, each less its value at rest",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d)),
    lambda m, x: x + m.a(x).expm1() + m.b(x).expm1(),
)
BOTH_GROW.also(
    SUM,
    **{
        "one number": lambda m, x: m.a(x).exp() + m.b(x).exp() + x - 2,
        "one by one": lambda m, x: x + m.a(x).exp() - 1 + m.b(x).exp() - 1,
        "half of twice": lambda m, x: (2 * m.a(x).exp() + 2 * x - 4 + 2 * m.b(x).exp()) / 2,
    },
)
ODD = meaning(
    "a residual tanh",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), b=nn.Linear(d, d)),
    lambda m, x: m.b(x) + m.a(x).tanh(),
)
ODD.also(
    SUM,
    **{
        "less that of the negative": lambda m, x: m.b(x) - torch.tanh(-m.a(x)),
        "half the difference of sigmoids": lambda m, x: (
            m.b(x) + (2 * m.a(x)).sigmoid() * 2 - 0.5 - 0.5
        ),
        "one less two sigmoids": lambda m, x: m.b(x) + 1 - 2 * torch.sigmoid(-2 * m.a(x)),
        "by a sigmoid, the number last": lambda m, x: m.b(x) + 2 * (2 * m.a(x)).sigmoid() - 1,
    },
)
SHARED: dict[str, tuple[Callable[..., Tensor], dict[str, Callable[..., Tensor]]]] = {
    "a product and one more factor": (
        lambda a, b, c, u: a * b * (c + 1),
        {
            "multiplied out": lambda a, b, c, u: a * b * c + a * b,
            "the sum first": lambda a, b, c, u: (1 + c) * a * b,
        },
    ),
    "a factor of a constant and a value": (
        lambda a, b, c, u: b * (u + a) + 1 / (2 + c.square()),
        {
            "multiplied out": lambda a, b, c, u: b * u + b * a + 1 / (2 + c**2),
            "by a quotient": lambda a, b, c, u: a * b + (2 + c * c).reciprocal() + b / (1 / u),
        },
    ),
    "a modulation": (
        lambda a, b, c, u: (a * b).relu() + a * (1 + b),
        {
            "one product": lambda a, b, c, u: (lambda p: p.relu() + a + p)(a * b),
            "two products": lambda a, b, c, u: (a * b).relu() + a + b * a,
            "with what cancels": lambda a, b, c, u: (a * b).relu() + a + 2 * a * b - b * a,
        },
    ),
    "a square and a product": (
        lambda a, b, c, u: a.square() * b + a * b * c,
        {
            "a a": lambda a, b, c, u: a * a * b + a * b * c,
            "factored": lambda a, b, c, u: a * b * (c + a),
        },
    ),
    "a common divisor": (
        lambda a, b, c, u: (a + b) / (1 + c.abs()),
        {"one by one": lambda a, b, c, u: a / (1 + c.abs()) + b / (1 + c.abs())},
    ),
    "a normed product": (
        lambda a, b, c, u: (lambda y: y * (y.square().mean(-1, True) + 1e-6).rsqrt())(a * b),
        {
            "computed twice": lambda a, b, c, u: (
                (a * b) * torch.rsqrt((a * b).pow(2).mean(-1, keepdim=True) + 1e-6)
            )
        },
    ),
}


def _of_three(write: Callable[..., Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(m.a(x), m.b(x), m.c(x), m.u.bias)


for _name, (_first, _others) in SHARED.items():
    meaning(
        _name,
        "features",
        lambda d: Parts(
            a=nn.Linear(d, d), b=nn.Linear(d, d), c=nn.Linear(d, d), u=shaken(nn.LayerNorm(d))
        ),
        _of_three(_first),
    ).also(PRODUCT, **{k: _of_three(f) for k, f in _others.items()})
CROSS = meaning(
    "weighted sum times its own value",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), weigh=nn.Linear(d, 1, bias=False)),
    lambda m, x: (lambda y: y * m.weigh(y))(m.a(x)),
)


def _crossed(write: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(m.a(x), m.weigh.weight[0])


CROSS.also(
    PRODUCT,
    **{
        "sum": _crossed(lambda y, w: y * (y * w).sum(-1, keepdim=True)),
        "weights first": _crossed(lambda y, w: (w * y).sum(-1).unsqueeze(-1) * y),
        "mean times n": _crossed(lambda y, w: y * (y * w).mean(-1, True) * w.shape[0]),
        "y @ w": _crossed(lambda y, w: y * (y @ w).unsqueeze(-1)),
        "y @ column": _crossed(lambda y, w: (y @ w[:, None]) * y),
        "einsum": _crossed(lambda y, w: y * torch.einsum("...d,d->...", y, w)[..., None]),
        "einsum of three": _crossed(lambda y, w: torch.einsum("...i,...j,j->...i", y, y, w)),
    },
)
COSINE = meaning(
    "cosines with rows",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), rows=nn.Linear(d, d, bias=False)),
    lambda m, x: F.linear(F.normalize(m.a(x), dim=-1), F.normalize(m.rows.weight)),
)


def _cosines(write: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Of values and rows of norm one."""
    return lambda m, x: write(m.a(x), F.normalize(m.rows.weight))


COSINE.also(
    NORM,
    **{
        "divided behind": _cosines(lambda v, w: (v @ w.T) / v.norm(dim=-1, keepdim=True)),
        "divided before": _cosines(lambda v, w: v / v.norm(dim=-1, keepdim=True) @ w.T),
        "linalg": _cosines(
            lambda v, w: F.linear(v, w) / torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        ),
        "rsqrt behind": _cosines(
            lambda v, w: F.linear(v, w) * v.square().sum(-1, keepdim=True).rsqrt()
        ),
        "scaled": _cosines(lambda v, w: 4 * (v @ w.T) / v.norm(dim=-1)[..., None] / 4),
        "both norms behind": lambda m, x: (
            lambda v, w: (v @ w.T) / (v.norm(dim=-1, keepdim=True) * w.norm(dim=1))
        )(m.a(x), m.rows.weight),
        "cosine_similarity": lambda m, x: F.cosine_similarity(
            m.a(x).unsqueeze(-2), m.rows.weight, dim=-1
        ),
        "einsum": _cosines(
            lambda v, w: torch.einsum("...d,od->...o", v, w) / v.norm(dim=-1, keepdim=True)
        ),
        "entry by entry": _cosines(
            lambda v, w: (v.unsqueeze(-2) * w).sum(-1) / v.norm(dim=-1, keepdim=True)
        ),
    },
)

# --- a value and its products ---------------------------------------------------------------------

MODULATED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "y + y g": lambda y, g: y + y * g,
    "y + g y": lambda y, g: y + g * y,
    "y g + y": lambda y, g: y * g + y,
    "(1 + g) y": lambda y, g: (1 + g) * y,
    "(g + 1) y": lambda y, g: g.add(1).mul(y),
    "addcmul": lambda y, g: torch.addcmul(y, y, g),
    "in place": lambda y, g: y.clone().mul_(1 + g),
    "augmented": lambda y, g: _augmented(y, y * g, torch.zeros_like(y)),
    "y + y g / 2 * 2": lambda y, g: y + y * g / 2 * 2,
    "2 y - y (1 - g)": lambda y, g: 2 * y - y * (1 - g),
    "negative subtracted": lambda y, g: y - y * -g,
    "y (2 - (1 - g))": lambda y, g: y * (2 - (1 - g)),
}
MODULATIONS: dict[str, Callable[[], nn.Module]] = {
    "gate": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "layer": nn.Identity,
}
BY_A_FACTOR = ("(1 + g) y", "(g + 1) y", "in place", "y (2 - (1 - g))")
"""The sum of y and y times a gate is another meaning: 1 + g never closes, and is no gate."""
for _name, _make in MODULATIONS.items():
    meaning(
        f"residual {_name}",
        "features",
        lambda d, make=_make: Parts(a=nn.Linear(d, d), z=nn.Linear(d, d), act=make()),
        lambda m, x: m.a(x) * (1 + m.act(m.z(x))),
    ).also(
        GATE if _name == "gate" else PRODUCT,
        **{
            name: lambda m, x, f=f: f(m.a(x), m.act(m.z(x)))
            for name, f in MODULATED.items()
            if _name != "gate" or name in BY_A_FACTOR
        },
    )
FILM = meaning(
    "scale and shift by a condition",
    "features",
    lambda d: Parts(a=nn.Linear(d, d), z=nn.Linear(d, 2 * d), act=nn.SiLU()),
    lambda m, x: (lambda y, s: y * (1 + s[0]) + s[1])(m.a(x), m.act(m.z(x)).chunk(2, -1)),
)


def _film(write: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: write(m.a(x), *m.act(m.z(x)).chunk(2, -1))


FILM.also(
    PRODUCT,
    **{
        "y + y g + b": _film(lambda y, g, b: y + y * g + b),
        "y + (b + g y)": _film(lambda y, g, b: y + (b + g * y)),
        "b + y + y g": _film(lambda y, g, b: b + y + y * g),
        "addcmul": _film(lambda y, g, b: torch.addcmul(b, y, 1 + g)),
        "two addcmul": _film(lambda y, g, b: torch.addcmul(y, y, g).add(b)),
    },
)

# --- pooling --------------------------------------------------------------------------------------

POOLING = "pooling"
GLOBAL_MEAN = meaning(
    "global mean",
    "image",
    lambda d: nn.AdaptiveAvgPool2d(1),
    lambda m, x: m(x).flatten(1),
    result="vector",
)
GLOBAL_MEAN.also(
    POOLING,
    **{
        "mean": lambda m, x: x.mean((2, 3)),
        "mean of means": lambda m, x: x.mean(3).mean(2),
        "flattened": lambda m, x: torch.mean(x.flatten(2), -1),
        "sum over n": lambda m, x: x.sum((2, 3)) / SIDE**2,
        "avg_pool2d": lambda m, x: F.avg_pool2d(x, SIDE).flatten(1),
        "keepdim": lambda m, x: x.mean((-2, -1), keepdim=True).squeeze(-1).squeeze(-1),
        "pooled twice": lambda m, x: F.avg_pool2d(F.avg_pool2d(x, 2), 2)[:, :, 0, 0],
    },
)
TOKENS_OF_IMAGE = meaning(
    "tokens of an image",
    "image",
    lambda d: nn.MaxPool2d(2),
    lambda m, x: m(x).flatten(2).transpose(1, 2),
    result="tokens",
)
TOKENS_OF_IMAGE.also(
    POOLING,
    **{
        "F.max_pool2d": lambda m, x: F.max_pool2d(x, 2, 2).flatten(2).mT,
        "adaptive": lambda m, x: F.adaptive_max_pool2d(x, 2).flatten(2).permute(0, 2, 1),
        "amax": lambda m, x: (
            x.reshape(x.shape[0], -1, 2, 2, 2, 2).amax((3, 5)).flatten(2).transpose(1, 2)
        ),
        "max twice": lambda m, x: (
            x.unflatten(3, (2, 2)).max(4)[0].unflatten(2, (2, 2)).max(3).values.flatten(2).mT
        ),
        "with indices": lambda m, x: (
            F.max_pool2d(x, 2, return_indices=True)[0].flatten(2).transpose(1, 2)
        ),
    },
)
MEAN_TOKENS = meaning("mean of tokens", "tokens", _nothing, lambda m, x: x.mean(1), result="vector")
MEAN_TOKENS.also(
    POOLING,
    **{
        "sum over n": lambda m, x: x.sum(1) / TOKENS,
        "adaptive": lambda m, x: F.adaptive_avg_pool1d(x.transpose(1, 2), 1).squeeze(-1),
        "divided first": lambda m, x: (x / TOKENS).sum(dim=1),
        "one after the other": lambda m, x: (x[:, 0] + x[:, 1] + x[:, 2] + x[:, 3]) / 4,
        "transposed": lambda m, x: torch.mean(x.mT, -1),
    },
)
MAX_TOKENS = meaning(
    "maximum of tokens", "tokens", _nothing, lambda m, x: x.amax(1), result="vector"
)
MAX_TOKENS.also(
    POOLING,
    **{
        "max": lambda m, x: x.max(1)[0],
        "values": lambda m, x: torch.max(x, dim=1).values,
        "adaptive": lambda m, x: F.adaptive_max_pool1d(x.transpose(1, 2), 1).squeeze(-1),
        "max_pool1d": lambda m, x: F.max_pool1d(x.transpose(1, 2), TOKENS)[..., 0],
        "transposed": lambda m, x: x.transpose(1, 2).amax(-1),
    },
)
LAST_TOKEN = meaning("last token", "tokens", _nothing, lambda m, x: x[:, -1], result="vector")
LAST_TOKEN.also(
    POOLING,
    **{
        "select": lambda m, x: x.select(1, TOKENS - 1),
        "unbind": lambda m, x: x.unbind(1)[-1],
        "narrow": lambda m, x: x.narrow(1, TOKENS - 1, 1).squeeze(1),
        "time first": lambda m, x: x.transpose(0, 1)[-1],
        "flipped": lambda m, x: x.flip(1)[:, 0],
    },
)

# --- attention ------------------------------------------------------------------------------------

ATTENTION = "attention fused or written out"


def _heads(m: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys, values, (N, heads, T, D / heads) each."""
    qkv = F.linear(x, m.in_proj_weight, m.in_proj_bias)
    return tuple(each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in qkv.chunk(3, -1))


def _joined(m: Any, y: Tensor) -> Tensor:
    return m.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _by_heads(write: Callable[..., Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: _joined(m, write(*_heads(m, x)))


def _scale(q: Tensor) -> float:
    return float(q.shape[-1]) ** -0.5


def _in_parts(m: nn.MultiheadAttention) -> nn.Module:
    """Linear layers for query, key and value."""
    parts = {}
    for name, weight, bias in zip(
        "qkv", m.in_proj_weight.chunk(3), m.in_proj_bias.chunk(3), strict=True
    ):
        layer = nn.Linear(m.embed_dim, m.embed_dim).to(weight.dtype)
        layer.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        parts[name] = layer
    return Parts(**parts, out_proj=m.out_proj)


def _parts_attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = (f(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f in (m.q, m.k, m.v))
    return _joined(m, ((q @ k.mT) * _scale(q)).softmax(-1) @ v)


def _flat_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a, b, c = (each.flatten(0, 1) for each in (q, k, v))
    return torch.bmm(torch.bmm(a, b.mT).mul(_scale(q)).softmax(-1), c).unflatten(0, (-1, HEADS))


def _attention(d: int) -> nn.Module:
    return nn.MultiheadAttention(d, HEADS, batch_first=True)


def _value_by_value(weights: Tensor, v: Tensor) -> Tensor:
    total = weights[..., :1] * v[..., :1, :]
    for j in range(1, TOKENS):
        total = total + weights.narrow(-1, j, 1) * v[..., j : j + 1, :]
    return total


def _shared_heads(attend: Callable[..., Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Several heads of queries, and one of keys and values."""

    def write(m: Any, x: Tensor) -> Tensor:
        q = m.q(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        k, v = m.k(x).unsqueeze(1), m.v(x).unsqueeze(1)
        return attend(q, k, v).transpose(1, 2).flatten(2)

    return write


ATTEND = meaning("attention", "tokens", _attention, lambda m, x: m(x, x, x, need_weights=False)[0])
ATTEND.also(
    ATTENTION,
    **{
        "with weights": lambda m, x: m(x, x, x)[0],
        "fused": _by_heads(F.scaled_dot_product_attention),
        "scaled behind": _by_heads(lambda q, k, v: ((q @ k.mT) * _scale(q)).softmax(-1) @ v),
        "divided behind": _by_heads(
            lambda q, k, v: torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), -1) @ v
        ),
        "scaled before": _by_heads(
            lambda q, k, v: torch.matmul(((q * _scale(q)) @ k.mT).softmax(-1), v)
        ),
        "both scaled": _by_heads(
            lambda q, k, v: ((q * _scale(q) ** 0.5) @ (k * _scale(q) ** 0.5).mT).softmax(-1) @ v
        ),
        "key scaled, fused": _by_heads(
            lambda q, k, v: F.scaled_dot_product_attention(q, k * _scale(q), v, scale=1.0)
        ),
        "einsum": _by_heads(
            lambda q, k, v: torch.einsum(
                "nhqk,nhkd->nhqd",
                (torch.einsum("nhqd,nhkd->nhqk", q, k) * _scale(q)).softmax(-1),
                v,
            )
        ),
        "bmm": _by_heads(_flat_bmm),
        "transposed": _by_heads(lambda q, k, v: (v.mT @ ((k @ q.mT) * _scale(q)).softmax(-2)).mT),
        "added up": _by_heads(
            lambda q, k, v: (
                (((q * _scale(q)).unsqueeze(-2) * k.unsqueeze(-3)).sum(-1)).softmax(-1)[..., None]
                * v.unsqueeze(-3)
            ).sum(-2)
        ),
        "values added up": _by_heads(
            lambda q, k, v: (
                (v.unsqueeze(2) * ((q @ k.mT) * _scale(q)).softmax(-1).unsqueeze(-1)).mean(3)
                * TOKENS
            )
        ),
        "scores added up": _by_heads(
            lambda q, k, v: (
                (k.unsqueeze(-3) * q.unsqueeze(-2)).sum(-1).mul(_scale(q)).softmax(-1) @ v
            )
        ),
        "value by value": _by_heads(
            lambda q, k, v: _value_by_value(((q @ k.mT) * _scale(q)).softmax(-1), v)
        ),
        "dropout between": _by_heads(
            lambda q, k, v: F.dropout(((q @ k.mT) * _scale(q)).softmax(-1), 0.1, False) @ v
        ),
    },
)
ATTEND.also(
    SOFTMAX,
    **{
        f"softmax by {name}": _by_heads(lambda q, k, v, f=f: f((q @ k.mT) * _scale(q)) @ v)
        for name, f in SOFTMAXES.items()
        if name != "transposed"
    },
)
ATTEND.also(
    SOFTMAX,
    **{
        "divided behind the values": _by_heads(
            lambda q, k, v: (lambda e: (e @ v) / e.sum(-1, keepdim=True))(
                ((q @ k.mT) * _scale(q)).exp()
            )
        ),
        "divided behind the sum": _by_heads(
            lambda q, k, v: (
                lambda e: (e.unsqueeze(-1) * v.unsqueeze(2)).sum(3) / e.sum(-1).unsqueeze(-1)
            )((q @ k.mT * _scale(q)).exp())
        ),
    },
)
ATTEND.also(ATTENTION, _in_parts, **{"three linear layers": _parts_attention})
SHARED_HEADS = meaning(
    "attention with shared heads",
    "tokens",
    lambda d: Parts(q=nn.Linear(d, d), k=nn.Linear(d, d // HEADS), v=nn.Linear(d, d // HEADS)),
    _shared_heads(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)),
)
SHARED_HEADS.also(
    ATTENTION,
    **{
        "repeated": _shared_heads(
            lambda q, k, v: F.scaled_dot_product_attention(
                q, k.repeat_interleave(HEADS, 1), v.repeat_interleave(HEADS, 1)
            )
        ),
        "expanded": _shared_heads(
            lambda q, k, v: (
                ((q @ k.expand(-1, HEADS, -1, -1).mT) * _scale(q)).softmax(-1)
                @ v.expand(-1, HEADS, -1, -1)
            )
        ),
        "broadcast": _shared_heads(lambda q, k, v: (q @ k.mT * _scale(q)).softmax(-1) @ v),
    },
)
HIDDEN = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
FLOAT_MASK = torch.zeros(TOKENS, TOKENS, dtype=torch.double).masked_fill(HIDDEN, -math.inf)


def _written(scores: Tensor) -> Tensor:
    scores = scores.clone()
    scores[:, :, HIDDEN] = -math.inf
    return scores


CAUSAL = meaning(
    "causal attention",
    "tokens",
    _attention,
    lambda m, x: m(x, x, x, need_weights=False, attn_mask=HIDDEN)[0],
)
CAUSAL.also(
    ATTENTION,
    **{
        "float mask": lambda m, x: m(x, x, x, attn_mask=FLOAT_MASK)[0],
        "is_causal": _by_heads(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        ),
        "fused, boolean mask": _by_heads(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, ~HIDDEN)
        ),
        "fused, float mask": _by_heads(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=FLOAT_MASK)
        ),
        "masked_fill": _by_heads(
            lambda q, k, v: ((q @ k.mT) * _scale(q)).masked_fill(HIDDEN, -math.inf).softmax(-1) @ v
        ),
        "mask added": _by_heads(
            lambda q, k, v: ((q @ k.mT) * _scale(q) + FLOAT_MASK).softmax(-1) @ v
        ),
        "large number added": _by_heads(
            lambda q, k, v: ((q @ k.mT) * _scale(q) - 1e9 * HIDDEN.double()).softmax(-1) @ v
        ),
        "where": _by_heads(
            lambda q, k, v: torch.where(HIDDEN, -math.inf, (q @ k.mT) * _scale(q)).softmax(-1) @ v
        ),
        "exponentials masked": _by_heads(
            lambda q, k, v: (
                (lambda e: e / e.sum(-1, keepdim=True))(
                    ((q @ k.mT) * _scale(q)).exp().masked_fill(HIDDEN, 0)
                )
                @ v
            )
        ),
        "scores written": _by_heads(
            lambda q, k, v: _written((q @ k.mT) * _scale(q)).softmax(-1) @ v
        ),
        "exponentials times a mask": _by_heads(
            lambda q, k, v: (
                (lambda e: e / e.sum(-1, keepdim=True))(
                    ((q @ k.mT) * _scale(q)).exp() * (~HIDDEN).double()
                )
                @ v
            )
        ),
        "exponentials of a triangle": _by_heads(
            lambda q, k, v: (lambda e: (e / (e.sum(-1) + 1e-12)[..., None]) @ v)(
                ((q @ k.mT) * _scale(q)).exp().tril()
            )
        ),
        "a softmax masked and divided again": _by_heads(
            lambda q, k, v: (
                F.normalize(((q @ k.mT) * _scale(q)).softmax(-1) * ~HIDDEN, p=1, dim=-1, eps=1e-12)
                @ v
            )
        ),
        "exponentials masked, divided behind": _by_heads(
            lambda q, k, v: (lambda e: (e @ v) / e.sum(-1, keepdim=True))(
                torch.where(~HIDDEN, ((q @ k.mT) * _scale(q)).exp(), 0.0)
            )
        ),
        "large number by where": _by_heads(
            lambda q, k, v: torch.where(~HIDDEN, (q @ k.mT) * _scale(q), -1e9).softmax(-1) @ v
        ),
    },
)

# --- recurrences ----------------------------------------------------------------------------------

RECURRENCE = "recurrences unrolled"


def _cell(layer: nn.RNNBase) -> nn.Module:
    """The cell with the parameters of a layer."""
    make = {"GRU": nn.GRUCell, "LSTM": nn.LSTMCell, "RNN_TANH": nn.RNNCell}[layer.mode]
    cell = make(layer.input_size, layer.hidden_size).to(layer.weight_ih_l0.dtype)
    state = layer.state_dict()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in state.items()})
    return cell


def _looped(m: Any, x: Tensor) -> Tensor:
    state, outputs = None, []
    for t in range(TOKENS):
        state = m(x[:, t], state)
        outputs.append(state[0] if isinstance(m, nn.LSTMCell) else state)
    return torch.stack(outputs, 1)


def _unrolled(step: Callable[..., tuple[Tensor, ...]], states: int = 1) -> Callable[..., Tensor]:
    """The recurrence by ``step(m, x_t, *states)``."""

    def write(m: Any, x: Tensor) -> Tensor:
        state = tuple(x.new_zeros(x.shape[0], m.hidden_size) for _ in range(states))
        outputs = []
        for each in x.unbind(1):
            state = step(m, each, *state)
            outputs.append(state[0])
        return torch.stack(outputs, 1)

    return write


def _sums(m: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    return (
        F.linear(x, m.weight_ih_l0, m.bias_ih_l0),
        F.linear(h, m.weight_hh_l0, m.bias_hh_l0),
    )


def _gru(
    m: Any,
    x: Tensor,
    h: Tensor,
    mix: Callable[[Tensor, Tensor, Tensor], Tensor],
    gate: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> tuple[Tensor, ...]:
    (r, z, p), (r_h, z_h, u) = (each.chunk(3, -1) for each in _sums(m, x, h))
    return (mix(gate(z + z_h), torch.tanh(p + gate(r + r_h) * u), h),)


def _gru_mixed(mix: Callable[..., Tensor], *gate: Any) -> Callable[..., Tensor]:
    return _unrolled(lambda m, x, h: _gru(m, x, h, mix, *gate))


GRU = meaning("GRU", "tokens", lambda d: nn.GRU(d, d, batch_first=True), lambda m, x: m(x)[0])
GRU.also(RECURRENCE, _cell, **{"cells": _looped})
GRU.also(
    RECURRENCE,
    **{
        "written out": _gru_mixed(lambda z, n, h: (1 - z) * n + z * h),
        "by the difference": _gru_mixed(lambda z, n, h: n + z * (h - n)),
        "other complement": _gru_mixed(lambda z, n, h: z * h + (-z + 1) * n),
        "gates by exp": _gru_mixed(
            lambda z, n, h: (1 - z) * n + z * h, lambda z: 1 / (1 + torch.exp(-z))
        ),
        "gates by tanh": _gru_mixed(
            lambda z, n, h: (1 - z) * n + z * h, lambda z: 0.5 * torch.tanh(0.5 * z) + 0.5
        ),
        "time first": lambda m, x: torch.gru(
            x.transpose(0, 1),
            x.new_zeros(1, x.shape[0], m.hidden_size),
            [m.weight_ih_l0, m.weight_hh_l0, m.bias_ih_l0, m.bias_hh_l0],
            *(True, 1, 0.0, False, False, False),
        )[0].transpose(0, 1),
    },
)


def _lstm(
    m: Any, x: Tensor, h: Tensor, c: Tensor, gate: Callable[[Tensor], Tensor] = torch.sigmoid
) -> tuple[Tensor, ...]:
    i, f, g, o = sum(_sums(m, x, h)).chunk(4, -1)  # type: ignore[union-attr]
    c = gate(f) * c + gate(i) * torch.tanh(g)
    return gate(o) * c.tanh(), c


def _lstm_at_once(m: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    """One matrix for both inputs."""
    weight = torch.cat([m.weight_ih_l0, m.weight_hh_l0], 1)
    sums = F.linear(torch.cat([x, h], 1), weight, m.bias_ih_l0 + m.bias_hh_l0)
    i, f, g, o = sums.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


LSTM = meaning("LSTM", "tokens", lambda d: nn.LSTM(d, d, batch_first=True), lambda m, x: m(x)[0])
LSTM.also(RECURRENCE, _cell, **{"cells": _looped})
LSTM.also(
    RECURRENCE,
    **{
        "written out": _unrolled(_lstm, 2),
        "gates by exp": _unrolled(
            lambda m, x, h, c: _lstm(m, x, h, c, lambda z: 1 / (1 + torch.exp(-z))), 2
        ),
    },
)
LSTM.also(EXCEPT_ZERO, **{"one matrix for both": _unrolled(_lstm_at_once, 2)})
RNN = meaning("RNN", "tokens", lambda d: nn.RNN(d, d, batch_first=True), lambda m, x: m(x)[0])
RNN.also(RECURRENCE, _cell, **{"cells": _looped})
RNN.also(
    RECURRENCE,
    **{
        "written out": _unrolled(lambda m, x, h: (torch.tanh(sum(_sums(m, x, h))),)),  # type: ignore[arg-type]
    },
)


def _one_way(m: nn.GRU) -> nn.Module:
    """A layer for each direction."""
    layers = {}
    for name, suffix in (("forward_", "_l0"), ("backward_", "_l0_reverse")):
        layer = nn.GRU(m.input_size, m.hidden_size, batch_first=True).to(m.weight_ih_l0.dtype)
        state = {
            k.removesuffix(suffix) + "_l0": v
            for k, v in m.state_dict().items()
            if k.endswith(suffix)
        }
        layer.load_state_dict(state)
        layers[name] = layer
    return Parts(**layers)


BOTH_WAYS = meaning(
    "bidirectional GRU",
    "tokens",
    lambda d: nn.GRU(d, d // 2, batch_first=True, bidirectional=True),
    lambda m, x: m(x)[0],
)
BOTH_WAYS.also(
    RECURRENCE,
    _one_way,
    **{
        "two layers": lambda m, x: torch.cat(
            [m.forward_(x)[0], m.backward_(x.flip(1))[0].flip(1)], -1
        )
    },
)

# --- the end --------------------------------------------------------------------------------------

END = "final probabilities"
LOGITS = meaning("logits", "logits", _nothing, lambda m, z: z)
SOFTMAX_END = meaning("softmax at the end", "logits", lambda d: nn.Softmax(1), lambda m, z: m(z))
SOFTMAX_END.also(END, **{k: lambda m, z, f=f: f(z) for k, f in SOFTMAXES.items()})
SOFTMAX_END.also(
    END,
    **{
        "clamped": lambda m, z: m(z).clamp(1e-9, 1),
        "by its sum": lambda m, z: m(z) / m(z).sum(1, keepdim=True),
        "the sum put back": lambda m, z: z.exp() / z.exp().sum(1)[:, None],
        "the sum in a column": lambda m, z: z.exp() / z.exp().sum(-1).view(-1, 1),
        "exp(z - logsumexp(z))": lambda m, z: (z - z.logsumexp(1)[:, None]).exp(),
        "cast": lambda m, z: m(z).double(),
        "views behind": lambda m, z: m(z).unsqueeze(-1).transpose(1, 2).flatten(1),
        "padded and cut": lambda m, z: F.pad(m(z), (1, 2))[:, 1:-2],
        "padded twice and cut": lambda m, z: F.pad(m(z), (0, 1, 1, 1), value=0.5)[1:-1, :CLASSES],
        "one by one": lambda m, z: torch.stack([m(z)[:, i] for i in range(CLASSES)], 1),
        "contiguous": lambda m, z: m(z).t().t().contiguous(),
        "reshaped": lambda m, z: z.reshape(-1, 1, CLASSES).softmax(-1).reshape(-1, CLASSES),
    },
)
LOGITS.also(
    END,
    **{
        "logit(p)": lambda m, z: torch.logit(z.sigmoid()),
        "log p - log(1 - p)": lambda m, z: z.sigmoid().log() - (1 - z.sigmoid()).log(),
        "log of the odds": lambda m, z: torch.log(z.sigmoid() / (1 - z.sigmoid())),
        "logsigmoids": lambda m, z: F.logsigmoid(z) - F.logsigmoid(-z),
        "-log(1 / p - 1)": lambda m, z: -(1 / torch.sigmoid(z) - 1).log(),
        "log1p": lambda m, z: torch.sigmoid(z).log() - torch.log1p(-torch.sigmoid(z)),
    },
)
LOG_RATIOS = meaning("log-ratios at the end", "logits", _nothing, lambda m, z: z - z[:, :1])
LOG_RATIOS.also(
    END,
    **{
        "log_softmax": lambda m, z: z.log_softmax(1) - z.log_softmax(1)[:, :1],
        "log p - log q": lambda m, z: z.softmax(1).log() - z.softmax(1).log().narrow(1, 0, 1),
        "log(p / q)": lambda m, z: (z.softmax(1) / z.softmax(1)[:, :1]).log(),
        "added": lambda m, z: -F.log_softmax(z, 1)[:, :1] + F.log_softmax(z, 1),
        "from the last dimension": lambda m, z: z.softmax(-1).log() - z.softmax(-1)[:, :1].log(),
        "one by one": lambda m, z: torch.stack(
            [z.log_softmax(1)[:, i] - z.log_softmax(1)[:, 0] for i in range(CLASSES)], 1
        ),
    },
)
LOG_SOFTMAX_END = meaning(
    "log-softmax at the end", "logits", lambda d: nn.LogSoftmax(1), lambda m, z: m(z)
)
LOG_SOFTMAX_END.also(
    END,
    **{
        "F.log_softmax": lambda m, z: F.log_softmax(z, dim=1),
        "log(softmax)": lambda m, z: torch.log(z.softmax(1)),
        "log(clamped softmax)": lambda m, z: z.softmax(1).clamp_min(1e-9).log(),
        "z - logsumexp": lambda m, z: z - z.logsumexp(1, keepdim=True),
        "z - log(exp(z).sum())": lambda m, z: z - z.exp().sum(1, keepdim=True).log(),
        "maximum taken off": lambda m, z: (
            (z - z.amax(1, True)) - (z - z.amax(1, True)).exp().sum(1, True).log()
        ),
        "logsumexp written out": lambda m, z: (
            z - (z.amax(1, True) + (z - z.amax(1, True)).exp().sum(1, True).log())
        ),
        "views behind": lambda m, z: m(z).reshape(-1, 1, CLASSES).squeeze(1),
        "cast": lambda m, z: m(z).to(torch.float64),
    },
)
SIGMOID_END = meaning("sigmoid at the end", "logits", lambda d: nn.Sigmoid(), lambda m, z: m(z))
SIGMOID_END.also(
    END,
    **{
        "torch.sigmoid": lambda m, z: torch.sigmoid(z),
        "1 / (1 + exp(-z))": lambda m, z: 1 / (1 + torch.exp(-z)),
        "by tanh": lambda m, z: (torch.tanh(z / 2) + 1) / 2,
        "exp(logsigmoid)": lambda m, z: F.logsigmoid(z).exp(),
        "clamped": lambda m, z: m(z).clamp(1e-9, 1 - 1e-9),
        "views behind": lambda m, z: m(z).view(-1, CLASSES, 1).squeeze(-1),
        "split and joined": lambda m, z: torch.cat(m(z).split(1, 1), 1),
        "complement of the complement": lambda m, z: 1 - torch.sigmoid(-z),
        "softmax of z and 0": lambda m, z: torch.stack([torch.zeros_like(z), z], 2).softmax(2)[
            ..., 1
        ],
        "odds by one and odds": lambda m, z: z.exp() / (1 + z.exp()),
    },
)
COMPLEMENT_END = meaning(
    "complements at the end",
    "logits",
    lambda d: nn.Sigmoid(),
    lambda m, z: torch.cat([m(z[:, :1]), m(-z[:, :1]), m(z[:, 1:2])], 1),
)


def _complements(write: Callable[[Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """``p₀, 1 − p₀, p₁`` of the logits' probabilities."""
    return lambda m, z: write(torch.sigmoid(z))


COMPLEMENT_END.also(
    END,
    **{
        "cat": _complements(lambda p: torch.cat([p[:, :1], 1 - p[:, :1], p[:, 1:2]], 1)),
        "stack": _complements(lambda p: torch.stack([p[:, 0], 1 - p[:, 0], p[:, 1]], 1)),
        "stack, last": _complements(lambda p: torch.stack([p[:, 0], 1 - p[:, 0], p[:, 1]], -1)),
        "rsub": _complements(
            lambda p: torch.stack([p[:, 0], torch.rsub(p[:, 0], 1), p[:, 1]], dim=1)
        ),
        "neg": _complements(lambda p: torch.cat([p[:, :1], -p[:, :1] + 1, p[:, 1:2]], -1)),
    },
)

# --- behind any value -----------------------------------------------------------------------------

VIEWS = "views inserted"
NOTHING = "dropout and identities inserted"
FACTORS = "constant factors inserted"
Size = tuple[int, ...]


@dataclass(frozen=True)
class Identity:
    """What may stand behind any value and changes nothing: ``write(module, x, shape of a sample)``."""

    kind: str
    write: Callable[[Any, Tensor, Size], Tensor]
    make: Callable[[], nn.Module | None] = lambda: None


def _orders(n: int) -> tuple[list[int], list[int]]:
    order = [*range(1, n), 0]
    return order, [order.index(i) for i in range(n)]


IDENTITIES: dict[str, Identity] = {
    **{
        name: Identity(VIEWS, lambda m, x, s, f=f: f(x, s))
        for name, f in {
            "reshape and back": lambda x, s: x.reshape(x.shape[0], -1).reshape(x.shape[0], *s),
            "flatten, unflatten": lambda x, s: x.flatten(1).unflatten(1, s),
            "view as rows": lambda x, s: x.contiguous().view(-1, s[-1]).view(-1, *s),
            "transpose and back": lambda x, s: x.transpose(0, -1).transpose(0, -1),
            "permute and back": lambda x, s: (
                x[None].permute(1, 0, *range(2, 2 + len(s))).squeeze(1)
            ),
            "contiguous": lambda x, s: x.contiguous(),
            "clone": lambda x, s: x.clone(),
            "to": lambda x, s: x.to(torch.float64),
            "double": lambda x, s: x.double(),
            "type_as": lambda x, s: x.type_as(x),
            "unsqueeze, squeeze": lambda x, s: x.unsqueeze(1).squeeze(1),
            "None and 0": lambda x, s: x[:, None][:, 0],
            "ellipsis": lambda x, s: x[..., :],
            "chunk and cat": lambda x, s: torch.cat(x.chunk(2, -1), -1),
            "split and cat": lambda x, s: torch.cat(x.split([1, s[-1] - 1], -1), dim=-1),
            "slices and cat": lambda x, s: torch.cat([x[..., :2], x[..., 2:]], -1),
            "unbind and stack": lambda x, s: torch.stack(x.unbind(1), 1),
            "entries stacked": lambda x, s: torch.stack([x[:, i] for i in range(s[0])], 1),
            "flipped twice": lambda x, s: x.flip(-1).flip(-1),
            "rolled and back": lambda x, s: x.roll(1, -1).roll(-1, -1),
            "indexed and back": lambda x, s: x[..., _orders(s[-1])[0]][..., _orders(s[-1])[1]],
            "index_select": lambda x, s: x.index_select(-1, torch.arange(s[-1])),
            "padded and cut": lambda x, s: F.pad(x, (1, 2))[..., 1:-2],
            "expanded, one taken": lambda x, s: x.unsqueeze(1).expand(-1, 3, *s)[:, 1],
            "repeated, first half": lambda x, s: torch.cat([x, x], -1)[..., : s[-1]],
            "narrow": lambda x, s: x.narrow(-1, 0, s[-1]),
            "movedim": lambda x, s: x.movedim(-1, 1).movedim(1, -1),
            "where true": lambda x, s: torch.where(torch.ones(s, dtype=torch.bool), x, 0.0),
            "masked_fill of nothing": lambda x, s: x.masked_fill(
                torch.zeros(s, dtype=torch.bool), 1.0
            ),
        }.items()
    },
    "nn.Dropout": Identity(NOTHING, lambda m, x, s: m(x), nn.Dropout),
    "nn.Identity": Identity(NOTHING, lambda m, x, s: m(x), nn.Identity),
    "F.dropout": Identity(NOTHING, lambda m, x, s: F.dropout(x, 0.5, training=False)),
    "empty sequence": Identity(NOTHING, lambda m, x, s: m(x), nn.Sequential),
    "+x": Identity(NOTHING, lambda m, x, s: +x),
    **{
        name: Identity(FACTORS, lambda m, x, s, f=f: f(x))
        for name, f in {
            "x * 3 / 3": lambda x: x * 3 / 3,
            "x / -2 * -2": lambda x: x / -2 * -2,
            "negated twice": lambda x: -x.neg(),
            "mul, div": lambda x: torch.div(torch.mul(x, 4.0), 4.0),
            "in place": lambda x: x.clone().mul_(8).div_(8),
            "times one": lambda x: x * torch.ones((), dtype=torch.double),
            "x + 0": lambda x: x + 0,
            "half twice": lambda x: x / 2 + x / 2,
        }.items()
    },
}
