"""Capture: a model becomes a graph of ATen calls, verified against the model itself."""

from __future__ import annotations

from lrp_fx.capture.captured import (
    EXAMPLE,
    TENSOR,
    Arguments,
    Call,
    Captured,
    Way,
    module_path,
    where,
)
from lrp_fx.capture.members import named_tensors
from lrp_fx.capture.model_state import ModelState
from lrp_fx.capture.reading import REORDERED, WAYS, read, reproduces
from lrp_fx.capture.running import SAME_KERNELS, run_model
from lrp_fx.capture.signature import Signature

__all__ = [
    "EXAMPLE",
    "REORDERED",
    "SAME_KERNELS",
    "TENSOR",
    "WAYS",
    "Arguments",
    "Call",
    "Captured",
    "ModelState",
    "Signature",
    "Way",
    "module_path",
    "named_tensors",
    "read",
    "reproduces",
    "run_model",
    "where",
]
