"""Relevance through operations without a description, by their derivative (``unknown="vjp"``).

An entry ``x_i`` of an operand contributes ``x_i ∂y_k/∂x_i`` to a result ``y_k``. The contributions
of all operands add up to ``(Jx)_k``. If the operation is homogeneous of degree ``d``, then ``(Jx)_k
= d · y_k`` by Euler's theorem: ``d`` is 1 for sums and norms, and 2 for products of two factors. So
the contributions are divided by ``Jx`` and not by ``y``, and the whole relevance of each result
goes on.

If ``y − Jx`` is larger than ``Jx``, the contributions say too little about ``y``, and the operation
is refused. Examples are steps and cosine similarity, for which ``d = 0``. A derivative that is not
finite counts as zero, and the stabilizer keeps the relevance that arrives there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.graph import (
    Packet,
    arguments,
    name_of,
    overloads_of,
    packet_of,
    schema_of,
    tree_flatten,
    tree_unflatten,
    where,
)
from lrp_fx.relevance.activation import SameShapeRelevance
from lrp_fx.relevance.causes import Taken, by_stabilizer, together
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, always
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Epsilon, Pass

MAX_GROWTH = 1.01
"""The largest allowed ratio of ``Σ|y − Jx|`` to ``Σ|Jx|``. For a square root the ratio is 1."""


class VjpRelevance(RelevanceNode):
    """``R_i = x_i ⊙ J_iᵀ[R / S(Jx)]`` for the operands ``x_i``, with ``Jx = Σ_j J_j x_j``.

    It is the ε rule (Bach et al. 2015) on the contributions ``x ∂y/∂x``, computed by autograd.

    Args:
        packet: the operation.
        rule: the ε rule.
        place: the name, module and source line of the operation, for messages.
    """

    def __init__(self, packet: Packet, rule: Epsilon, place: str) -> None:
        super().__init__()
        self.packet, self.rule, self.place = packet, rule, place
        schemas = (schema_of(getattr(packet, name)) for name in overloads_of(packet))
        self.writes = any(s.is_mutable and not any(a.is_out for a in s.arguments) for s in schemas)

    def propagate(
        self,
        relevances: Sequence[Tensor],
        indices: Sequence[int | None],
        places: Sequence[int],
        bound: dict[str, Any],
    ) -> list[Tensor]:
        """The relevance of each operand, of its shape.

        Args:
            relevances: the relevance of the results.
            indices: the index of each of these results; None if the operation has only one.
            places: the positions of the operands among the flattened arguments.
            bound: all arguments by name.

        Raises:
            UnsupportedOperationError: if relevance cannot be shared out by contributions, with the
                reason.
        """
        return self._shared(relevances, indices, places, bound)[0]

    def taken(self, relevances: Sequence[Tensor], *operands: Any) -> Taken:
        """The share of the stabilizer."""
        _, sums = self._shared(relevances, *operands)
        pairs = zip(relevances, sums, strict=True)
        return together(*(by_stabilizer(self.rule.stabilizer, *pair) for pair in pairs))

    def _shared(
        self,
        relevances: Sequence[Tensor],
        indices: Sequence[int | None],
        places: Sequence[int],
        bound: dict[str, Any],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The relevance of the operands, and the denominator of each result: ``Jx`` or ``y``."""
        follows = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            leaves, spec = tree_flatten(bound)
            leaves = [_usable(leaf) for leaf in leaves]
            operands = [leaves[place] for place in places]
            variables = {p: _variable(leaves[p], follows) for p in places if _is_real(leaves[p])}
            for place, variable in variables.items():
                leaves[place] = variable.clone() if self.writes else variable
            try:
                value = self.packet(**tree_unflatten(leaves, spec))
            except Exception as error:  # it may fail only with gradients
                raise self._refused(f"it fails with gradients ({_line(error)})") from error
            results = [value if index is None else value[index] for index in indices]
            self._check(operands, results)
            xs = list(variables.values())
            try:
                sums = _along(results, xs)
            except Exception:  # the operation has no second derivative
                sums = None
            if sums is not None:
                sums = [_known(z) for z in sums]
                self._check_linearization(relevances, results, sums)
            by = results if sums is None else sums
            quotients = [
                self.rule.stabilizer.quotient(_usable(relevance), z)
                for relevance, z in zip(relevances, by, strict=True)
            ]
            try:
                pulled = torch.autograd.grad(
                    results, xs, quotients, allow_unused=True, create_graph=follows
                )
            except Exception as error:  # whatever the operation's own derivative raises
                raise self._refused(f"it cannot be differentiated ({_line(error)})") from error
            shares = {
                place: torch.zeros_like(x) if gradient is None else x * _known(gradient)
                for (place, x), gradient in zip(variables.items(), pulled, strict=True)
            }
            self._check_sum(by, quotients, list(shares.values()))
        found = [
            shares[place] if place in shares else relevances[0].new_zeros(operand.shape)
            for place, operand in zip(places, operands, strict=True)
        ]
        if not follows:
            found, by = [share.detach() for share in found], [z.detach() for z in by]
        return found, by

    def _check(self, operands: Sequence[Tensor], results: Sequence[Any]) -> None:
        tensors = [each for each in (*operands, *results) if isinstance(each, Tensor)]
        if len(tensors) < len(operands) + len(results):
            raise self._refused("it returns several tensors, which are passed on as a list")
        if any(tensor.is_complex() for tensor in tensors):
            raise self._refused("its values are complex")
        if not any(map(_is_real, operands)):
            raise self._refused(
                "its operands are integers, which have no derivative; words are looked up by "
                "F.embedding, table[i], gather or one_hot"
            )
        if not all(map(_is_real, results)):
            raise self._refused("its results are integers, which have no derivative")
        if not all(result.requires_grad for result in results):
            raise self._refused("it has no derivative")

    def _check_linearization(
        self, relevances: Sequence[Tensor], results: Sequence[Tensor], sums: Sequence[Tensor]
    ) -> None:
        """Refuse if ``Σ|y − Jx|`` exceeds ``Σ|Jx|`` over the entries of a sample with relevance.

        The first dimension of the results counts as that of the samples.
        """
        for relevance, y, z in zip(relevances, results, sums, strict=True):
            here = relevance != 0
            missed = _of_samples((y - z).detach().abs() * here)
            passed = _of_samples(z.detach().abs() * here)
            worst = (missed - MAX_GROWTH * passed).argmax()
            if missed[worst] > MAX_GROWTH * passed[worst]:
                raise self._refused(
                    "its linearization leaves out more of its value than it passes "
                    f"(Σ|y - Jx| = {float(missed[worst]):.3g}, Σ|Jx| = {float(passed[worst]):.3g} in "
                    f"sample {int(worst)}), so its relevance cannot be shared out by contributions"
                )

    def _check_sum(
        self, by: Sequence[Tensor], quotients: Sequence[Tensor], shares: Sequence[Tensor]
    ) -> None:
        """Refuse shares that do not add up to the relevance.

        If ``Jx`` is not known, ``y`` is the denominator. Then they add up only if the degree is 1.
        """
        passed = [share.detach() for share in shares]
        wanted = [(z * q).detach() for z, q in zip(by, quotients, strict=True)]
        gap = sum(each.sum() for each in wanted) - sum(each.sum() for each in passed)
        size = sum(each.abs().sum() for each in (*wanted, *passed))
        # allows only for rounding in a sum of many terms
        if abs(gap) > size * torch.finfo(by[0].dtype).eps ** 0.5:
            raise self._refused(
                "its contributions do not add up to its value, and without a second derivative their sum "
                "is not known"
            )

    def _refused(self, reason: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"the contributions x ∂y/∂x of {self.place} cannot share out relevance: {reason}. Write it "
            "with operations that have a rule, or explain a layer above it: LayerLRPFx(model, layer)."
        )


