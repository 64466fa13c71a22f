"""Run: binds an LRP graph to a live model and runs it."""

from __future__ import annotations

from lrp_fx.run.bookkeeping import audit as audit
from lrp_fx.run.compiling import check_compiler as check_compiler, compiled as compiled
from lrp_fx.run.export import FIXED as FIXED, exported as exported, larger as larger
from lrp_fx.run.ledger import Ledger as Ledger
from lrp_fx.run.program import (
    Explanation as Explanation,
    Program as Program,
    check_batch as check_batch,
    per_sample as per_sample,
)
from lrp_fx.run.saving import Format as Format, check_destination as check_destination, save as save
