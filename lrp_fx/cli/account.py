"""Where the relevance went, in words: what reached the input, and who took the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lrp_fx.attribution import Cause, Ledger

WORDS: dict[Cause, str] = {
    "bias": "biases: constants of the network",
    "constant": "other constants of the network",
    "stabilizer": "the ε that prevents division by zero",
    "filter": "removed by the filter",
    "linearization": "left over where softmax is approximated",
    "empty_branch": "units without evidence of the sign that the rule counts",
    "dead": "units whose value is zero",
    "padding": "padding around the input",
}
"""Who took relevance."""
SMALL = 0.0005
"""A smaller share of the whole is not worth a line."""
LITTLE = 0.5
"""If a smaller share than this reaches the input, the note explains why."""

NOTE = (
    "How to read the shares: the output is a sum. Part of it comes from the {input}, and part from "
    "constants that the network adds in any case, its biases. LRP gives each its share, so the shares "
    "make up 100 %: nothing is lost, and a small share of the {input} is not a failure. Evidence for and "
    "against also cancel in it. The map shows where the evidence is. To pass the share of the biases "
    "on to the {input}: --composite epsilon_plus --bias distribute."
)


@dataclass(frozen=True)
class Account:
    """The relevance of one sample, as a sum.

    Args:
        start: the explained output; the whole.
        positive: the sum of the positive relevance of the input.
        negative: the sum of the negative one.
        taken: what others took, by cause.
        input: what the entries of the input are called.
    """

    start: float
    positive: float
    negative: float
    taken: dict[Cause, float]
    input: str = "pixels"

    @property
    def reached(self) -> float:
        """The sum of the relevance of the input."""
        return self.positive + self.negative

    @property
    def share(self) -> float | None:
        """The part of the whole that reached the input; None of a whole of zero."""
        return self.reached / self.start if self.start else None

    @property
    def sentence(self) -> str:
        """The share of the input in a few words."""
        if self.share is None:
            return f"{self.reached:.3g} at the {self.input}"
        return f"{percent(self.share)} at the {self.input}"

    def rows(self) -> list[tuple[str, float, float | None]]:
        """The name of each part, its amount, and its share of the whole."""
        parts: list[tuple[str, float]] = [
            (f"{self.input} in favour", self.positive),
            (f"{self.input} against", self.negative),
        ]
        parts += [(WORDS[cause], amount) for cause, amount in self.taken.items()]
        return [
            (words, amount, amount / self.start if self.start else None)
            for words, amount in parts
            if abs(amount) > SMALL * abs(self.start)
        ]

    @property
    def needs_a_note(self) -> bool:
        """Whether a newcomer may take the share for a failure."""
        return self.share is not None and not LITTLE <= self.share <= 2 - LITTLE

    def to_dict(self) -> dict[str, object]:
        """All figures."""
        return {
            "start": self.start,
            "at_input": self.reached,
            "share_at_input": self.share,
            "in_favour": self.positive,
            "against": self.negative,
            "taken": dict(self.taken),
        }


def account_of(ledger: Ledger, relevance: Tensor, input: str = "pixels") -> Account:
    """The account of the only sample of a ledger.

    Args:
        ledger: of one sample.
        relevance: its map, (1, …).
        input: what the entries of the input are called.
    """
    whole = relevance.double()
    return Account(
        ledger.start[0],
        float(whole.clamp(min=0).sum()),
        float(whole.clamp(max=0).sum()),
        {cause: amounts[0] for cause, amounts in ledger.taken.items()},
        input,
    )


def note_on(accounts: Sequence[Account]) -> str:
    """The note on the shares, if any account needs it; else nothing."""
    needing = [each for each in accounts if each.needs_a_note]
    return NOTE.format(input=needing[0].input) if needing else ""


def percent(share: float) -> str:
    """A share in percent with one digit after the point."""
    return f"{100 * share:.1f} %"
