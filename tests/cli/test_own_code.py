"""Code of one's own that prints, ends the program, imports late, or computes in another dtype."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrp_fx.cli.files import read_summary, write_summary
from lrp_fx.cli.names import OWN
from tests.cli.helpers import MODELS, one_sentence, run

TALKATIVE = """
import sys
print("reading the file")

class Loud(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        print("in forward")
        return self.net(x)

def loud():
    print("in the factory")
    return Loud(), Preprocessing(18, 16, (0.5,) * 3, (0.25,) * 3)

def pixels(photograph):
    sys.stdout.write("in the preprocessing")
    return torch.full((3, 8, 8), 0.5)

def late():
    from beside_it import make
    return make()

def ends():
    sys.exit(3)
"""
CLOSE = 0.02
"""How far maps of models in 8 bits of mantissa may lie apart, as a share of the largest value."""


@pytest.fixture
def talkative(tmp_path: Path) -> Path:
    """The file with this code; a photograph lies beside it."""
    file = tmp_path / "models" / "talkative_models.py"
    file.parent.mkdir()
    file.write_text(MODELS + TALKATIVE)
    (file.parent / "beside_it.py").write_text(MODELS)
    pixels = np.random.default_rng(0).integers(0, 255, (18, 18, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    return file


@pytest.mark.parametrize("command", ["explain", "compare", "audit", "plan", "evaluate"])
def test_the_output_is_one_json_document_whatever_the_model_prints(
    command: str, talkative: Path, tmp_path: Path
) -> None:
    arguments: list[object] = [command, "--json", "--model", f"{talkative}:loud"]
    if command != "plan":
        arguments += [tmp_path / "photograph.png", "--out", tmp_path / "out"]
    if command == "evaluate":
        arguments += ["--grid", 2, "--steps", 2]
    elif command != "plan":
        arguments += ["--preprocess", f"{talkative}:pixels"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["command"] == command
    assert "in the factory" in result.stderr


def test_a_factory_may_import_what_lies_beside_it(talkative: Path, tmp_path: Path) -> None:
    assert run("plan", "--model", f"{talkative}:late").exit_code == 0


def test_code_that_ends_the_program_is_one_sentence(talkative: Path, tmp_path: Path) -> None:
    """Also a script that reads its own arguments when it is imported."""
    one_sentence(run("plan", "--model", f"{talkative}:ends"), "ends the program", "__main__")
    script = tmp_path / "script.py"
    script.write_text("import argparse\nargparse.ArgumentParser().parse_args(['--unknown'])\n")
    result = run("plan", "--model", f"{script}:make")
    assert result.exit_code == 2
    assert "script.py ends the program" in result.stderr


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "double"])
def test_photographs_get_the_dtype_of_the_model(
    dtype: str, talkative: Path, tmp_path: Path
) -> None:
    with talkative.open("a") as file:
        file.write(
            f"\ndef other():\n    model, *more = make()\n    return model.{dtype}(), *more\n"
        )
    maps = []
    for factory in ("make", "other"):
        model, out = ("--model", f"{talkative}:{factory}"), tmp_path / factory
        photograph = tmp_path / "photograph.png"
        result = run("explain", photograph, *model, "--out", out, "--save", "npy", "--target", 1)
        assert result.exit_code == 0, result.output
        maps.append(np.load(out / "photograph.lrp.npy"))
        assert run("audit", photograph, *model).exit_code == 0
    assert np.abs(maps[1] - maps[0]).max() < CLOSE * np.abs(maps[0]).max()


def test_the_summary_keeps_what_commands_write_at_once(tmp_path: Path) -> None:
    runs = [[{"input": f"{n}.png", "files": [f"{n}.lrp.png"]}] for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda results: write_summary(tmp_path, "explain", results), runs))
    assert len(read_summary(tmp_path)) == len(runs)


def test_a_result_is_listed_once_wherever_the_command_was_called(tmp_path: Path) -> None:
    for place in ("out/x.lrp.png", "../out/x.lrp.png", "/there/out/x.lrp.png"):
        write_summary(tmp_path, "explain", [{"input": "x.png", "files": [place]}])
    assert [each["files"] for each in read_summary(tmp_path)] == [["/there/out/x.lrp.png"]]


def test_a_folder_that_cannot_be_written_to_is_one_sentence(
    talkative: Path, tmp_path: Path
) -> None:
    """A file in the place of the results, of the names' folder, and no folder."""
    (tmp_path / "file").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / OWN).touch()
    photograph, model = tmp_path / "photograph.png", ("--model", f"{talkative}:make")
    for out in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "out"):
        result = run("explain", photograph, *model, "--out", out)
        assert result.exit_code == 2
        assert "cannot write" in result.stderr
        assert "Errno" not in result.output


def test_numbers_that_cannot_be_kept_are_refused(talkative: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.full((1, 3), 2**64 - 1, dtype=np.uint64))
    result = run("audit", tmp_path / "large.npy", "--model", f"{talkative}:table")
    assert result.exit_code == 1
    assert "63 bits" in result.stderr
    photograph = tmp_path / "photograph.png"
    for std in ("0", "-1", "1e-320"):
        wrong = run("audit", photograph, "--model", f"{talkative}:make", "--std", std)
        one_sentence(wrong, "std must not be 0 or less")


def test_failures_name_the_sample(talkative: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1.0, 2, 3], [1, np.nan, 3]]))
    result = run("audit", tmp_path / "x.npy", "--model", f"{talkative}:table")
    assert f"error: {tmp_path / 'x.npy'}[1]: " in result.stderr
