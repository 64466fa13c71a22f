"""All suites, in the order of the page."""

from __future__ import annotations

from arena import letters, real, voices
from arena.task import Suite
from arena.truth import deletion, eeg, geoscience, logic, patching, tetrominoes

SUITES: dict[str, Suite] = {
    "logic": logic.SUITE,
    "geoscience": geoscience.SUITE,
    "tetrominoes": tetrominoes.SUITE,
    "eeg": eeg.SUITE,
    "deletion": deletion.SUITE,
    "patching": patching.SUITE,
    "photographs": real.PHOTOGRAPHS,
    "larger": real.MORE,
    "small": real.SMALL,
    "letters": letters.SUITE,
    "voices": voices.SUITE,
    "sentences": real.TOKENS,
}
