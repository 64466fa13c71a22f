"""The tables of docs/evaluation.md, made from the file of results alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from harness.tables import table

from arena.cells import Cell, Column, Key, Place, Results
from arena.measuring import COST
from arena.methods import METHODS, Method
from arena.task import Group, Kind, Suite

HEADINGS: dict[Group, str] = {
    "maps": "maps of the logit",
    "starts": "other starts",
    "filters": "filtered maps",
    "more filters": "filtered maps",
}
KINDS: dict[Kind, str] = {
    "dense": "dense networks",
    "convolutional": "convolutional networks",
    "attention": "transformers",
}
MOST = 2  # measures, of which each gets a table with the tasks as columns
UNIT = ("Captum", "Saliency")  # whose cost is the unit: one gradient


@dataclass(frozen=True)
class Field:
    """A column of a table: one measure of one task."""

    place: Place
    measure: str
    column: Column
    title: str

    def cell(self, results: Results, method: Method) -> Cell | None:
        return results.cells.get(Key(self.place, method.tool, method.name, self.measure))


def lines_of(name: str, suite: Suite, results: Results) -> list[str]:
    """The tables of a suite: one for each task if it has many measures, or one for each measure."""
    places = [place for task in suite.tasks if (place := Place(name, task)) in results.facts]
    if not places:
        return ["Not measured yet."]
    described = [results.facts[each] for each in places]
    lines = [f"* {each.title}: {each.facts}." for each in described if each.facts]
    for title, fields in _grouped(places, results):
        lines += ["", *([f"**{title}**", ""] if title else []), *_table(fields, suite, results)]
    return [*lines, *_failures(places, results)]


def _grouped(places: Sequence[Place], results: Results) -> Iterator[tuple[str, list[Field]]]:
    """The columns of each table, with its title."""
    columns = [
        (place, measure, column)
        for place in places
        for measure, column in results.facts[place].measures.items()
    ]
    measures = dict.fromkeys(measure for _, measure, _ in columns)
    if len(places) == 1 or len(measures) > MOST:
        for place in places:
            title = results.facts[place].title if len(places) > 1 else ""
            mine = [(measure, column) for where, measure, column in columns if where == place]
            yield title, [Field(place, measure, column, column.title) for measure, column in mine]
        return
    kinds = dict.fromkeys(
        results.facts[place].kind for place in places
    )  # other methods, other rows
    for measure, kind in product(measures, kinds):
        fields = [
            Field(place, each, column, results.facts[place].title)
            for place, each, column in columns
            if each == measure and results.facts[place].kind == kind
        ]
        if fields:
            suffix = f", {KINDS[kind]}" if len(kinds) > 1 else ""
            yield fields[0].column.title + suffix, fields


def _table(fields: Sequence[Field], suite: Suite, results: Results) -> list[str]:
    head = ["", *(_headed(field) for field in fields), "cost, × gradient"]
    rows = []
    for heading in dict.fromkeys(HEADINGS[group] for group in suite.groups):
        taking_part = [
            method
            for method in METHODS
            if HEADINGS[method.group] == heading
            if any((cell := field.cell(results, method)) and cell.values for field in fields)
        ]
        taking_part.sort(key=lambda method: -_merit(fields, results, method))
        if taking_part and heading != HEADINGS["maps"]:
            rows.append([f"*{heading}*", *[""] * (len(head) - 1)])
        bold = [_winners(field, taking_part, results) for field in fields]
        for method in taking_part:
            cells = [
                _shown(field, field.cell(results, method), method in winners)
                for field, winners in zip(fields, bold, strict=True)
            ]
            rows.append([_name(method), *cells, _cost(fields, results, method)])
    return table(head, rows, " " + "r" * (len(head) - 1))


def _headed(field: Field) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[field.column.higher]
    return field.title + arrow


def _name(method: Method) -> str:
    return method.name if method.tool == "chance" else f"{method.tool} {method.name}"


def _shown(field: Field, cell: Cell | None, bold: bool) -> str:
    if cell is None or not cell.values:
        return "–"
    digits = field.column.digits
    text = f"{statistics.fmean(cell.values):.{digits}f}"
    if len(cell.values) > 1:
        text += f" ± {standard_error(cell.values):.{digits}f}"
    text = text.replace("-", "−")
    return f"**{text}**" if bold else text


def standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _signed(field: Field, values: Sequence[float]) -> list[float]:
    """The values such that more is better."""
    return [-value if field.column.higher is False else value for value in values]


def _merit(fields: Sequence[Field], results: Results, method: Method) -> float:
    """The mean over the columns in which a method has a figure, for the order of the rows."""
    cells = ((field, field.cell(results, method)) for field in fields)
    means = [
        statistics.fmean(_signed(field, cell.values))
        for field, cell in cells
        if cell is not None and cell.values
    ]
    return statistics.fmean(means[:1] if len({f.place for f in fields}) == 1 else means)


def _winners(field: Field, methods: Sequence[Method], results: Results) -> set[Method]:
    """The best method, and those whose paired difference from it is within one standard error."""
    if field.column.higher is None:
        return set()
    values = {
        method: _signed(field, cell.values)
        for method in methods
        if (cell := field.cell(results, method)) and cell.values
    }
    if not values:
        return set()
    best = max(values, key=lambda method: statistics.fmean(values[method]))
    unseen = 0.5 * 10**-field.column.digits
    return {method for method, mine in values.items() if tied(values[best], mine, unseen)}


def tied(best: Sequence[float], mine: Sequence[float], unseen: float = 0.0) -> bool:
    """Whether the mean paired difference is at most its standard error, or too small to be shown."""
    gaps = [a - b for a, b in zip(best, mine, strict=True)]
    return statistics.fmean(gaps) <= max(standard_error(gaps), unseen)


def _cost(fields: Sequence[Field], results: Results, method: Method) -> str:
    """The geometric mean over the tasks of the cost as a multiple of one gradient's."""
    ratios = []
    for place in dict.fromkeys(field.place for field in fields):
        mine = results.cells.get(Key(place, method.tool, method.name, COST))
        unit = results.cells.get(Key(place, *UNIT, COST))
        if mine and unit and mine.values and unit.values:
            ratios.append(mine.values[0] / unit.values[0])
    return f"{statistics.geometric_mean(ratios):.1f}" if ratios else "–"


def _failures(places: Sequence[Place], results: Results) -> list[str]:
    """What is not in the tables, and why, each reason once."""
    reasons: dict[tuple[str, str], set[Place]] = {}
    for key, cell in results.cells.items():
        if key.place in places and cell.error and key.measure != COST:
            reasons.setdefault((f"{key.tool} {key.method}", cell.error), set()).add(key.place)
    lines = []
    for (method, error), failed in reasons.items():
        where = f" on {len(failed)} of {len(places)} networks" if len(places) > 1 else ""
        lines.append(f"* {method}{where}: {_plain(error)}")
    return ["", "Not in the tables:", "", *lines] if lines else []


def _plain(error: str) -> str:
    """An error as text of one line; what it quotes must not become markup."""
    return "`" + error[:200].replace("`", "'").replace("|", "/") + "`"


def tables(suites: Mapping[str, Suite], results: Results) -> dict[str, list[str]]:
    return {name: lines_of(name, suite, results) for name, suite in suites.items()}