def _along(results: list[Tensor], variables: list[Tensor]) -> list[Tensor]:
    """``Jx`` for each result: the transpose of the linear map ``u ↦ Jᵀu``, applied to ``x``."""
    # u must be positive, because the derivative of logcumsumexp computes logarithms of u
    cotangents = [torch.ones_like(result).requires_grad_() for result in results]
    pulled = torch.autograd.grad(
        results, variables, cotangents, create_graph=True, allow_unused=True
    )
    pairs = [
        (gradient, x)
        for gradient, x in zip(pulled, variables, strict=True)
        if gradient is not None and gradient.requires_grad
    ]
    if not pairs:
        return [torch.zeros_like(result) for result in results]
    gradients, xs = zip(*pairs, strict=True)
    sums = torch.autograd.grad(
        gradients, cotangents, xs, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(sums)


def _known(value: Tensor) -> Tensor:
    """Replace derivatives that are not finite by zero, as that of the std of equal values."""
    return value.masked_fill(~value.isfinite(), 0)


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _of_samples(values: Tensor) -> Tensor:
    """The sums over all dimensions but the first, (N,); NaN counts as zero."""
    rows = (
        values.reshape(values.shape[0], -1)
        if values.dim() and values.numel()
        else values.reshape(1, -1)
    )
    return rows.nansum(1)


def _usable(leaf: Any) -> Any:
    """Clone a tensor that was created in ``inference_mode``, because autograd cannot save it."""
    return leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf


def _variable(operand: Tensor, follows: bool) -> Tensor:
    """A new tensor that requires gradients, so that one tensor in two places gives two variables."""
    if follows and operand.requires_grad:
        return operand.view_as(operand)
    return operand.detach().requires_grad_()


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _operands(node: fx.Node) -> list[Any]:
    return [leaf for leaf in tree_flatten(arguments(node))[0] if isinstance(leaf, fx.Node)]


def _receivers(node: fx.Node, rule: Any, facts: Facts) -> list[Any]:
    return [operand for operand in _operands(node) if facts.is_dynamic(operand)]


def _write(site: Site) -> Received:
    bound = arguments(site.node)
    packet = packet_of(site.node.target)
    if isinstance(site.rule, Pass):
        return _write_pass(site)
    assert packet is not None and isinstance(site.rule, Epsilon)
    leaves = tree_flatten(bound)[0]
    places = [place for place, leaf in enumerate(leaves) if site.receives(leaf)]
    parts: dict[Any, fx.Node] = dict(site.parts) or {None: site.relevance}
    place = f"'{name_of(site.node)}' {where(site.node)}"
    call = site.call(
        VjpRelevance(packet, site.rule, place),
        list(parts.values()),
        list(parts),
        places,
        site.value(bound),
    )
    received: Received = {}
    for each, part in zip(places, site.parts_of(call, len(places)), strict=True):
        received.setdefault(leaves[each], []).append(part)
    return received


def _write_pass(site: Site) -> Received:
    """Write a node that passes the relevance to the only operand, of the same shape."""
    operands = [each for each in dict.fromkeys(_operands(site.node)) if site.receives(each)]
    if len(operands) != 1 or site.parts:
        raise UnsupportedOperationError(
            f"Pass() is for operations with one value in and one out, and '{name_of(site.node)}' "
            f"{where(site.node)} has {len(operands)} in and {len(site.parts) or 1} out"
        )
    (operand,) = operands
    return {operand: [site.call(SameShapeRelevance(), site.relevance, site.shape(operand))]}


UNKNOWN = Operation(
    name="*",
    kind="unknown",
    operands=_operands,
    default=always(Epsilon()),
    alternatives=(Epsilon, Pass),
    receivers=_receivers,
    write=_write,
    source="unknown='vjp': the ε rule on the operation's contributions x ∂y/∂x",
)
