"""Models to try the library on, and models of the user: each with its preprocessing and class names."""

from lrp_fx.zoo.hugging_face import SENTENCES, Logits, TextModel, text_model
from lrp_fx.zoo.loaded import LoadedModel, ZooError
from lrp_fx.zoo.loading import load, names
from lrp_fx.zoo.own import own_function
from lrp_fx.zoo.preprocessing import Normalised, Preprocessing
from lrp_fx.zoo.published import EFFICIENTNET

__all__ = [
    "EFFICIENTNET",
    "SENTENCES",
    "LoadedModel",
    "Logits",
    "Normalised",
    "Preprocessing",
    "TextModel",
    "ZooError",
    "load",
    "names",
    "own_function",
    "text_model",
]
