"""The entries of a ledger: what one node received, passed on and took."""

from __future__ import annotations

from dataclasses import dataclass

from lrp_fx.relevance import Cause

PerSample = tuple[float, ...]
"""An amount of each sample."""


@dataclass(frozen=True)
class Entry:
    """One node of the relevance pass. All figures are sums over the node's values, per sample.

    Args:
        node: the name of the node in the plan.
        path: the path of its module.
        operation: ATen's name of the operation, or ``filter`` or ``hook`` for one before the node.
        rule: the rule.
        arrived: Σ R that came in.
        passed: Σ R that went on.
        taken: the amounts taken, by cause; causes that took nothing from any sample are left out.
        magnitude_in: Σ |R| that came in.
        magnitude_out: Σ |R| that went on.
    """

    node: str
    path: str
    operation: str
    rule: str
    arrived: PerSample
    passed: PerSample
    taken: dict[Cause, PerSample]
    magnitude_in: PerSample
    magnitude_out: PerSample

    @property
    def growth(self) -> float:
        """The largest Σ |R_out| / Σ |R_in| over the samples; 0 if nothing came in."""
        pairs = zip(self.magnitude_in, self.magnitude_out, strict=True)
        return max((out / came for came, out in pairs if came), default=0.0)

    @property
    def gap(self) -> PerSample:
        """``arrived − passed − Σ taken``, (N values): zero up to rounding."""
        amounts = zip(*self.taken.values(), strict=True) if self.taken else [()] * len(self.arrived)
        return tuple(
            came - went - sum(kept)
            for came, went, kept in zip(self.arrived, self.passed, amounts, strict=True)
        )

    @property
    def terms(self) -> PerSample:
        """Σ |terms|, which the gap is compared with: relevance in and out, and what was taken."""
        sizes = [self.magnitude_in, self.magnitude_out]
        sizes += [tuple(map(abs, amounts)) for amounts in self.taken.values()]
        return tuple(map(sum, zip(*sizes, strict=True)))
