"""The command line on real photographs: tables, pictures, and one sentence for each mistake."""

import inspect
import shutil
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lrp_fx import __version__, cli
from lrp_fx.cli.commands import app, find_images, picture_names, read_photograph, resolve_target
from lrp_fx.composites import PRESETS
from lrp_fx.errors import InputError, TargetError
from tests.helpers.photographs import EXAMPLES

CATEGORIES = ("tiger", "tiger cat", "golden retriever", "Labrador retriever", "espresso")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _assert_one_sentence(result: Result, *parts: str) -> None:
    """The command refused in one line, on purpose (exit code 2), and the line holds ``parts``."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    for part in parts:
        assert part in result.output


def test_explain_predicts_and_draws(tmp_path: Path) -> None:
    """The demo: a folder in, the right classes by name, the numbers, and a picture for each."""
    result = _run("explain", EXAMPLES, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    first = [line for line in result.output.splitlines() if "predicted 1" in line]
    assert "tiger cat" in first[0]
    assert "espresso" in first[1]
    assert result.output.count("predicted 3") == 2
    assert result.output.count("│ relevance sum") == 2
    assert result.output.count("convergence delta") == 2
    for name in ("chelsea.lrp.png", "coffee.lrp.png"):
        assert str(tmp_path / name) in result.output
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 2 * picture.height


def test_broken_image_is_skipped(tmp_path: Path) -> None:
    """One damaged file costs its own explanation and the exit code, not those of the others."""
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    whole = (EXAMPLES / "chelsea.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(EXAMPLES / "coffee.jpg", tmp_path)
    result = _run("explain", tmp_path, tmp_path / "nowhere.png", "--out", tmp_path / "out")
    assert result.exit_code == 1
    for name in ("broken.jpg", "cut.jpg", "nowhere.png"):
        assert f"error: cannot read {tmp_path / name}" in result.output
    assert "3 of 4 images could not be explained" in result.output
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["coffee.lrp.png"]


def test_equal_names_do_not_overwrite(tmp_path: Path) -> None:
    """Two files of the same name in different folders give two pictures."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(EXAMPLES / "coffee.jpg", tmp_path / folder)
    result = _run("explain", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    pictures = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert pictures == ["a-coffee.lrp.png", "b-coffee.lrp.png"]


def test_a_filtered_map_is_drawn_on_request(tmp_path: Path) -> None:
    """Beside the map of the logit and that against other classes, so the picture is wider."""
    widths = []
    for options in ([], ["--top-k", "0.05", "--filter-by", "magnitude"]):
        result = _run("explain", EXAMPLES / "coffee.jpg", *options, "--out", tmp_path)
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "coffee.lrp.png") as picture:
            widths.append(picture.width)
    assert widths[1] / widths[0] == pytest.approx(4 / 3, abs=0.05)


