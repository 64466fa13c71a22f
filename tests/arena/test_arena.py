"""The arena keeps what it measured, and says who is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from arena import letters, voices
from arena.cells import Cell, Column, Facts, Key, Place, Results
from arena.measuring import measure_suite
from arena.methods import METHODS, Explaining
from arena.page import beside_the_default, lines_of, tied
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


def compared(path: Path, **values: tuple[float, ...]) -> Results:
    """Results of methods on one dense network, by the names of our composites."""
    results = Results(path)
    columns = {"pearson": Column("Pearson", paired=True)}
    results.describe(PLACE, Facts("linear", "dense", "", columns))
    for method, each in values.items():
        results.add(Key(PLACE, "lrp_fx", method, "pearson"), Cell(each))
    return results


def test_differences_from_the_default_are_paired(tmp_path: Path) -> None:
    """Each sample is better by a tenth, which the spread of the samples would hide."""
    results = compared(tmp_path / "r", epsilon=(0.0, 0.5, 0.8), z_plus=(0.1, 0.6, 0.9))
    lines = beside_the_default({"logic": suite(never)}, results)
    assert "**Pearson, minus lrp_fx epsilon**" in lines
    assert lines[-1] == "| lrp_fx z_plus | **+0.100 [+0.100, +0.100]** |"


@pytest.mark.parametrize(
    ("other", "verdict"),
    [((0.2, 0.4, 0.6), "first"), ((0.6, 0.8, 1.0), "behind"), ((0.9, 0.5, 0.7), "tied")],
)
def test_the_verdict_on_the_default(tmp_path: Path, other: tuple[float, ...], verdict: str) -> None:
    results = compared(tmp_path / "r", epsilon=(0.5, 0.6, 0.7), z_plus=other)
    _, _, row, *_ = beside_the_default({"logic": suite(never)}, results)
    assert row.endswith(f"| {verdict} |")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_maps_of_the_samples_are_made_once() -> None:
    task = logic.linear(5, 1)
    (epsilon,) = (each for each in METHODS if (each.tool, each.name) == ("lrp_fx", "epsilon"))
    calls: list[int] = []

    def make(task: Task) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def explain(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return x

        return explain

    explain = Explaining(replace(epsilon, make=make), task)
    for _ in range(2):
        explain(task.inputs.clone(), task.targets.clone())
    once = len(calls)
    explain(task.inputs + 1, task.targets)
    assert (once, len(calls)) == (1, 2)


def test_letters_are_read_as_ctc_says() -> None:
    """A letter that goes on is one letter, said where its logit is largest; a gap parts two."""
    path = [0, 3, 3, 0, 3, 1, 1, 0]
    size = [1.0, 2.0, 5.0, 1.0, 2.0, 4.0, 3.0, 1.0]
    logits = torch.zeros(len(path), 4)
    logits[torch.arange(len(path)), path] = torch.tensor(size)
    assert letters.said(logits) == [(3, 2), (3, 4), (1, 5)]


def test_the_bands_of_the_mel_scale() -> None:
    """1 kHz has mel 15 of Slaney's scale; the triangles have area one, as far as samples tell."""
    bands, step = voices.mel_bands(), voices.RATE / voices.WINDOW
    assert bands.shape == (voices.CHANNELS, voices.WINDOW // 2 + 1)
    middle = (bands * torch.arange(bands.shape[1])).sum(1) * step / bands.sum(1)
    assert bool((middle[1:] > middle[:-1]).all())
    wide = bands[voices.CHANNELS // 2 :]  # of more than three frequencies
    torch.testing.assert_close(wide.sum(1) * step, torch.ones(len(wide)), rtol=0.05, atol=0)


def test_the_explained_speaker_talks_in_one_half() -> None:
    frames = voices.START + voices.FRAMES
    talking = {
        speaker: [torch.full((frames, 2), float(number))] * len(voices.SENTENCES)
        for number, speaker in enumerate(voices.SPEAKERS)
    }
    found = list(voices.recordings(talking))
    assert len(found) == 2 * 12
    assert sum(bool(there[0]) for _, _, there in found) == len(found) / 2
    for x, speaker, there in found:
        assert torch.equal(x[:, 0] == speaker, there)
