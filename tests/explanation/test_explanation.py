"""Explanations: what they hold, what they write, and what is refused when they are read."""

import dataclasses
import hashlib
import io
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lrp_fx import Explanation, LRPFx, explain, load_explanation
from lrp_fx.errors import InputError, LRPError, OptionError, TargetError

NAMES = ("cat", "<b>dog", "bird", "cow", "$x$")


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()


def preprocess(photograph: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(photograph.convert("RGB").resize((6, 6)))).permute(2, 0, 1)
    return pixels.float() / 255 * 2 - 1


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    photograph = Image.new("RGB", (30, 30), (200, 100, 0))
    return explain(
        LRPFx(classifier()), photograph, preprocess=preprocess, mean=0.5, std=0.5, names=NAMES
    )


@pytest.fixture(scope="module")
def written(explanation: Explanation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explanation.save(tmp_path_factory.mktemp("written"))


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A saved explanation that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "saved"))


def same(found: Explanation, expected: Explanation) -> bool:
    assert found.relevance.dtype == expected.relevance.dtype
    assert found.inputs.dtype == expected.inputs.dtype
    assert torch.equal(found.relevance, expected.relevance)
    assert torch.equal(found.inputs, expected.inputs)
    assert (found.picture is None) == (expected.picture is None)
    if found.picture is not None and expected.picture is not None:
        assert np.array_equal(found.picture, expected.picture)
    plain = ("prediction", "target", "output", "delta", "plan", "names", "words", "versions")
    return all(getattr(found, name) == getattr(expected, name) for name in plain)


def test_it_holds_what_attribute_returns(explanation: Explanation) -> None:
    model, x = classifier(), preprocess(Image.new("RGB", (6, 6), (200, 100, 0)))[None]
    scores = model(x)[0].detach()
    best = int(scores.argmax())
    relevance, delta = LRPFx(model).attribute(x, best, return_convergence_delta=True)
    assert torch.equal(explanation.relevance, relevance)
    assert explanation.delta == pytest.approx(delta.item())
    assert explanation.prediction == explanation.target == best
    assert explanation.output == pytest.approx(float(scores[best]))
    assert explanation.target_name == NAMES[best]
    assert "linear" in explanation.plan
    assert explanation.picture is not None
    assert explanation.picture[0, 0].tolist() == [200, 100, 0]
    assert explanation._repr_png_().startswith(b"\x89PNG")
    assert NAMES[best] in repr(explanation)
    with pytest.raises(AttributeError):
        explanation.delta = 0.0  # type: ignore[misc]


def test_other_targets_say_so() -> None:
    lrp, x = LRPFx(classifier()), torch.rand(1, 3, 6, 6)
    best = int(classifier()(x).argmax())
    other = (best + 1) % 5
    for target in (other, np.int64(other), torch.tensor([other]), [other]):
        found = explain(lrp, x, target)  # type: ignore[arg-type]
        assert found.target == other
        assert found.summary.startswith(f"class {other}, output")
        assert f"(the model says class {best})" in found.summary
    assert explain(lrp, x.numpy(), other).relevance.shape == x.shape


def test_it_comes_back_as_it_was(explanation: Explanation, tmp_path: Path) -> None:
    folder = explanation.save(tmp_path / "new" / "folder")
    files = {path.name for path in folder.iterdir()}
    arrays = {"relevance.npy", "inputs.npy", "picture.npy"}
    assert files == arrays | {"heatmap.png", "overlay.png", "manifest.json"}
    assert same(load_explanation(folder), explanation)
    assert load_explanation(str(folder)).show().axes


@pytest.mark.parametrize("method", ["overlay", "_tensors", "full"])
def test_a_save_that_fails_leaves_the_older_one(
    explanation: Explanation, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if method == "full":

        def full(self: Path, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        monkeypatch.setattr(Explanation, method, property(lambda self: 1 / 0))
    with pytest.raises((ZeroDivisionError, InputError)):
        explanation.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert same(load_explanation(folder), explanation)


def test_several_writers_and_readers(explanation: Explanation, tmp_path: Path) -> None:
    """Whoever wins: the folder is one writer's as a whole, at any time."""
    others = [dataclasses.replace(explanation, delta=float(n), plan=str(n)) for n in range(4)]
    others = [dataclasses.replace(each, inputs=each.inputs + n) for n, each in enumerate(others)]
    explanation.save(tmp_path)

    def read(_: int) -> bool:
        found = load_explanation(tmp_path)
        return any(same_inputs(found, each) for each in (explanation, *others))

    def same_inputs(found: Explanation, each: Explanation) -> bool:
        return found.plan == each.plan and torch.equal(found.inputs, each.inputs)

    with ThreadPoolExecutor(8) as pool:
        saved = [pool.submit(each.save, tmp_path) for each in others]
        assert all(pool.map(read, range(8)))
        for each in saved:
            each.result()
    assert read(0)
    assert not list(tmp_path.glob(".*"))


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids).mean(1))  # type: ignore[no-any-return]


