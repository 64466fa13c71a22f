"""``lrp-fx batch`` and ``lrp-fx merge``: with the options that they share, and how they end."""

import json
from pathlib import Path

import numpy as np
import pytest

from lrp_fx.dataset import open_run
from tests.cli.helpers import MODELS, one_sentence, run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models and an array, from which the command is called."""
    (tmp_path / "mine.py").write_text(MODELS)
    chance = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", chance.normal(size=(10, 3, 16, 16)).astype(np.float32))
    np.save(tmp_path / "table.npy", chance.normal(size=(10, 3)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shards_are_merged(place: Path) -> None:
    options = ("--model", "mine.py:make", "--batch-size", 2, "--part-size", 4, "--keep", "concepts")
    options = (*options, "--layer", "0", "--dtype", "float16", "--top-k", 0.5)
    first = run("batch", "x.npy", "--out", "run", "--shard", "0/2", *options)
    assert first.exit_code == 0
    assert "lrp-fx merge run" in first.output
    one_sentence(run("merge", "run"), "1 of its 3 parts")
    assert run("batch", "x.npy", "--out", "run", "--shard", "1/2", *options).exit_code == 0
    merged = run("merge", "run", "--json")
    assert merged.exit_code == 0
    assert json.loads(merged.stdout)["samples"] == 10
    assert open_run("run").relevance(3).shape == (4,)


def test_a_model_that_takes_no_photographs(place: Path) -> None:
    found = run("batch", "table.npy", "--out", "run", "--model", "mine.py:table")
    assert found.exit_code == 0, found.output


def test_broken_samples_are_an_exit_code(place: Path) -> None:
    x = np.load("x.npy")
    x[3] = np.nan
    np.save("x.npy", x)
    found = run("batch", "x.npy", "--out", "run", "--model", "mine.py:make")
    assert found.exit_code == 1
    assert "10 samples in run, 1 without an explanation" in found.output


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nothing", "--out", "run"), "no file or folder"),
        (("x.npy", "--out", "run", "--target", "cat"), "--target must be"),
        (("x.npy", "--out", "run", "--target", "label"), "no label"),
        (("x.npy", "--out", "run", "--shard", "2/2"), "shard"),
        (("x.npy", "--out", "run", "--keep", "all"), "keep must be"),
        (("x.npy", "--out", "run", "--keep", "concepts", "--layer", "none"), "none"),
        (("x.npy", "--out", "x.npy"), "x.npy"),
        (("x.npy", "--out", "run", "--explainers", "2"), "engine='ray'"),
    ],
)
def test_wrong_usage_is_one_sentence(place: Path, arguments: tuple[str, ...], part: str) -> None:
    one_sentence(run("batch", *arguments, "--model", "mine.py:make"), part)
