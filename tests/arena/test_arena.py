"""The arena keeps what it measured, and says who is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from arena.cells import Cell, Key, Place, Results
from arena.measuring import measure_suite
from arena.methods import METHODS, Explaining
from arena.page import lines_of, tied
from arena.suites import SUITES
from arena.task import Measure, Suite, Task
from arena.truth import logic

PLACE = Place("logic", "linear")


def suite(make: Callable[[bool], Task]) -> Suite:
    return Suite("Linear", {"linear": make}, ("maps",))


def linear(quick: bool) -> Task:
    return logic.linear(10, 1)


def never(quick: bool) -> Task:
    raise AssertionError("made again, although all is measured")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    measure_suite("logic", suite(linear), Results.read(path), quick=True)
    first = path.read_text()
    results = Results.read(path)
    measure_suite("logic", suite(never), results, quick=True)
    assert path.read_text() == first
    lines = lines_of("logic", suite(linear), results)
    best = next(line for line in lines if line.startswith("| lrp_fx epsilon |"))
    assert "**1.000 ± 0.000**" in best


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = Results.read(path)
    key = Key(PLACE, "lrp_fx", "epsilon", "pearson")
    results.add(key, Cell((0.25, 1.0)))
    results.add(replace_method(key, "z_plus"), Cell(error="no"))
    path.write_text(path.read_text()[:-9])
    assert Results.read(path).cells == {key: Cell((0.25, 1.0))}


def replace_method(key: Key, name: str) -> Key:
    return key._replace(method=name)


def test_failures_can_be_forgotten_alone(tmp_path: Path) -> None:
    results = Results.read(tmp_path / "results.jsonl")
    key = Key(PLACE, "lrp_fx", "epsilon", "pearson")
    results.add(key, Cell((1.0,)))
    results.add(replace_method(key, "z_plus"), Cell(error="no"))
    results.forget(lambda place, cell: cell is not None and bool(cell.error))
    assert set(Results.read(results.path).cells) == {key}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_fails_stands_below_the_table(tmp_path: Path) -> None:
    """A measure that raises ends no run."""

    def fails(explain: object) -> torch.Tensor:
        raise ValueError("a bad map")

    def make(quick: bool) -> Task:
        task = logic.linear(5, 1)
        return replace(task, measures={**task.measures, "bad": Measure(fails, "bad")})

    one = suite(make)
    results = Results.read(tmp_path / "results.jsonl")
    measure_suite("logic", one, results, quick=True)
    assert results.cells[Key(PLACE, "lrp_fx", "epsilon", "bad")].error == "ValueError: a bad map"
    assert any(
        "lrp_fx epsilon: `ValueError: a bad map`" in e for e in lines_of("logic", one, results)
    )


def test_within_one_paired_standard_error_is_a_tie() -> None:
    best = [1.0, 2.0, 3.0, 4.0]
    assert tied(best, [1.1, 1.7, 3.2, 3.7])  # 0.075 ± 0.138
    assert not tied(best, [0.9, 1.8, 2.9, 3.9])  # 0.125 ± 0.025


def test_methods_have_names_of_their_own() -> None:
    names = [(method.tool, method.name) for method in METHODS]
    assert len(set(names)) == len(names)


def test_a_method_is_made_again_for_another_model() -> None:
    task, other = logic.linear(5, 1), logic.linear(5, 2)
    (epsilon,) = (each for each in METHODS if (each.tool, each.name) == ("lrp_fx", "epsilon"))
    explain = Explaining(epsilon, task)
    first, second = other.model.children()
    weight = second.weight @ first.weight
    found = explain.on(other.model)(task.inputs, task.targets)
    torch.testing.assert_close(found, weight[task.targets] * task.inputs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(explain(task.inputs, task.targets), found)


def test_the_page_has_a_place_for_each_suite() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name in SUITES:
        assert f"<!-- table of benchmarks/arena/__main__.py: {name} -->" in page


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_methods_that_draw_at_random_draw_the_same_each_time() -> None:
    """And leave the random numbers of others as they were."""
    task = logic.logical("xor", 5)
    (shap,) = (each for each in METHODS if each.name.startswith("GradientShap"))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    explain = Explaining(shap, task)
    first, second = (explain.anew(task.inputs, task.targets) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
