"""Image classifiers to try the library on, each with its preprocessing and its class names."""

from lrp_fx.zoo.loading import LoadedModel, ZooError, load, names
from lrp_fx.zoo.preprocessing import Preprocessing

__all__ = ["LoadedModel", "Preprocessing", "ZooError", "load", "names"]
