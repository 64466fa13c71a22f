"""Run: binds an LRP graph to a live model and runs it."""

from __future__ import annotations

from lrp_fx.run.bookkeeping import audit
from lrp_fx.run.compiling import check_compiler, compiled
from lrp_fx.run.export import FIXED, exported, larger
from lrp_fx.run.ledger import Ledger
from lrp_fx.run.program import Explanation, Program, check_batch, per_sample
from lrp_fx.run.saving import Format, check_destination, save

__all__ = [
    "FIXED",
    "Explanation",
    "Format",
    "Ledger",
    "Program",
    "audit",
    "check_batch",
    "check_compiler",
    "check_destination",
    "compiled",
    "exported",
    "larger",
    "per_sample",
    "save",
]
