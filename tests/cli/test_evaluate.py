"""The command that judges maps: a table, files, and one sentence for each mistake."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lrp_fx.cli.commands import app
from lrp_fx.cli.evaluation import METRICS, make_metrics
from lrp_fx.evaluate import Patches
from tests.evaluate.helpers import small_network
from tests.helpers.photographs import EXAMPLES


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_composites_are_compared(tmp_path: Path) -> None:
    """Means, paired differences, all settings, every score in a file, and a figure."""
    result = _run(
        EXAMPLES,
        *("--composite", "epsilon_plus", "--composite", "epsilon", "--metric", "srg"),
        *("--metric", "sparseness", "--grid", 4, "--steps", 2, "--seed", 5, "--out", tmp_path),
    )
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    for part in ("blur 10", "seed=5", "Mean()", "2 samples", "differences from epsilon_plus"):
        assert part in words
    with open(tmp_path / "scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2  # composites, metrics with imputers, photographs
    assert {row["method"] for row in rows} == {"epsilon_plus", "epsilon"}
    assert {Path(row["sample"]).name for row in rows} == {"chelsea.jpg", "coffee.jpg"}
    assert any("Blur(sigma=10.0)" in row["settings"] for row in rows)
    with Image.open(tmp_path / "scores.lrp.png") as picture:
        assert picture.width > 400


def test_every_metric_has_a_name() -> None:
    """Metrics that replace patches are there once for each imputer, and no two names are equal."""
    made = make_metrics(METRICS, ["blur", "inpainting"], small_network(), Patches(), 28, 0)
    assert len({metric.name for metric in made}) == len(made) == len(METRICS) + 3


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--metric", "srgg"], "metric must be one of 'srg'"),
        (["--imputer", "black"], "imputer must be one of 'blur'"),
        (["--composite", "epsilon_pluss"], "epsilon_plus"),
        (["--grid", "0"], "rows must be an int"),
        (["--top-k", "2"], "top_k"),
        (["--metric", "focus"], "four classes"),
        (["--device", "abacus"], "'abacus'"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, arguments: list[str], part: str) -> None:
    result = _run(EXAMPLES, *arguments, "--out", tmp_path)
    assert result.exit_code == 2, result.output
    assert part in result.output
    errors = [line for line in result.output.splitlines() if line.strip()]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")


def test_nothing_to_judge(tmp_path: Path) -> None:
    result = _run(tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "there are no images" in result.output