@pytest.mark.parametrize("target", ["967", "espresso", "ESPRESSO"])
def test_target_by_name_or_index(tmp_path: Path, target: str) -> None:
    """The same class can be asked for by index and by name, and is not the predicted one."""
    result = _run("explain", EXAMPLES / "chelsea.jpg", "--target", target, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    explained = next(line for line in result.output.splitlines() if "explained" in line)
    assert "espresso" in explained
    assert "967" in explained


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--target", "retriever"], ["golden retriever (207)", "Labrador retriever (208)"]),
        (["--target", "espreso"], ["'espreso'", "espresso (967)"]),
        (["--target", "1000"], ["0 to 999"]),
        (["--target", "-1"], ["0 to 999"]),
        (["--composite", "epsilon_pluss"], ["epsilon_pluss", "epsilon_plus"]),
        (["--model", "vgg16"], ["torchvision/vgg16"]),
        (["--weights", "nowhere.pth"], ["nowhere.pth"]),
        (["--device", "abacus"], ["'abacus'"]),
        (["--top-k", "1.5"], ["1.5"]),
        (["--top-k", "0"], ["top_k", "got 0"]),
        (["--filter-by", "magnitude"], ["pass --top-k too"]),
    ],
)
def test_wrong_options_are_one_sentence(
    tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    """Whatever is wrong with an option is said in one line without traceback, with near misses."""
    result = _run("explain", EXAMPLES, *arguments, "--out", tmp_path)
    _assert_one_sentence(result, *parts)


def test_offline_model_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that cannot be downloaded lead to the model that needs no network."""

    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("unreachable")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    result = _run("explain", EXAMPLES, "--model", "torchvision/vgg11", "--out", tmp_path)
    _assert_one_sentence(result, "torchvision/vgg11", "--weights FILE", "efficientnet-lite0")


def test_nothing_to_explain_is_an_error(tmp_path: Path) -> None:
    """An empty folder, or one that holds only other files, does not pass for success."""
    (tmp_path / "notes.txt").write_text("no image")
    _assert_one_sentence(_run("explain", tmp_path, "--out", tmp_path / "out"), str(tmp_path))


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    """A file where the pictures should go is named before any work is done."""
    (tmp_path / "out").write_text("a file")
    _assert_one_sentence(_run("explain", EXAMPLES, "--out", tmp_path / "out"), "cannot write")


@pytest.mark.parametrize("composite", PRESETS)
def test_composites_can_be_chosen(tmp_path: Path, composite: str) -> None:
    """Every name from the list of composites works as an option, also where bounds are needed."""
    file = EXAMPLES / "chelsea.jpg"
    result = _run("explain", file, "--composite", composite, "--out", tmp_path)
    assert result.exit_code == 0, result.output


def test_composites_are_listed() -> None:
    """Every preset can be found by name without reading the source."""
    result = _run("composites")
    assert result.exit_code == 0
    for name in PRESETS:
        assert name in result.output


def test_version() -> None:
    """A bug report can say which version it is about."""
    result = _run("--version")
    assert result.exit_code == 0
    assert __version__ in result.output


@pytest.mark.parametrize("package", ["typer", "rich", "matplotlib"])
def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without the extra the command names it instead of showing an ImportError."""
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "lrp_fx.cli.commands")
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


def test_two_classes_of_one_name_are_ambiguous() -> None:
    """Where a model has two classes of one name, the error gives the indices to choose from."""
    with pytest.raises(TargetError, match=r"crane \(0\), crane \(1\)"):
        resolve_target("crane", ("crane", "crane"))


def test_folders_are_walked_once(tmp_path: Path) -> None:
    """A file named twice is explained once; hidden files, texts and earlier pictures are not."""
    (tmp_path / "deep").mkdir()
    (tmp_path / ".thumbnails").mkdir()
    for name in ("a.JPG", "deep/b.png", "c.txt", "a.lrp.png", "._a.jpg", ".thumbnails/a.png"):
        (tmp_path / name).touch()
    found = find_images([tmp_path, tmp_path / "deep" / "b.png", tmp_path / "c.txt"])
    assert found == [tmp_path / name for name in ("a.JPG", "deep/b.png", "c.txt")]


def test_picture_names_are_distinct() -> None:
    """No two pictures share a name, whatever the folders, suffixes and letter cases."""
    files = [Path(name) for name in ("x/a.jpg", "x/a.png", "y/A.jpg", "x-a.jpg", "y/x/a.jpg")]
    names = picture_names(files)
    assert len({name.casefold() for name in names}) == len(files)
    assert names[:2] == ["x-a.lrp.png", "x-a-2.lrp.png"]


def test_photographs_are_upright(tmp_path: Path) -> None:
    """A camera's rotation flag is obeyed: the network sees what the user sees."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turned by a quarter
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_photograph(tmp_path / "turned.jpg").size == (10, 20)


def test_deep_and_transparent_photographs(tmp_path: Path) -> None:
    """16 bits are scaled, not cut at 255; what is transparent is white, whatever hides there."""
    sixteen = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "deep.png")
    found = np.asarray(read_photograph(tmp_path / "deep.png"))
    assert found.tolist() == [[[value] * 3 for value in (0, 100, 255)]]
    Image.new("RGBA", (1, 1), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_photograph(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_a_folder_is_no_photograph(tmp_path: Path) -> None:
    """Errors of the operating system keep their reason."""
    with pytest.raises(InputError, match=r"Is a directory|Permission denied"):
        read_photograph(tmp_path)


def test_help_breaks_lines_behind_sentences() -> None:
    """The lines of a command's description are kept in its help, whatever the terminal's width."""
    for command in app.registered_commands:
        lines = (inspect.getdoc(command.callback) or "").split("\n\n", 1)[1:]
        assert all(line.endswith(".") for part in lines for line in part.split("\n") if line)
