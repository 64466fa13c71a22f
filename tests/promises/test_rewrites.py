"""One meaning, one map: rewrites that compute the same leave the relevance as it is."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.rewrites import (
    PRESETS,
    Case,
    Change,
    Program,
    Step,
    around,
    deviation,
    every_case,
    limit_of,
    network,
    random_case,
    report,
    same_function,
    shrunk,
)
from tests.helpers.spellings import EXCEPT_ZERO, MEANINGS

EXACT = 1e-9
"""Of max |R| in float64 under ε = 0: the same sums in another order, behind up to ten quotients."""

STABILIZED = 1e-6
"""Of max |R|, under presets with ε = 1e-10. Each place where a spelling has a denominator z and another
has none keeps ε R / z to first order. No number bounds R / z: a partial sum may nearly cancel. So where
the maps are further apart, their limits for ε → 0 must agree instead."""

DEFAULT = 1e-2
"""Of max |R|, under the default as it is, with ε = 1e-6: by the same account."""

OTHERS = [name for name in PRESETS if name != "zero"]
CASES = dict(every_case())
PER_CASE = 3
"""Presets beside ``zero`` that a random rewrite is tried under, in turn."""


def tolerance(preset: str) -> float:
    return {"zero": EXACT, "default": DEFAULT}.get(preset, STABILIZED)


def is_one_map(case: Case, preset: str) -> bool:
    """Whether the maps agree, or differ by the stabilizer alone."""
    if deviation(case, preset) <= tolerance(preset):
        return True
    stabilized = tolerance(preset) == STABILIZED
    return stabilized and deviation(case, preset, limit_of) <= tolerance(preset)


def assert_one_map(case: Case, preset: str) -> None:
    """The rewritten program's map is the program's; else an error that names the smallest rewrite."""
    if not is_one_map(case, preset):
        small = shrunk(case, lambda c: not is_one_map(c, preset))
        pytest.fail(report(small, preset, deviation(small, preset)), pytrace=False)


def presets_of(seed: int) -> list[str]:
    """``zero`` and some others; every preset in turn."""
    return ["zero", *(OTHERS[(seed * PER_CASE + i) % len(OTHERS)] for i in range(PER_CASE))]


@pytest.mark.parametrize("name", CASES)
def test_each_spelling_computes_the_same(name: str) -> None:
    assert same_function(CASES[name])


@pytest.mark.parametrize("seed", range(50))
def test_random_rewrites(seed: int) -> None:
    case = random_case(seed)
    assert same_function(case)
    for preset in presets_of(seed):
        assert_one_map(case, preset)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(50, 1050, 20))
def test_many_random_rewrites(start: int) -> None:
    for seed in range(start, start + 20):
        case = random_case(seed)
        assert same_function(case), f"seed {seed}"
        for preset in presets_of(seed):
            assert_one_map(case, preset)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", MEANINGS)
def test_each_spelling_alone(name: str, preset: str) -> None:
    program = around(name)
    for case in CASES.values():
        if case.program == program and case.rewritten(preset) != program:
            assert_one_map(case, preset)


def test_the_random_rewrites_are_of_all_kinds() -> None:
    """Each kind is tried, and each preset has its share."""
    kinds = {kind for seed in range(50) for kind in random_case(seed).kinds()}
    assert kinds == {kind for case in CASES.values() for kind in case.kinds()}
    tried = [preset for seed in range(50) for preset in presets_of(seed)]
    assert set(tried) == set(PRESETS)


def test_only_splits_and_merges_are_excepted() -> None:
    """No other rewrite is left out under any preset; a 1×1 convolution is a dense layer to some only."""
    for case in CASES.values():
        (kind,) = case.kinds()
        left_out = {p for p in PRESETS if case.rewritten(p) == case.program}
        if kind == EXCEPT_ZERO:
            assert "zero" not in left_out
        elif left_out:
            assert not left_out & {"zero", "epsilon", "z_plus", "uniform"}
            assert "convolution" in " ".join(step.meaning for step in case.rewritten().steps) + str(
                case.changes[0]
            )


def test_what_the_stabilizer_keeps_is_no_difference() -> None:
    """The gap of one rewrite whose partial sums nearly cancel is of first order in ε."""
    names = ("linear", "two linear maps", "residual layer", "mean of tokens")
    steps = [Step(name, (i,), "as modules") for i, name in enumerate(names)]
    program = Program("tokens", 6, 613, (*steps, Step("head", (4,), "linear")))
    case = Case(program, (Change(3, spelling="one after the other"),))
    assert deviation(case, "epsilon_plus") > 10 * STABILIZED
    assert deviation(case, "epsilon_plus", limit_of) < STABILIZED / 100
    assert deviation(case, "zero") <= EXACT


def test_a_difference_is_reported_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that changes the map is found and shrunk to itself."""
    case = random_case(3)

    def fails(each: Case) -> bool:
        return len(each.changes) > 0 and case.changes[0] in each.changes

    small = shrunk(case, fails)
    assert small.changes == case.changes[:1]
    assert str(case.changes[0]) in report(small, "zero", 1.0)
    assert torch.isfinite(network(small.program)(small.program.input())).all()
