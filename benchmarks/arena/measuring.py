"""Runs methods on tasks, cell by cell, and goes on where an earlier run ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from harness.contestants import first_line
from harness.tables import say

from arena.cells import Cell, Column, Facts, Key, Place, Results
from arena.methods import Explaining, Method, taking_part
from arena.task import Suite, Task

COST = "cost"
"""The measure of seconds for a map: of the process, the least of some runs."""
SAMPLES, RUNS = 16, 3  # of the measure of the cost


def measure_suite(
    name: str,
    suite: Suite,
    results: Results,
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    *,
    quick: bool,
) -> None:
    """Measure what the results lack. Tasks whose data are not installed are left out.

    Args:
        name: of the suite.
        suite: the suite.
        results: what was measured before; cells are added.
        tasks: the names of those to measure; None for all.
        methods: the same.
        measures: the same.
        quick: tiny, to see that all runs.
    """
    for label, make in suite.tasks.items():
        if tasks is not None and label not in tasks:
            continue
        place = Place(name, label)
        facts = results.facts.get(place)
        if facts and not list(missing(place, facts, suite, results)):
            continue
        began = time.perf_counter()
        try:
            task = make(quick)
        except (FileNotFoundError, ImportError, SystemExit) as error:
            say(f"{name}, {label}: left out: {first_line(error)}")
            continue
        say(f"{name}, {label}: {task.title}, {task.facts} ({time.perf_counter() - began:.0f} s)")
        facts = facts_of(task)
        results.describe(place, facts)
        for method, lacking in list(missing(place, facts, suite, results)):
            if methods is not None and method.name not in methods:
                continue
            wanted = [each for each in lacking if measures is None or each in measures]
            for key, cell in measure(place, task, method, wanted):
                results.add(key, cell)


def facts_of(task: Task) -> Facts:
    columns = {
        name: Column(each.title, each.higher, each.digits, each.paired)
        for name, each in task.measures.items()
    }
    return Facts(task.title, task.kind, task.facts, columns)


def missing(
    place: Place, facts: Facts, suite: Suite, results: Results
) -> Iterator[tuple[Method, list[str]]]:
    """The methods that are not done, and which measures they lack."""
    for method in taking_part(facts.kind, suite.groups):
        lacking = [
            name
            for name in (*facts.measures, COST)
            if Key(place, method.tool, method.name, name) not in results.cells
        ]
        if lacking:
            yield method, lacking


def measure(
    place: Place, task: Task, method: Method, measures: list[str]
) -> Iterator[tuple[Key, Cell]]:
    """The cells of a method. When it fails, that is the result of all that are left."""
    explain, failure, began = Explaining(method, task), "", time.perf_counter()
    for name in measures:
        values: list[float] = []
        try:
            if not failure:
                values = cost(explain, task) if name == COST else score(explain, task, name)
        except Exception as error:  # whatever a method raises is its result here
            failure = first_line(error)
        yield Key(place, method.tool, method.name, name), Cell(tuple(values), failure)
        shown = f"{sum(values) / len(values):.3g}" if values else failure
        began, before = time.perf_counter(), began
        say(f"    {method.tool} {method.name}: {name} {shown} ({began - before:.1f} s)")


def score(explain: Explaining, task: Task, name: str) -> list[float]:
    values = task.measures[name].score(explain)
    if not values.isfinite().all():
        raise ArithmeticError("the map is not finite")
    found: list[float] = values.double().tolist()
    return found


def cost(explain: Explaining, task: Task) -> list[float]:
    """Seconds for one map, in a batch; the model has been read before."""
    x, targets = task.inputs[:SAMPLES], task.targets[:SAMPLES]
    explain.anew(x, targets)
    seconds = []
    for _ in range(RUNS):
        began = time.process_time()
        explain.anew(x, targets)
        seconds.append((time.process_time() - began) / len(x))
    return [min(seconds)]
