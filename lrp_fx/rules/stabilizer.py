"""The stabilizer, which keeps denominators away from zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lrp_fx._common import check_number, make_plain
from lrp_fx.errors import OptionError


def may_write() -> bool:
    """Whether tensors may be overwritten: not while autograd or a compiler records the operations."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


@dataclass(frozen=True)
class Stabilizer:
    """Keeps a denominator away from zero: ``S(z) = z + eps · sgn(z)`` with ``sgn(0) = +1``.

    Where ``S(z)`` is exactly zero, the quotient ``R / S(z)`` is zero.

    Args:
        eps: the minimal distance of ``S(z)`` from zero, in the units of ``z``. If it is not zero,
            it is raised to the smallest normal number of the dtype (1e-9 would vanish in float16).
        signed: False gives ``S(z) = z + eps``, which has a pole at ``z = -eps``. Use it only to
            reproduce other libraries.

    Raises:
        OptionError: if ``eps`` is negative or not a number.
    """

    eps: float = 1e-6
    signed: bool = True

    def __post_init__(self) -> None:
        make_plain(self)
        check_number("eps", self.eps)
        if not self.eps >= 0:
            raise OptionError(f"a stabilizer needs eps >= 0, got {self.eps}")

    def apply(self, z: Tensor, *, nonnegative: bool = False) -> Tensor:
        """Return ``S(z)``, of the shape of ``z``; with ``eps = 0`` it is ``z`` itself.

        Args:
            z: the denominator.
            nonnegative: whether ``z`` is known to have no negative entries.
        """
        if self.eps == 0:
            return z
        eps = self.shift(z.dtype)
        if nonnegative or not self.signed:
            return z + eps
        # ε as a tensor: torch.where would round two Python numbers to float32
        positive = z.new_full((), eps)
        if may_write():
            # Two passes over the data instead of three. For −0.0 it gives −ε instead of +ε. That
            # does not matter: only a sum of zeros is −0.0, and then no input receives relevance.
            return torch.copysign(positive, z).add_(z)
        return torch.where(z < 0, -positive, positive).add_(z)

    def shift(self, dtype: torch.dtype) -> float:
        """The number that is added to a positive ``z`` of this dtype."""
        return max(self.eps, torch.finfo(dtype).tiny) if self.eps else 0.0

    def added_to(self, denominator: Tensor) -> Tensor:
        """Recover ``S(z) − z`` from ``S(z)``, as a tensor of its shape or a 0-d tensor."""
        eps = denominator.new_full((), self.shift(denominator.dtype))
        return torch.copysign(eps, denominator) if self.signed else eps

    def is_of_zero(self, denominator: Tensor) -> Tensor:
        """A mask of the places where ``z`` was exactly zero, recovered from ``S(z)``."""
        return denominator == self.added_to(denominator)

    def quotient(
        self, relevance: Tensor, z: Tensor, *, nonnegative: bool = False, overwrite: bool = False
    ) -> Tensor:
        """Return ``relevance / S(z)``, and zero where ``S(z)`` is exactly zero.

        Args:
            relevance: the numerator, of the shape of ``z``.
            z: the denominator.
            nonnegative: whether ``z`` is known to have no negative entries.
            overwrite: whether ``relevance`` may be overwritten.
        """
        if not z.is_floating_point():
            z = z.to(relevance.dtype)
        denominator = self.apply(z, nonnegative=nonnegative)
        alike = relevance.shape == denominator.shape and relevance.dtype == denominator.dtype
        if self.eps > 0 and self.signed and alike and may_write():
            return torch.div(relevance, denominator, out=denominator)  # its memory is free to reuse
        return self.divided(relevance, denominator, overwrite=overwrite)

    def divided(self, relevance: Tensor, denominator: Tensor, *, overwrite: bool = False) -> Tensor:
        """Return ``relevance / denominator``, and zero where the denominator is exactly zero.

        Args:
            relevance: the numerator.
            denominator: ``S(z)``, as :meth:`apply` returned it.
            overwrite: whether ``relevance`` may be overwritten.
        """
        dead = None if self.eps > 0 and self.signed else denominator == 0
        if dead is not None:
            denominator = denominator.masked_fill(dead, 1)
        alike = relevance.shape == denominator.shape and relevance.dtype == denominator.dtype
        if overwrite and alike:
            quotient = relevance.div_(denominator)
            return quotient if dead is None else quotient.masked_fill_(dead, 0)
        quotient = relevance / denominator
        return quotient if dead is None else quotient.masked_fill(dead, 0)


DEFAULT_STABILIZER = Stabilizer()
