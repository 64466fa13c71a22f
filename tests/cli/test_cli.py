"""``lrp-fx explain`` and ``compare``: pictures, tables, summaries, and one sentence per mistake."""

from __future__ import annotations

import inspect
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from rich.table import Table
from typer import Exit

from lrp_fx import LRPFx, __version__, cli, composites, load_explanation
from lrp_fx.cli.commands import COMMANDS
from lrp_fx.cli.names import OWN
from lrp_fx.cli.options import TalkOptions
from lrp_fx.cli.talk import Talk, console
from lrp_fx.cli.targets import resolve_target
from lrp_fx.composites import PRESETS
from lrp_fx.errors import TargetError
from lrp_fx.zoo import load
from tests.cli.helpers import one_sentence, photograph, run
from tests.helpers.photographs import EXAMPLES

CATEGORIES = ("tiger", "tiger cat", "golden retriever", "Labrador retriever", "espresso")
ROUNDING = 1e-4
"""Sums of some hundred float32 values, and of their maps read from a file."""


class Full(io.StringIO):
    """A file that takes nothing."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__()
        self.error = OSError(number, reason)

    def write(self, text: str) -> int:
        raise self.error


def test_the_demo_predicts_draws_and_accounts(tmp_path: Path) -> None:
    """A folder in; the right classes by name, where the output went, and a picture for each."""
    result = run("explain", EXAMPLES, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    first = [line for line in result.output.splitlines() if "predicted 1" in line]
    assert "tiger cat" in first[0]
    assert "espresso" in first[1]
    assert "biases: constants of the network" in result.output
    assert "a small share of the pixels is not a failure" in result.output
    pictures = sorted(tmp_path.glob("*.lrp.png"))
    assert [file.name for file in pictures] == ["chelsea.lrp.png", "coffee.lrp.png"]
    for file in pictures:
        assert str(file) in result.output
        with Image.open(file) as picture:
            assert picture.width > 2 * picture.height
    found = json.loads((tmp_path / "summary.json").read_text())["results"]
    for each in found:
        parts = each["relevance"]
        whole = parts["at_input"] + sum(parts["taken"].values())
        assert whole == pytest.approx(parts["start"], rel=ROUNDING)


def test_json_is_the_only_output(tmp_path: Path, own: str) -> None:
    """Other programs read the result; what it says of the target is what the library computes."""
    file = photograph(tmp_path / "x.png")
    result = run(
        "explain",
        file,
        "--model",
        f"{own}:make",
        "--target",
        "dog",
        "--json",
        "--out",
        tmp_path / "o",
    )
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["results"]
    loaded = load(f"{own}:make")
    x = loaded.preprocess(Image.open(file))[None]
    relevance = LRPFx(loaded.model).attribute(x, 2)
    assert found["target_name"] == "dog"
    assert found["relevance"]["at_input"] == pytest.approx(float(relevance.sum()), rel=ROUNDING)
    assert found["output"] == pytest.approx(loaded.model(x)[0, 2].item(), rel=ROUNDING)


def test_quiet_is_one_line_for_each_picture(tmp_path: Path, own: str) -> None:
    for number in range(3):
        photograph(tmp_path / f"{number}.png", number)
    result = run(
        "explain",
        tmp_path,
        "--model",
        f"{own}:make",
        "--quiet",
        "--save",
        "npy",
        "--out",
        tmp_path / "o",
    )
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 3
    assert all("at the pixels" in line for line in result.output.splitlines())


def test_maps_are_saved_as_data(tmp_path: Path, own: str) -> None:
    """The array is the relevance; each further map has a file of its own; the folder is complete."""
    file = photograph(tmp_path / "x.png")
    options = (
        "--save",
        "npy",
        "--save",
        "folder",
        "--save",
        "svg",
        "--top-k",
        0.1,
        "--filter-by",
        "magnitude",
    )
    result = run(
        "explain", file, "--model", f"{own}:make", *options, "--out", tmp_path / "o", "--json"
    )
    assert result.exit_code == 0, result.output
    names = [Path(each).name for each in json.loads(result.stdout)["results"][0]["files"]]
    assert len(names) == 3 + 1 + 1
    loaded = load(f"{own}:make")
    x = loaded.preprocess(Image.open(file))[None]
    maps = [np.load(tmp_path / "o" / name) for name in names if name.endswith(".npy")]
    target = int(loaded.model(x).argmax())
    lrp = LRPFx(loaded.model)
    for found, expected in zip(
        maps,
        (
            lrp,
            lrp.with_options(start="against_rest"),
            lrp.with_options(top_k=0.1, filter_by="magnitude"),
        ),
        strict=True,
    ):
        torch.testing.assert_close(torch.from_numpy(found), expected.attribute(x, target))
    (folder,) = (name for name in names if name.endswith(".lrp"))
    assert load_explanation(tmp_path / "o" / folder).target == target
    again = run(
        "explain",
        tmp_path,
        "--model",
        f"{own}:make",
        "--save",
        "npy",
        "--quiet",
        "--out",
        tmp_path / "p",
    )
    assert len(again.output.splitlines()) == 1  # results are no inputs


def test_the_mode_of_the_post(tmp_path: Path, own: str) -> None:
    """All classes at once, by the algorithm of 2021 with its filter."""
    file = photograph(tmp_path / "x.png")
    options = ("--composite", "blog", "--start", "softmax", "--top-k", 0.5, "--save", "npy")
    result = run(
        "explain", file, "--model", f"{own}:make", *options, "--json", "--out", tmp_path / "o"
    )
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["results"]
    assert found["target"] is None
    loaded = load(f"{own}:make")
    x = loaded.preprocess(Image.open(file))[None]
    for name, share in zip(found["files"], (1.0, 0.5), strict=True):
        expected = LRPFx(loaded.model, composites.compat.blog(share), start="softmax").attribute(x)
        torch.testing.assert_close(torch.from_numpy(np.load(name)), expected)


def test_distributed_biases_reach_the_pixels(tmp_path: Path, own: str) -> None:
    file = photograph(tmp_path / "x.png")
    options = ("--composite", "epsilon_plus", "--bias", "distribute", "--json", "--save", "npy")
    result = run("explain", file, "--model", f"{own}:make", *options, "--out", tmp_path / "o")
    (found,) = json.loads(result.stdout)["results"]
    assert (
        "bias" not in found["relevance"]["taken"]
        or abs(found["relevance"]["taken"]["bias"]) < ROUNDING
    )


def test_compare_says_how_maps_agree(tmp_path: Path, own: str) -> None:
    """A column for each composite; the first agrees with itself."""
    file = photograph(tmp_path / "x.png")
    names = ("epsilon_plus", "epsilon", "epsilon_gamma_box")
    chosen = [word for name in names for word in ("--composite", name)]
    result = run(
        "compare", file, "--model", f"{own}:make", *chosen, "--json", "--out", tmp_path / "o"
    )
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["results"]
    assert [each["composite"] for each in found["compared"]] == list(names)
    assert found["compared"][0]["agreement"] == pytest.approx(1)
    assert found["compared"][1]["agreement"] < 1
    everything = run(
        "compare",
        file,
        "--model",
        f"{own}:make",
        "--composite",
        "all",
        "--save",
        "npy",
        "--out",
        tmp_path / "o",
    )
    assert everything.exit_code == 0, everything.output
    for name in (*PRESETS, "blog"):
        assert name in everything.output


def test_broken_image_is_skipped(tmp_path: Path, own: str) -> None:
    """One damaged file costs its own explanation and the exit code, not those of the others."""
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    whole = (EXAMPLES / "chelsea.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    photograph(tmp_path / "good.png")
    result = run(
        "explain",
        tmp_path,
        tmp_path / "nowhere.png",
        "--model",
        f"{own}:make",
        "--out",
        tmp_path / "out",
    )
    assert result.exit_code == 1
    for name in ("broken.jpg", "cut.jpg", "nowhere.png"):
        assert f"error: cannot read {tmp_path / name}" in result.output
    assert "3 of 4 inputs could not be explained" in result.output
    assert len(list((tmp_path / "out").glob("good.lrp.png"))) == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["failed"] == 3
    assert [each.name for each in (tmp_path / "out").glob(".*")] == [OWN]


def test_a_summary_keeps_what_earlier_runs_said(tmp_path: Path, own: str) -> None:
    """It lists all that the folder holds, and a foreign file of its name is not replaced."""
    out = tmp_path / "o"
    for name in ("a", "b", "a"):
        result = run(
            "explain",
            photograph(tmp_path / f"{name}.png"),
            "--model",
            f"{own}:make",
            "--save",
            "npy",
            "--out",
            out,
        )
        assert result.exit_code == 0, result.output
    assert json.loads((out / "summary.json").read_text())["explained"] == 2
    assert len((out / "summary.csv").read_text().splitlines()) == 3
    (out / "summary.json").write_text("my notes")
    one_sentence(
        run("explain", tmp_path / "a.png", "--model", f"{own}:make", "--out", out),
        "not a summary of lrp-fx",
    )
    assert (out / "summary.json").read_text() == "my notes"


@pytest.mark.parametrize("target", ["3", "cup", "CUP"])
def test_target_by_name_or_index(tmp_path: Path, own: str, target: str) -> None:
    """The same class can be asked for by index and by name."""
    file = photograph(tmp_path / "x.png")
    result = run(
        "explain",
        file,
        "--model",
        f"{own}:make",
        "--target",
        target,
        "--save",
        "npy",
        "--out",
        tmp_path / "o",
    )
    assert result.exit_code == 0, result.output
    explained = next(line for line in result.output.splitlines() if "explained" in line)
    assert "cup" in explained


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--target", "c"], ["cat (0)", "cup (3)"]),
        (["--target", "dogg"], ["'dogg'", "dog (2)"]),
        (["--target", "4"], ["0 to 3"]),
        (["--target", "-1"], ["0 to 3"]),
        (["--target", "9" * 5000], ["0 to 3"]),
        (["--composite", "epsilon_pluss"], ["epsilon_pluss", "epsilon_plus"]),
        (["--composite", "epsilon", "--composite", "nothing"], ["nothing"]),
        (["--model", "vgg16"], ["torchvision/vgg16"]),
        (["--weights", "nowhere.pth"], ["nowhere.pth"]),
        (["--categories", "nowhere.txt"], ["nowhere.txt"]),
        (["--device", "abacus"], ["'abacus'"]),
        (["--device", "meta"], ["keeps no values"]),
        (["--top-k", "1.5"], ["1.5"]),
        (["--top-k", "0"], ["top_k", "got 0"]),
        (["--filter-by", "magnitude"], ["pass --top-k too"]),
        (["--save", "bmp"], ["'png'", "'bmp'"]),
        (["--mean", "a,b"], ["mean must be a number"]),
        (["--mean", "1,2"], ["or 3 with commas"]),
        (["--std", "0"], ["std must not be 0"]),
        (["--resize", "-3"], ["resize must be"]),
        (["--resize", "0x4"], ["resize must be"]),
    ],
)
def test_wrong_options_are_one_sentence(
    tmp_path: Path, own: str, arguments: list[str], parts: list[str]
) -> None:
    """Whatever is wrong with an option is said in one line without traceback, with near misses."""
    file = photograph(tmp_path / "x.png")
    one_sentence(
        run("explain", file, "--model", f"{own}:make", *arguments, "--out", tmp_path / "o"), *parts
    )


def test_offline_model_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that cannot be downloaded lead to the model that needs no network."""

    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("unreachable")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    result = run("explain", EXAMPLES, "--model", "torchvision/squeezenet1_1", "--out", tmp_path)
    one_sentence(result, "torchvision/squeezenet1_1", "--weights FILE", "efficientnet-lite0")


