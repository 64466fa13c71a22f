"""``lrp-fx plan``, ``audit``, ``export`` and ``explain-text``."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.utils import logging

from lrp_fx import LRPFx
from lrp_fx.cli import runs
from lrp_fx.cli.commands import COMMANDS
from lrp_fx.cli.inputs import Sample
from lrp_fx.zoo import load
from tests.cli.helpers import one_sentence, photograph, run

SEVERAL = 60
"""So many random calls in the quick tests."""


def test_plan_says_which_rule_and_why(own: str) -> None:
    plain = run("plan", "--model", f"{own}:make", "--composite", "epsilon_plus")
    assert plain.exit_code == 0, plain.output
    result = run(
        "plan", "--model", f"{own}:make", "--composite", "epsilon_plus", "--top-k", 0.5, "--json"
    )
    steps = json.loads(result.stdout)["steps"]
    assert {step["rule"].partition("(")[0] for step in steps} >= {"ZPlus", "Epsilon"}
    assert any(step["top_k"] == 0.5 for step in steps)
    for step in steps:
        assert step["node"] in plain.output
    quiet = run("plan", "--model", f"{own}:make", "--quiet")
    assert sum(int(line.split()[0]) for line in quiet.output.splitlines()) == len(steps)


def test_plan_takes_an_example_where_one_is_needed(own: str, tmp_path: Path) -> None:
    """A plain square is tried; a shape or a file can be given."""
    for options in ((), ("--shape", "1,3,9,9"), ("--input", photograph(tmp_path / "x.png"))):
        result = run("plan", "--model", f"{own}:make", *options, "--quiet")
        assert result.exit_code == 0, result.output
    for wrong in ("1", "a,b", "1,-3", "99999,99999,99999"):
        one_sentence(run("plan", "--model", f"{own}:make", "--shape", wrong), "shape must be")
    both = run(
        "plan", "--model", f"{own}:make", "--shape", "1,3,9,9", "--input", tmp_path / "x.png"
    )
    one_sentence(both, "pass one of them")


def test_audit_closes_and_accounts(own: str, tmp_path: Path) -> None:
    file = photograph(tmp_path / "x.png")
    result = run("audit", file, "--model", f"{own}:make", "--json", "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["results"]
    assert found["closes"] is True
    assert found["ledger"]["entries"]
    assert Path(found["files"][0]).exists()
    quiet = run(
        "audit", file, tmp_path / "nowhere.png", "--model", f"{own}:make", "--target", 1, "--quiet"
    )
    assert quiet.exit_code == 1
    assert f"{file}: the ledger closes; " in quiet.output
    softmax = run("audit", file, "--model", f"{own}:make", "--start", "softmax", "--bias", "ignore")
    assert softmax.exit_code == 0, softmax.output


def test_export_writes_what_explain_computes(own: str, tmp_path: Path) -> None:
    """The file appears complete, with the logits and the relevance of the library."""
    file = tmp_path / "e.pt2"
    result = run("export", file, "--model", f"{own}:make", "--composite", "epsilon", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["format"] == "pt2"
    program = torch.export.load(file).module()
    loaded = load(f"{own}:make")
    x = torch.rand(2, 3, 16, 16)
    _, relevance = program(x, torch.tensor([1, 2]))
    torch.testing.assert_close(relevance, LRPFx(loaded.model, "epsilon").attribute(x, [1, 2]))
    assert [each.name for each in tmp_path.iterdir()] == ["e.pt2"]


def test_an_export_that_fails_leaves_the_older_file(own: str, tmp_path: Path) -> None:
    (tmp_path / "e.pt2").write_text("older")
    failed = run("export", tmp_path / "e.pt2", "--model", f"{own}:make", "--shape", "1,2,16,16")
    one_sentence(failed)
    assert (tmp_path / "e.pt2").read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 1
    for name, part in (("e.txt", ".pt2 or .onnx"), ("no/e.pt2", "no folder"), ("", "")):
        one_sentence(run("export", tmp_path / name, "--model", f"{own}:make"), part)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of Hugging Face with small random classifiers: of sentences, and of images."""
    texts, images = (tmp_path_factory.mktemp(name) for name in ("texts", "images"))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "!"]
    (texts / "vocab.txt").write_text("\n".join(words))
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    logging.disable_progress_bar()
    BertTokenizer(str(texts / "vocab.txt")).save_pretrained(texts)
    BertForSequenceClassification(
        BertConfig(vocab_size=len(words), id2label={0: "negative", 1: "positive"}, **sizes)
    ).save_pretrained(texts)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(images)
    ViTForImageClassification(
        ViTConfig(image_size=16, patch_size=8, id2label={0: "cat", 1: "dog", 2: "cow"}, **sizes)
    ).save_pretrained(images)
    return texts, images


