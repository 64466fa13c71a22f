"""What keeps denominators away from zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lrp_fx._checks import check_number
from lrp_fx.errors import OptionError


def may_write() -> bool:
    """Whether tensors may be overwritten now: never what a derivative or a compiler has to follow."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


@dataclass(frozen=True)
class Stabilizer:
    """What keeps a denominator away from zero: ``S(z) = z + eps · sgn(z)`` with ``sgn(0) = +1``.

    Args:
        eps: how far, in the units of ``z``; raised to the dtype's smallest normal number when it is
            not zero (1e-9 would vanish in float16).
        signed: False gives ``S(z) = z + eps``, which has a pole at ``z = -eps``; it is there to
            reproduce others.

    Where ``S(z)`` is exactly zero the quotient ``R / S(z)`` is zero.
    """

    eps: float = 1e-6
    signed: bool = True

    def __post_init__(self) -> None:
        check_number("eps", self.eps)
        if not self.eps >= 0:
            raise OptionError(f"a stabilizer needs eps >= 0, got {self.eps}")

    def apply(self, z: Tensor, *, nonnegative: bool = False) -> Tensor:
        """``S(z)``, of the shape of ``z``.

        Args:
            z: the denominator.
            nonnegative: ``z`` is known to have no negative entries.
        """
        if self.eps == 0:
            return z
        eps = self.shift(z.dtype)
        if nonnegative or not self.signed:
            return z + eps
        # a tensor: of two numbers torch.where would round ε to float32
        positive = z.new_full((), eps)
        if may_write():
            # two passes instead of three. It gives −ε for −0.0, which only a sum of zeros is: there is
            # nothing that relevance could be handed on to
            return torch.copysign(positive, z).add_(z)
        return torch.where(z < 0, -positive, positive).add_(z)

    def shift(self, dtype: torch.dtype) -> float:
        """What is added to a positive ``z`` of this dtype."""
        return max(self.eps, torch.finfo(dtype).tiny) if self.eps else 0.0

    def added_to(self, denominator: Tensor) -> Tensor:
        """``S(z) − z`` from ``S(z)``, of its shape or a single number."""
        eps = denominator.new_full((), self.shift(denominator.dtype))
        return torch.copysign(eps, denominator) if self.signed else eps

    def is_of_zero(self, denominator: Tensor) -> Tensor:
        """Where ``z`` was exactly zero, from ``S(z)``, of its shape."""
        return denominator == self.added_to(denominator)

    def quotient(
        self,
        relevance: Tensor,
        z: Tensor,
        *,
        nonnegative: bool = False,
        overwrite: bool = False,
    ) -> Tensor:
        """``relevance / S(z)``, zero where ``S(z)`` is exactly zero; of the shape of ``z``.

        Args:
            relevance: the numerator.
            z: the denominator.
            nonnegative: as in :meth:`apply`.
            overwrite: ``relevance`` may be overwritten.
        """
        if not z.is_floating_point():
            z = z.to(relevance.dtype)
        denominator = self.apply(z, nonnegative=nonnegative)
        alike = relevance.shape == denominator.shape and relevance.dtype == denominator.dtype
        if self.eps > 0 and self.signed and alike and may_write():
            return torch.div(relevance, denominator, out=denominator)  # it is read no more
        return self.divided(relevance, denominator, overwrite=overwrite)

    def divided(self, relevance: Tensor, denominator: Tensor, *, overwrite: bool = False) -> Tensor:
        """``relevance / denominator`` with a ``denominator`` that :meth:`apply` returned.

        Args:
            relevance: the numerator.
            denominator: ``S(z)``.
            overwrite: ``relevance`` may be overwritten.
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
