"""Arrays, tables, and models of one's own with the options for their input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lrp_fx.cli.inputs import read_samples
from lrp_fx.cli.methods import composite_for
from lrp_fx.cli.models import open_model, read_categories
from lrp_fx.cli.options import ModelOptions, TalkOptions
from lrp_fx.cli.talk import Talk
from lrp_fx.errors import InputError, LRPError, OptionError
from lrp_fx.zoo import LoadedModel
from tests.cli.helpers import one_sentence, photograph, run


def _opened(own: str, **options: object) -> LoadedModel:
    return open_model(ModelOptions(own, **options), Talk(TalkOptions()))  # type: ignore[arg-type]


def test_rows_of_a_table_are_explained_with_the_names_of_columns(tmp_path: Path, own: str) -> None:
    (tmp_path / "x.csv").write_text("age;income;height\n1;2;3\n4;5;6\n")
    result = run(
        "explain", tmp_path / "x.csv", "--model", f"{own}:table", "--json", "--out", tmp_path / "o"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["results"]
    assert [each["row"] for each in found] == [0, 1]
    assert all(Path(each["files"][0]).exists() for each in found)
    assert found[0]["files"] != found[1]["files"]
    (first, _) = read_samples(tmp_path / "x.csv")
    assert first.words == ("age", "income", "height")


def test_arrays_hold_samples(tmp_path: Path, own: str) -> None:
    """With --single one; photographs of numbers are drawn as photographs."""
    array = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    np.save(tmp_path / "two.npy", array)
    np.save(tmp_path / "one.npy", array[0])
    for name, options, count in (("two", (), 2), ("one", ("--single",), 1)):
        result = run(
            *("explain", tmp_path / f"{name}.npy", "--model", f"{own}:net", *options),
            *("--json", "--out", tmp_path / "o"),
        )
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["results"]
        assert len(found) == count
        assert found[0]["target"] in range(4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("1,2\n3\n", "row 1 has 1 cells instead of 2"),
        ("a,b\n1,x\n", "'x' in row 0, column b, is not a number"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
    ],
)
def test_wrong_tables_are_one_sentence(tmp_path: Path, content: str | bytes, reason: str) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=reason):
        list(read_samples(file))


def test_wrong_arrays_are_one_sentence(tmp_path: Path) -> None:
    """Objects are refused, because reading them would run code."""
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "number.npy", np.float32(1))
    np.save(tmp_path / "texts.npy", np.array(["a"]))
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    (tmp_path / "empty.npy").touch()
    for file in sorted(tmp_path.glob("*.npy")):
        with pytest.raises(InputError, match=r"not a plain \.npy array"):
            list(read_samples(file))
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    with pytest.raises(InputError, match="no samples"):
        list(read_samples(tmp_path / "none.npy"))


def test_options_replace_the_preprocessing(own: str) -> None:
    image = Image.new("RGB", (40, 30), (255, 0, 0))
    usual = _opened(f"{own}:make")
    assert usual.preprocess is not None
    assert usual.preprocess(image).shape == (3, 16, 16)
    native = _opened(f"{own}:make", resize="0")
    assert native.preprocess is not None
    assert native.preprocess(image).shape == (3, 30, 40)
    torch.testing.assert_close(native.preprocess(image)[:, 0, 0], torch.tensor([2.0, -2.0, -2.0]))
    exact = _opened(f"{own}:make", resize="20x10", crop=0, mean="0", std="0.5")
    assert exact.preprocess is not None
    assert exact.preprocess(image).shape == (3, 20, 10)
    assert exact.preprocess(image)[0].unique().tolist() == [2]
    assert exact.bounds is not None
    assert exact.bounds[1].flatten().tolist() == [2, 2, 2]


def test_grey_models_are_seen_by_their_first_convolution(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model without preprocessing gets the photograph as it is, which is said."""
    grey = _opened(f"{own}:grey")
    assert grey.preprocess is not None
    assert grey.preprocess(Image.new("RGB", (5, 4), "white")).tolist() == [[[1.0] * 5] * 4]
    assert "the model brings no preprocessing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("wrong", "must return the model, or (model, preprocess)"),
        ("fails", "my mistake"),
        ("nothing", "there is no 'nothing'"),
        ("torch.nothing", "there is no 'torch.nothing'"),
    ],
)
def test_wrong_factories_are_one_sentence(tmp_path: Path, own: str, name: str, part: str) -> None:
    file = photograph(tmp_path / "x.png")
    one_sentence(run("explain", file, "--model", f"{own}:{name}", "--out", tmp_path / "o"), part)


