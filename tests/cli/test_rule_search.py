"""``lrp-fx search`` on photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from lrp_fx.cli.commands import app
from lrp_fx.zoo import load
from tests.helpers.photographs import EXAMPLES


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["search", *map(str, arguments)])


def test_what_cannot_be_searched_is_said_in_one_sentence(tmp_path: Path) -> None:
    for option, value in (("--imputer", "blurr"), ("--metric", "focus"), ("--trials", 0)):
        result = _run(EXAMPLES, option, value, "--out", tmp_path)
        assert result.exit_code == 2, result.output
        said = result.output.strip()  # a bar that vanished leaves an empty line
        assert said.startswith(f"error: {option.removeprefix('--')} must be ")
        assert "\n" not in said


@pytest.mark.slow
def test_a_search_writes_scores_code_and_figure_and_goes_on(tmp_path: Path) -> None:
    photographs = sorted(EXAMPLES.glob("*.jpg"))[:2]
    options = ("--grid", 4, "--steps", 2, "--trials", 1, "--out", tmp_path)
    for number, photograph in enumerate(photographs * 2):
        (tmp_path / f"{number}.jpg").write_bytes(photograph.read_bytes())
    for _ in range(2):
        result = _run(tmp_path, *options)
        assert result.exit_code == 0, result.output
    assert "2 samples for the search, 2 held out" in result.output
    assert {"scores.csv", "search.lrp.png", "search.db"} <= {p.name for p in tmp_path.iterdir()}
    loaded = load("efficientnet-lite0", None)
    names = {"model": loaded.model}
    exec((tmp_path / "best.py").read_text(encoding="utf-8"), names)
    low, _ = loaded.bounds
    relevance = names["lrp"].attribute(torch.zeros(1, 3, 224, 224) + low, 0)  # type: ignore[operator]
    assert relevance.shape == (1, 3, 224, 224)
