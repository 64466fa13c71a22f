"""Capture: turns a model into a graph of ATen calls and verifies it against the model."""

from __future__ import annotations

from lrp_fx.capture.captured import (
    Arguments as Arguments,
    Captured as Captured,
    Way as Way,
    copied as copied,
)
from lrp_fx.capture.exclusive import alone as alone, exporting as exporting
from lrp_fx.capture.export import first_line as first_line, samples as samples
from lrp_fx.capture.kept import KeptCaptures as KeptCaptures
from lrp_fx.capture.lasting import lasting_key as lasting_key
from lrp_fx.capture.model_state import ModelState as ModelState
from lrp_fx.capture.observers import has_global_hooks as has_global_hooks
from lrp_fx.capture.reading import WAYS as WAYS, read as read
from lrp_fx.capture.running import (
    SAME_KERNELS as SAME_KERNELS,
    close as close,
    run_model as run_model,
)
from lrp_fx.capture.signature import Signature as Signature
from lrp_fx.capture.traces import (
    Memory as Memory,
    leaves_traces as leaves_traces,
    traces_of as traces_of,
)
from lrp_fx.capture.trail import (
    Follower as Follower,
    leaves_same_trail as leaves_same_trail,
    run_followed as run_followed,
)
from lrp_fx.capture.verify import (
    REORDERED as REORDERED,
    reproduces as reproduces,
    same_in_double as same_in_double,
)
