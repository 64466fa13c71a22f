"""AttnLRP without this library: input × gradient of a forward pass in which parts are held constant.

Achtibat et al. 2024 show that LRP with ε = 0 is input × gradient once each non-linear step is written
as a linear one with constant factors: an activation as ``x · (f(x) / x)``, a norm with its statistic
held, half of each factor's gradient at a product. :class:`Held` does that to the torch calls of any
model while it runs; nothing of it knows the rules, graphs or captures of the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ACTIVATIONS = {
    *(F.gelu, F.silu, F.relu, torch.relu, Tensor.relu, torch.tanh, Tensor.tanh, F.tanh),
    *(torch._C._nn.gelu, torch._C._nn.silu),
}
PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}
FACTORS = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}


def halves(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """A product whose gradient goes half to each factor."""
    return (product(a, b.detach()) + product(a.detach(), b)) / 2


class Held(TorchFunctionMode):
    """Runs a model so that its input × gradient is AttnLRP, or CP-LRP with constant attention.

    Args:
        tokens: integer inputs, whose embedding becomes the leaf :attr:`embedded`.
        constant_attention: the softmax is a constant, and all goes to the values.
    """

    def __init__(self, tokens: Tensor | None = None, *, constant_attention: bool = False) -> None:
        super().__init__()
        self.tokens, self.constant_attention = tokens, constant_attention
        self.embedded: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in ACTIVATIONS:
            factor = func(args[0], *args[1:], **kwargs) / args[0]
            return args[0] * torch.nan_to_num(factor).detach()
        if func in PRODUCTS and _both_depend(args):
            return halves(torch.matmul, *args[:2])
        if func in FACTORS and _both_depend(args):
            return halves(torch.mul, *args[:2])
        if func in (torch.rsqrt, Tensor.rsqrt):
            return func(*args, **kwargs).detach()
        if func in (F.softmax, torch.softmax, Tensor.softmax):
            return self.softmax(func(*args, **kwargs))
        if func is F.embedding and self.embedded is None and self.are_tokens(args[0]):
            self.embedded = func(*args, **kwargs).detach().requires_grad_()
            return self.embedded
        if func is F.layer_norm:
            return layer_norm(*args, **kwargs)
        if func is F.rms_norm:
            return rms_norm(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self.attention(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self.multi_head(*args, **kwargs)
        return func(*args, **kwargs)

    def are_tokens(self, indices: Tensor) -> bool:
        """Whether an embedding looks up the tokens, perhaps as another view of them."""
        return self.tokens is not None and torch.equal(indices, self.tokens)

    def softmax(self, y: Tensor) -> Tensor:
        return y.detach() if self.constant_attention else y

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Scaled dot-product attention in words."""
        if enable_gqa:
            k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
        logits = halves(torch.matmul, q, k.mT) * (
            1 / math.sqrt(q.shape[-1]) if scale is None else scale
        )
        if is_causal:
            hidden = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
            logits = logits.masked_fill(hidden, -math.inf)
        if attn_mask is not None:
            boolean = attn_mask.dtype == torch.bool
            logits = logits.masked_fill(~attn_mask, -math.inf) if boolean else logits + attn_mask
        weights = self.softmax(logits.softmax(-1))
        return weights @ v if self.constant_attention else halves(torch.matmul, weights, v)

    def multi_head(self, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
        """``nn.MultiheadAttention``, the inputs (T, N, D) and the projection in one."""
        _, heads, w, b, _, _, _, _, w_out, b_out = args[:10]
        projected = [
            F.linear(x, *each)
            for x, each in zip((q, k, v), zip(w.chunk(3), b.chunk(3), strict=True), strict=True)
        ]
        split = [x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for x in projected]
        mask, padding = kwargs.get("attn_mask"), kwargs.get("key_padding_mask")
        if padding is not None:  # (N, T), by now in floats as the other
            padding = padding[:, None, None]
            mask = padding if mask is None else mask + padding
        mixed = self.attention(*split, attn_mask=mask)
        return F.linear(mixed.permute(2, 0, 1, 3).flatten(2), w_out, b_out), None


def _both_depend(args: Any) -> bool:
    return all(isinstance(a, Tensor) and a.requires_grad for a in args[:2])


def layer_norm(
    x: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    y = centred / (centred.square().mean(dims, keepdim=True) + eps).sqrt().detach()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    dims = tuple(range(-len(shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    y = x / (x.square().mean(dims, keepdim=True) + eps).sqrt().detach()
    return y if weight is None else y * weight


def relevance_by_hand(
    model: nn.Module,
    x: Tensor,
    target: int,
    output: Callable[[Any], Tensor],
    *,
    constant_attention: bool = False,
    **keywords: Any,
) -> Tensor:
    """The relevance of an image, or of tokens at their embedding's output."""
    tokens = None if x.is_floating_point() else x
    leaf = x.clone().requires_grad_() if tokens is None else x
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with Held(x, constant_attention=constant_attention) as held:
        logits = output(model(leaf, **keywords))
    explained = leaf if tokens is None else held.embedded
    assert explained is not None
    (gradient,) = torch.autograd.grad(logits[:, target].sum(), explained)
    return (explained * gradient).detach()
