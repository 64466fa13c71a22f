"""Classifiers of the page: attributions by composite and share, for many threads; models of one's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.app import Classifier, classifier_of
from lrp_fx.app.classifier import KEPT
from lrp_fx.composites import EpsilonGammaBox
from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.zoo import LoadedModel
from tests.helpers.colour_classifier import NAMES, PREPROCESSING, colour_classifier


def make_model() -> nn.Module:
    """A model of one's own."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))


def preprocess(picture: Image.Image) -> Tensor:
    """A preprocessing of one's own."""
    return PREPROCESSING.normalized(picture.resize((8, 8)))


def preprocess_badly(picture: Image.Image) -> Tensor:
    """A preprocessing that fails."""
    raise KeyError("size")


def test_threads_get_their_own_results(photographs: dict[str, Path]) -> None:
    """Many visitors at once, with other composites, shares and classes: each gets what one alone gets."""
    classifier = colour_classifier()
    pictures = [Image.open(file).convert("RGB") for file in photographs.values()]
    asked = [
        (picture, target, composite, share)
        for picture in pictures
        for target in range(3)
        for composite in ("", "z_plus", "epsilon_gamma_box")
        for share in (1.0, 0.1)
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda each: classifier.explain(
                    classifier.see(each[0]), each[1], composite=each[2], share=each[3]
                ),
                asked,
            )
        )
    for (picture, target, composite, share), explained in zip(asked, found, strict=True):
        rules = (
            EpsilonGammaBox(*PREPROCESSING.bounds()) if "box" in composite else composite or None
        )
        lrp = LRPFx(classifier.model, rules, top_k=share)
        expected = lrp.attribute(PREPROCESSING.tensor(picture)[None], target)
        assert torch.equal(explained.relevance, expected)
        assert explained.target == target


def test_attributions_are_kept_and_bounded() -> None:
    """The same question gives the same object; old ones are forgotten, but never what read the model."""
    classifier = colour_classifier()
    first = classifier.attribution()
    assert classifier.attribution("z_plus", 0.5) is classifier.attribution("z_plus", 0.5)
    for percent in range(1, 3 * KEPT):
        classifier.attribution("", percent / 100)
    assert classifier.attribution() is first


def test_names_and_bars() -> None:
    """Classes without a name have their index; the best come first."""
    classifier = colour_classifier()
    assert (classifier.name_of(1), classifier.name_of(9)) == ("green", "class 9")
    assert list(classifier.best(torch.tensor([0.1, 0.6, 0.3]), 2)) == [1, 2]
    with pytest.raises(TargetError, match="target index 4 is out of range for 4 outputs"):
        classifier.explain(Image.new("RGB", (32, 32)), 4)


def test_classes_of_one_name_stay_apart() -> None:
    """ImageNet has two cranes: by name alone one would hide the other's probability."""
    classifier = replace(colour_classifier(), categories=("crane", "crane", "jay"))
    assert [classifier.name_of(i) for i in range(3)] == ["crane (0)", "crane (1)", "jay"]


def test_own_model() -> None:
    """A model with a preprocessing of one's own, whose results are as those of the model itself."""
    model = make_model()
    classifier = classifier_of(LoadedModel("mine", model.eval(), preprocess, None, None, NAMES))
    picture = Image.new("RGB", (50, 20), "red")
    explained = classifier.explain(classifier.see(picture))
    expected = model(preprocess(picture)[None]).softmax(1)[0]
    assert torch.allclose(explained.probabilities, expected)
    assert explained.picture.size == (50, 20)


def test_classes_that_do_not_exclude_each_other() -> None:
    """A model that ends in a sigmoid: its probabilities add up to no particular number."""
    model = nn.Sequential(make_model(), nn.Sigmoid()).eval()
    classifier = classifier_of(LoadedModel("mine", model, preprocess, None, None, NAMES))
    picture = Image.new("RGB", (50, 20), "red")
    explained = classifier.explain(classifier.see(picture))
    assert torch.allclose(explained.probabilities, model(preprocess(picture)[None])[0])


def test_mistakes_are_sentences() -> None:
    """Whatever is wrong with a model of one's own."""
    model, picture = make_model(), Image.new("RGB", (8, 8))

    def of(function: Callable[[Image.Image], Tensor] | None) -> Classifier:
        return classifier_of(LoadedModel("mine", model, function, None, None, ()))

    for call, words in (
        (lambda: of(None), "no preprocessing for photographs"),
        (
            lambda: of(preprocess_badly).explain(picture),
            "preprocess 'preprocess_badly' failed with KeyError",
        ),
        (lambda: of(lambda p: 7).explain(picture), "preprocess must return a tensor, not int"),
        (lambda: _heat().explain(picture), "the page shows classifiers"),
    ):
        with pytest.raises((InputError, OptionError), match=words):
            call()


def _heat() -> Classifier:
    """No classifier: its output is a picture."""
    return Classifier("heat", nn.Conv2d(3, 1, 1).eval(), lambda picture: picture, preprocess)


def test_prediction_and_relevance_are_from_one_pass() -> None:
    """As two passes would give them, whoever chooses the class."""
    classifier = colour_classifier()
    picture = Image.new("RGB", (32, 32), "green")
    x, probabilities = classifier.input_of(picture), classifier.predict(picture)
    for target in (None, 2):
        found = classifier.explain(picture, target)
        chosen = int(probabilities.argmax()) if target is None else target
        assert found.target == chosen
        assert torch.equal(found.probabilities, probabilities)
        assert torch.equal(found.relevance, classifier.attribution().attribute(x, chosen))