def test_nothing_to_explain_is_an_error(tmp_path: Path, own: str) -> None:
    """An empty folder, or one that holds only other files, does not pass for success."""
    (tmp_path / "notes.txt").write_text("no image")
    one_sentence(
        run("explain", tmp_path, "--model", f"{own}:make", "--out", tmp_path / "out"), str(tmp_path)
    )


def test_out_must_be_a_folder(tmp_path: Path, own: str) -> None:
    """A file where the pictures should go is named before any work is done."""
    (tmp_path / "out").write_text("a file")
    file = photograph(tmp_path / "x.png")
    one_sentence(
        run("explain", file, "--model", f"{own}:make", "--out", tmp_path / "out"), "cannot write"
    )


def test_a_device_that_is_missing_is_replaced_with_a_sentence(tmp_path: Path, own: str) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    file = photograph(tmp_path / "x.png")
    result = run(
        "explain",
        file,
        "--model",
        f"{own}:make",
        "--device",
        "mps",
        "--save",
        "npy",
        "--out",
        tmp_path / "o",
    )
    assert result.exit_code == 0, result.output
    assert "note: there is no device 'mps' here: computing on the CPU" in result.output


def test_composites_are_listed() -> None:
    """Every preset can be found by name without reading the source, in plain words."""
    for options in ((), ("--json",), ("--quiet",)):
        result = run("composites", *options)
        assert result.exit_code == 0
        for name in (*PRESETS, "blog"):
            assert name in result.output
        assert ":class:" not in result.output
        assert "``" not in result.output


