"""Data sets: explains all samples, on one machine or many, and finds structure in the results."""

from __future__ import annotations

from lrp_fx.dataset.attribute import attribute_dataset
from lrp_fx.dataset.merging import merge
from lrp_fx.dataset.run import Run, open_run

__all__ = ["Run", "attribute_dataset", "merge", "open_run"]
