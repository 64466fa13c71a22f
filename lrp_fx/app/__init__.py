"""The live page, and the explainer in the browser: their computation, apart from their look."""

from __future__ import annotations

from lrp_fx.app.classifier import Classifier, Explained, classifier_of
from lrp_fx.app.live import Explainer, Shown, Stages
from lrp_fx.app.patches import KINDS, cover
from lrp_fx.app.runtime import fetch_runtime
from lrp_fx.app.server import serve
from lrp_fx.app.static_page import write_page

__all__ = [
    "KINDS",
    "Classifier",
    "Explained",
    "Explainer",
    "Shown",
    "Stages",
    "classifier_of",
    "cover",
    "fetch_runtime",
    "serve",
    "write_page",
]
