"""An explanation of one sample: the relevance with all that is needed to read, show and keep it."""

from __future__ import annotations

from lrp_fx.explanation.explain import explain as explain
from lrp_fx.explanation.explanation import Explanation as Explanation
from lrp_fx.explanation.load import load_explanation as load_explanation