def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """What a command says is written to somewhere, too; a closed pipe has its own way to end it."""
    talk = Talk(TalkOptions(json=False, quiet=False), console(Full(28, "No space left on device")))
    for say in (
        lambda: talk.result("a"),
        lambda: talk.say("a"),
        lambda: talk.show(Table("a")),
        lambda: replace(talk, options=TalkOptions(json=True, quiet=False)).document({}),
    ):
        with pytest.raises(Exit) as ended:
            say()
        assert ended.value.exit_code == 1
        written = capsys.readouterr()
        assert written.err == "error: cannot write the output: No space left on device\n"
        assert written.out == ""
    closed = Talk(TalkOptions(json=True, quiet=False), console(Full(32, "Broken pipe")))
    with pytest.raises(BrokenPipeError):  # which typer makes the exit code 1
        closed.document({})
    assert capsys.readouterr().err == ""


def test_terminals_without_columns_are_shown_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert "epsilon" in run("composites").output


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_examples_and_speaks_json(command: str) -> None:
    """Help keeps the lines of examples, whatever the terminal's width."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"lrp-fx {command}" in result.output
    for option in ("--json", "--quiet"):
        assert (option in result.output) == (command != "app")  # which serves until it is ended


def test_help_breaks_lines_behind_sentences() -> None:
    for command in COMMANDS.values():
        lines = (inspect.getdoc(command) or "").partition("Examples:")[0].split("\n")
        assert all(line.endswith((".", ":")) for line in lines if line)


def test_completion_is_offered() -> None:
    result = run("--help")
    assert "--install-completion" in result.output
    assert "--show-completion" in result.output


def test_wrong_usage_has_its_exit_code() -> None:
    for wrong in (
        ["explain"],
        ["nothing"],
        ["explain", "x.png", "--nothing"],
        ["explain", "x.png", "--start", "x"],
    ):
        assert run(*wrong).exit_code == 2


def test_version() -> None:
    """A bug report can say which version it is about."""
    result = run("--version")
    assert result.exit_code == 0
    assert __version__ in result.output


@pytest.mark.parametrize("package", ["typer", "rich", "matplotlib"])
def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without the extra the command names it instead of showing an ImportError."""
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.startswith("lrp_fx.cli.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == (
        f"lrp-fx needs the package {package}: pip install {package}, or for all that the command "
        'line needs pip install ".[cli]" in a checkout of lrp_fx'
    )