def flat(first: nn.Module, size: int) -> nn.Module:
    return nn.Sequential(first, nn.Flatten(), nn.Linear(size, 3))


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        (nn.Sequential(nn.Linear(4, 3)), torch.rand(1, 4), list("abcd")),
        (nn.Sequential(nn.Linear(4, 1)), torch.rand(1, 4).double(), []),
        (flat(nn.Conv1d(2, 3, 3), 24), torch.rand(1, 2, 10), ["I", "II"]),
        (flat(nn.Conv3d(1, 2, 2), 16), torch.rand(1, 1, 3, 3, 3), []),
        (Bag(), torch.tensor([[1, 2, 8]]), ["the", "cat", "sat"]),
        (Bag(), torch.tensor([[1, 2, 8]]), []),
        (nn.Sequential(nn.Linear(4, 3)), torch.rand(1, 4).bfloat16(), []),
    ],
    ids=["row", "value", "signal", "volume", "tokens", "ids", "bfloat16"],
)
def test_every_kind_of_input(model: nn.Module, x: Tensor, words: list[str], tmp_path: Path) -> None:
    if x.is_floating_point():
        model = model.to(x.dtype)
    found = explain(LRPFx(model), x, words=words)
    found.save(tmp_path)
    assert same(load_explanation(tmp_path), found)
    assert found.picture is None
    with pytest.raises(InputError, match="explanation of an image"):
        found.overlay()


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        (torch.rand(2, 3, 6, 6), {}, "one sample"),
        (torch.rand(3), {}, "one sample"),
        ((torch.rand(1, 3, 6, 6),), {}, "one tensor, array or photograph"),
        ("cat.jpg", {}, "one tensor, array or photograph"),
        (np.array([["a"]]), {}, "real numbers"),
        (Image.new("L", (6, 6)), {}, "needs preprocess="),
        (Image.new("L", (6, 6)), {"preprocess": lambda p: p}, "must return a tensor"),
        (Image.new("L", (6, 6)), {"preprocess": lambda p: 1 / 0}, "failed with ZeroDivisionError"),
        (
            Image.new("L", (7, 9)),
            {"preprocess": preprocess, "display": lambda p: p},
            "display gives 9 × 7 pixels",
        ),
        (
            Image.new("L", (6, 6)),
            {"preprocess": preprocess, "display": lambda p: None},
            "display must return a picture",
        ),
        (
            Image.new("L", (7, 9)),
            {"preprocess": preprocess, "display": lambda p: p.resize((6, 12))},
            "display gives 12 × 6 pixels",
        ),
        (torch.rand(1, 3, 6, 6), {"target": 5}, "out of range"),
        (torch.rand(1, 3, 6, 6), {"target": "cat"}, "'predicted'"),
    ],
)
def test_what_cannot_be_explained(inputs: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(LRPError, match=words):
        explain(LRPFx(classifier()), inputs, **options)
    with pytest.raises(InputError, match="needs an LRPFx"):
        explain(classifier(), inputs)  # type: ignore[arg-type]


def test_no_predicted_class_of_a_segmentation() -> None:
    lrp, x = LRPFx(nn.Sequential(nn.Conv2d(3, 4, 3))), torch.rand(1, 3, 6, 6)
    with pytest.raises(TargetError, match="no single predicted class"):
        explain(lrp, x)
    assert explain(lrp, x, (1, 2, 2)).target == "(1, 2, 2)"


def rewritten(folder: Path, name: str, content: bytes) -> None:
    """A file with other content, of which the manifest has the right digest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_nothing_is_unpickled(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(1))
    contents = [
        pickle.dumps(Bomb()),
        file.getvalue(),
        archive.getvalue(),
        b"",
        b"\x93NUMPY\x01\x00",
        b"PK\x03\x04broken",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((\n",
        npy(np.zeros((1, 3, 6, 6), dtype=np.longdouble)),
        npy(np.zeros(3, dtype="M8[s]")),
    ]
    for content in contents:
        rewritten(folder, "relevance.npy", content)
        with pytest.raises(InputError, match="no plain array of numbers"):
            load_explanation(folder)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"format": True},
        {"dtypes": ["float32", "complex64"]},
        {"dtypes": ["quint8", "float32"]},
        {"dtypes": [[], "float32"]},
        {"delta": 10**400},
        {"delta": float("nan")},
        {"output": float("inf")},
        {"files": []},
        {"files": {}},
        {"dtypes": ["float32"]},
        {"dtypes": ["float32", "Tensor"]},
        {"dtypes": ["int64", "float32"]},
        {"delta": "0"},
        {"delta": True},
        {"prediction": 1.5},
        {"names": "cat"},
        {"names": [1]},
        {"plan": None},
        {"versions": {"torch": 2}},
        {"target": [1]},
    ],
    ids=str,
)
def test_malformed_manifests(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | change))
    with pytest.raises(InputError, match="is not a saved explanation, or is damaged"):
        load_explanation(folder)
    (name,) = change
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key != name}))
    with pytest.raises(InputError, match="is not a saved explanation, or is damaged"):
        load_explanation(folder)


def test_damaged_folders(explanation: Explanation, folder: Path, tmp_path: Path) -> None:
    manifest = (folder / "manifest.json").read_bytes()
    for content in (b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(InputError, match=r"manifest\.json"):
            load_explanation(folder)
    (folder / "manifest.json").write_bytes(manifest)
    damaged = bytearray((folder / "relevance.npy").read_bytes())
    damaged[-1] ^= 1
    (folder / "relevance.npy").write_bytes(damaged)
    with pytest.raises(InputError, match="not the file that its manifest describes"):
        load_explanation(folder)
    (folder / "relevance.npy").unlink()
    with pytest.raises(InputError, match=r"holds no relevance\.npy"):
        load_explanation(folder)
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        load_explanation(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        explanation.save(tmp_path / "file")


def test_pictures_of_a_folder_are_checked_too(folder: Path) -> None:
    (folder / "overlay.png").write_bytes(b"another")
    with pytest.raises(InputError, match=r"overlay\.png is not the file"):
        load_explanation(folder)


@pytest.mark.parametrize("dtype", [">f4", "<f4"])
def test_arrays_of_any_byte_order(dtype: str) -> None:
    x = np.random.default_rng(0).random((1, 3, 6, 6)).astype(dtype)
    x.flags.writeable = False
    found = explain(LRPFx(classifier()), x, names=None, words=None)
    assert found.inputs.tolist() == x.tolist()
    with pytest.raises(InputError, match="that a tensor can hold"):
        explain(LRPFx(classifier()), x.astype(np.longdouble))


def test_names_by_index() -> None:
    lrp, x = LRPFx(classifier()), torch.rand(1, 3, 6, 6)
    for names in ({2: "bird", 0: "cat"}, {"0": "cat", "2": "bird"}):
        found = explain(lrp, x, 2, names=names)  # type: ignore[arg-type]
        assert found.names == ("cat", "class 1", "bird", "class 3", "class 4")
        assert found.target_name == "bird"
    for wrong in ("cat", {"cat": 0}, {7: "cat"}, 3):
        with pytest.raises(InputError, match="names must"):
            explain(lrp, x, names=wrong)  # type: ignore[arg-type]
    assert explain(lrp, x, -1).target == 4
    with pytest.raises(InputError, match="4 words are needed, got 3"):
        explain(LRPFx(nn.Linear(4, 3)), torch.rand(1, 4), words=list("abc"))
    with pytest.raises(InputError, match="words must be a list"):
        explain(lrp, x, words="abc")


def test_odd_texts_and_places(explanation: Explanation, tmp_path: Path) -> None:
    odd = dataclasses.replace(explanation, names=("\ud800", *NAMES[1:]), target=0)
    assert load_explanation(odd.save(tmp_path)).names == odd.names
    odd_places: Any = (None, 5)
    for wrong in odd_places:
        for use in (load_explanation, explanation.save):
            with pytest.raises(OptionError, match="folder must be a path"):
                use(wrong)
    with pytest.raises(InputError, match="a finite delta"):
        dataclasses.replace(explanation, delta=float("nan")).save(tmp_path)


def test_channels_that_come_last_have_no_picture() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6 * 6 * 3, 2))
    with pytest.raises(InputError, match="channels must come before"):
        explain(LRPFx(model), torch.rand(1, 6, 6, 3))
