"""Capture: turns a model into a graph of ATen calls and verifies it against the model."""

from __future__ import annotations

from lrp_fx.capture.captured import (
    Arguments,
    Call,
    Captured,
    Way,
    copied,
    module_path,
    where,
)
from lrp_fx.capture.exclusive import alone, exporting
from lrp_fx.capture.export import first_line, samples
from lrp_fx.capture.model_state import ModelState
from lrp_fx.capture.observers import has_global_hooks
from lrp_fx.capture.reading import WAYS, read
from lrp_fx.capture.running import SAME_KERNELS, run_model
from lrp_fx.capture.signature import Signature
from lrp_fx.capture.traces import Memory, leaves_traces, traces_of
from lrp_fx.capture.trail import Follower, leaves_same_trail, run_followed
from lrp_fx.capture.verify import REORDERED, reproduces, same_in_double

__all__ = [
    "REORDERED",
    "SAME_KERNELS",
    "WAYS",
    "Arguments",
    "Call",
    "Captured",
    "Follower",
    "Memory",
    "ModelState",
    "Signature",
    "Way",
    "alone",
    "copied",
    "exporting",
    "first_line",
    "has_global_hooks",
    "leaves_same_trail",
    "leaves_traces",
    "module_path",
    "read",
    "reproduces",
    "run_followed",
    "run_model",
    "same_in_double",
    "samples",
    "traces_of",
    "where",
]