def test_sentences_of_a_classifier(folders: tuple[Path, Path], tmp_path: Path) -> None:
    texts, _ = folders
    page = tmp_path / "page.html"
    result = run(
        "explain-text",
        "a good film !",
        "--model",
        texts,
        "--target",
        "positive",
        "--json",
        "--html",
        page,
    )
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["results"]
    (part,) = found["parts"]
    assert part["tokens"] == ["[CLS]", "a", "good", "film", "!", "[SEP]"]
    assert found["target_name"] == "positive"
    assert len(part["relevance"]) == 6
    assert "good" in page.read_text()
    pair = run("explain-text", "a good film", "a <bad> film", "--model", texts, "--html", page)
    assert pair.exit_code == 0, pair.output
    assert "<bad>" not in page.read_text()
    assert "%" in pair.output


def test_lines_of_a_file_are_explained_one_by_one(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    texts, _ = folders
    (tmp_path / "x.tsv").write_text("a good film\na bad film\ta good film\n\n")
    result = run("explain-text", "--lines", tmp_path / "x.tsv", "--model", texts, "--quiet")
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 2


def test_wrong_texts_are_one_sentence(folders: tuple[Path, Path], tmp_path: Path) -> None:
    texts, _ = folders
    (tmp_path / "empty.txt").touch()
    for arguments, part in (
        ((), "pass one sentence"),
        (("a", "b", "c"), "pass one sentence"),
        ((" ",), "a sentence is empty"),
        (("a", "--lines", tmp_path / "empty.txt"), "takes the place"),
        (("--lines", tmp_path / "empty.txt"), "no texts"),
        (("--lines", tmp_path / "nowhere.txt"), "No such file"),
        (("a", "--target", "neutral"), "no class 'neutral'"),
        (("a", "--top-k", "2"), "top_k"),
        (("a", "--model", "nothing"), "no model of sentences"),
    ):
        one_sentence(run("explain-text", "--model", texts, *arguments), part)


def test_images_of_a_folder_of_hugging_face(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, images = folders
    file = photograph(tmp_path / "x.png")
    for name in (images, f"hf/{images}"):
        result = run(
            "explain", file, "--model", name, "--target", "cow", "--quiet", "--out", tmp_path / "o"
        )
        assert result.exit_code == 0, result.output
        assert "cow" in result.output


def _random_calls(own: str, folder: Path, count: int) -> None:
    """Every call ends with a documented exit code, and no error is a traceback."""
    rng = random.Random(0)
    file = photograph(folder / "x.png")
    (folder / "x.csv").write_text("1,2,3\n")
    words = [
        *(
            "--target",
            "--composite",
            "--top-k",
            "--filter-by",
            "--start",
            "--bias",
            "--mean",
            "--std",
        ),
        *("--resize", "--crop", "--grey", "--json", "--quiet", "--single", "--save", "--device"),
        *(
            "0",
            "1",
            "-1",
            "0.5",
            "nan",
            "inf",
            "1e999",
            "",
            "ä",
            "\n",
            "[red]",
            "cat",
            "softmax",
            "blog",
        ),
        *(
            "epsilon",
            "epsilon_gamma_box",
            "npy",
            "magnitude",
            "distribute",
            "0,0,0",
            "8x8",
            "cpu",
            "cuda:99",
        ),
        *(
            str(file),
            str(folder),
            str(folder / "x.csv"),
            "nowhere",
            "--help",
            "--input",
            "--shape",
            "1,3,8,8",
        ),
    ]
    for _ in range(count):
        # those are slow; app serves until it is ended
        left_out = ("search", "evaluate", "explain-text", "app")
        command = rng.choice([name for name in COMMANDS if name not in left_out])
        arguments = rng.choices(words, k=rng.randint(0, 5))
        if command in ("explain", "compare"):
            arguments += ["--save", "npy", "--out", str(folder / "o")]
        elif command == "export":
            arguments = [str(folder / "e.onnx"), "--shape", "1,3", *arguments]
        if command != "composites":
            arguments += ["--model", f"{own}:make"]
        result = run(command, *arguments)
        assert result.exit_code in (0, 1, 2), (command, arguments, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            command,
            arguments,
        )


def test_random_calls_end_as_documented(own: str, tmp_path: Path) -> None:
    _random_calls(own, tmp_path, SEVERAL)


@pytest.mark.slow
def test_many_random_calls_end_as_documented(own: str, tmp_path: Path) -> None:
    _random_calls(own, tmp_path, 2000)


@pytest.mark.parametrize("command", ["explain", "audit"])
def test_an_interrupted_run_says_what_is_done(
    command: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in JSON, and in the summary."""
    files = [photograph(tmp_path / f"{name}.png", seed) for seed, name in enumerate("abc")]
    read = runs.read_samples

    def interrupted(file: Path, *, single: bool = False) -> Iterator[Sample]:
        if file.name == "c.png":
            raise KeyboardInterrupt
        return read(file, single=single)

    monkeypatch.setattr(runs, "read_samples", interrupted)
    out = tmp_path / "o"
    result = run(command, *files, "--model", f"{own}:make", "--json", "--out", out)
    assert result.exit_code == 130
    assert "interrupted: 2 inputs are done" in result.stderr
    done = json.loads(result.stdout)["results"]
    assert [Path(each["input"]).name for each in done] == ["a.png", "b.png"]
    if command == "explain":
        assert len(json.loads((out / "summary.json").read_text())["results"]) == 2