@pytest.mark.parametrize(
    "name", ["nowhere.py:make", "no_such_package.models:make", "x.py", ":make"]
)
def test_places_without_a_model_are_one_sentence(tmp_path: Path, name: str) -> None:
    one_sentence(run("plan", "--model", name), name.split(":")[0])


def test_every_kind_of_factory_works(tmp_path: Path, own: str) -> None:
    """A module, a pair, categories by index, a model under a name; also as package.module."""
    file = photograph(tmp_path / "x.png")
    for name in ("net", "function", "a_model", "make"):
        result = run(
            "explain", file, "--model", f"{own}:{name}", "--save", "npy", "--out", tmp_path / "o"
        )
        assert result.exit_code == 0, result.output
    result = run("plan", "--model", "torch.nn:ReLU", "--shape", "1,3", "--quiet")
    assert result.exit_code == 0, result.output


def test_weights_of_every_form(tmp_path: Path, own: str) -> None:
    """safetensors, wrapped checkpoints and prefixes; the network computes with them."""
    state = {
        key: torch.full_like(value, 0.5)
        for key, value in _opened(f"{own}:net").model.state_dict().items()
    }
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "b.pt")
    torch.save(
        {"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "c.pt"
    )
    torch.save(
        {f"_orig_mod.module.{key}": value for key, value in state.items()}, tmp_path / "d.pt"
    )
    for name in ("a.safetensors", "b.pt", "c.pt", "d.pt"):
        found = _opened(f"{own}:net", weights=tmp_path / name).model
        assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())


def test_wrong_weights_are_one_sentence(tmp_path: Path, own: str) -> None:
    torch.save(torch.nn.ReLU(), tmp_path / "code.pt")
    torch.save({1: torch.zeros(3)}, tmp_path / "integers.pt")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 30)
    for name, part in (
        ("code.pt", "reading that would run its code"),
        ("integers.pt", "plain state dict"),
        ("list.pt", "plain state dict"),
        ("damaged.safetensors", "damaged"),
        ("", "not a file"),
    ):
        with pytest.raises(LRPError, match=part):
            _opened(f"{own}:net", weights=tmp_path / name)


def test_names_of_classes(tmp_path: Path, own: str) -> None:
    for name, content in (
        ("a.txt", "one\ntwo\n\nfour\n\n"),
        ("b.json", '["one", "two", "", "four"]'),
        ("c.json", '{"id2label": {"0": "one", "1": "two", "3": "four", "2": ""}}'),
    ):
        (tmp_path / name).write_text(content)
        assert read_categories(tmp_path / name) == ("one", "two", "", "four")
    for name, content in (("d.json", "{"), ("e.json", '{"a": 1}'), ("f.txt", ""), ("g.json", "3")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=name):
            read_categories(tmp_path / name)
    file = photograph(tmp_path / "x.png")
    (tmp_path / "h.txt").write_text("one\ntwo\n")
    result = run(
        "explain",
        file,
        "--model",
        f"{own}:net",
        "--categories",
        tmp_path / "h.txt",
        "--out",
        tmp_path / "o",
    )
    one_sentence(result, "2 names of classes, but the model has 4 outputs", code=1)
    result = run(
        "explain",
        file,
        "--model",
        f"{own}:net",
        "--categories",
        tmp_path / "a.txt",
        "--target",
        "four",
        "--out",
        tmp_path / "o",
        "--save",
        "npy",
        "--quiet",
    )
    assert "four" in result.output


def test_strips_and_small_photographs_are_one_sentence(tmp_path: Path, own: str) -> None:
    """A strip is not resized to gigabytes, and a crop does not add black borders."""
    Image.new("RGB", (60000, 1)).save(tmp_path / "strip.png")
    photograph(tmp_path / "good.png")
    common = ("--model", f"{own}:make", "--save", "npy", "--out", tmp_path / "o")
    result = run("explain", tmp_path, *common, "--resize", 200)
    one_sentence(result, "more than 16 million", "strip.png", code=1)
    result = run("explain", tmp_path / "good.png", *common, "--resize", 0, "--crop", 30)
    one_sentence(result, "a square of 30 cannot be cropped", code=1)
    with pytest.raises(OptionError, match="needs the smallest and largest input"):
        composite_for(_opened(f"{own}:function"), "epsilon_gamma_box")


def test_timm_and_hugging_face_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    for package, name in (("timm", "timm/resnet18"), ("transformers", f"hf/{tmp_path}")):
        monkeypatch.setitem(sys.modules, package, None)
        one_sentence(run("plan", "--model", name), f"pip install {package}")


def test_a_folder_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    one_sentence(run("plan", "--model", tmp_path), f"cannot load the folder {tmp_path}")
    one_sentence(
        run("explain-text", "a", "--model", tmp_path), f"cannot load the folder {tmp_path}"
    )
