"""Data sets: explains all samples, on one machine or many, and finds structure in the results."""

from __future__ import annotations

from lrp_fx.dataset.attribute import attribute_dataset
from lrp_fx.dataset.features import embed, features
from lrp_fx.dataset.job import Shard
from lrp_fx.dataset.merging import merge
from lrp_fx.dataset.prototypes import Prototypes, prototypes
from lrp_fx.dataset.run import Run, open_run
from lrp_fx.dataset.spray import Clusters, spray
from lrp_fx.dataset.statistics import Statistics, class_statistics, statistics
from lrp_fx.dataset.virelay import write_virelay

__all__ = [
    "Clusters",
    "Prototypes",
    "Run",
    "Shard",
    "Statistics",
    "attribute_dataset",
    "class_statistics",
    "embed",
    "features",
    "merge",
    "open_run",
    "prototypes",
    "spray",
    "statistics",
    "write_virelay",
]
