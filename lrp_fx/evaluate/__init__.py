"""Evaluation: are the maps good? Metrics, statistics and reports for any method and runtime."""

from lrp_fx.evaluate.candidates import Candidate
from lrp_fx.evaluate.explain import Explainer, explain_with
from lrp_fx.evaluate.found import SearchResult
from lrp_fx.evaluate.imputers import Blur, Constant, Imputer, Inpainting, Mean, Noise
from lrp_fx.evaluate.localisation import MosaicFocus, PointingGame, RelevanceShare
from lrp_fx.evaluate.metric import Explain, Forward, Metric
from lrp_fx.evaluate.perturbation import (
    ABPC,
    SRG,
    Comprehensiveness,
    Curves,
    LeastRelevantFirst,
    MostRelevantFirst,
    Sufficiency,
)
from lrp_fx.evaluate.quantus import explain_func, quantus_metric
from lrp_fx.evaluate.randomisation import CascadingRandomisation, IndependentRandomisation
from lrp_fx.evaluate.regions import Patches, Positions, Regions
from lrp_fx.evaluate.report import Report
from lrp_fx.evaluate.run import evaluate
from lrp_fx.evaluate.search import search
from lrp_fx.evaluate.sensitivity import ClassCorrelation, MaxSensitivity
from lrp_fx.evaluate.space import Space
from lrp_fx.evaluate.sparseness import Sparseness
from lrp_fx.evaluate.statistics import Bootstrap, Estimate
from lrp_fx.evaluate.summary import Summary
from lrp_fx.evaluate.trials import FailedTrial, Trial

__all__ = [
    "ABPC",
    "SRG",
    "Blur",
    "Bootstrap",
    "Candidate",
    "CascadingRandomisation",
    "ClassCorrelation",
    "Comprehensiveness",
    "Constant",
    "Curves",
    "Estimate",
    "Explain",
    "Explainer",
    "FailedTrial",
    "Forward",
    "Imputer",
    "IndependentRandomisation",
    "Inpainting",
    "LeastRelevantFirst",
    "MaxSensitivity",
    "Mean",
    "Metric",
    "MosaicFocus",
    "MostRelevantFirst",
    "Noise",
    "Patches",
    "PointingGame",
    "Positions",
    "Regions",
    "RelevanceShare",
    "Report",
    "SearchResult",
    "Space",
    "Sparseness",
    "Sufficiency",
    "Summary",
    "Trial",
    "evaluate",
    "explain_func",
    "explain_with",
    "quantus_metric",
    "search",
]