def test_target_resolution() -> None:
    """An exact name wins over the longer names that contain it; a unique part is enough."""
    assert resolve_target("predicted", CATEGORIES) is None
    assert resolve_target("Tiger", CATEGORIES) == 0
    assert resolve_target("tiger cat", CATEGORIES) == 1
    assert resolve_target("labrador", CATEGORIES) == 3
    assert resolve_target("4", CATEGORIES) == 4
    for wrong in ("retriever", "zebra", "5", "-1", ""):
        with pytest.raises(TargetError):
            resolve_target(wrong, CATEGORIES)
    assert resolve_target("7", ()) == 7
    with pytest.raises(TargetError, match="--categories FILE"):
        resolve_target("tiger", ())


def test_two_classes_of_one_name_are_ambiguous() -> None:
    """Where a model has two classes of one name, the error gives the indices to choose from."""
    with pytest.raises(TargetError, match=r"crane \(0\), crane \(1\)"):
        resolve_target("crane", ("crane", "crane"))


def test_copies_of_one_photograph_give_as_many_pictures(tmp_path: Path, own: str) -> None:
    photograph(tmp_path / "a" / "x.png")
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "x.png", tmp_path / "b")
    common = ("--model", f"{own}:make", "--save", "npy", "--quiet", "--out", tmp_path / "o")
    for folder in ("a", "b"):
        assert run("explain", tmp_path / folder, *common).exit_code == 0
    alone = {file.name for file in (tmp_path / "o").glob("*.npy")}
    assert run("explain", tmp_path / "b", tmp_path / "a", *common).exit_code == 0
    assert {file.name for file in (tmp_path / "o").glob("*.npy")} == alone
    assert len(alone) == 2 * 2  # two maps of each
