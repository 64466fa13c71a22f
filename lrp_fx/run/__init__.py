"""Run: binds an LRP graph to a live model and runs it."""

from __future__ import annotations

from lrp_fx.run.bookkeeping import audit
from lrp_fx.run.compiling import check_compiler, compiled
from lrp_fx.run.export import Format, check_destination, exported, save
from lrp_fx.run.ledger import Ledger
from lrp_fx.run.program import Explanation, Program, check_batch, per_sample

__all__ = [
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
    "per_sample",
    "save",
]
