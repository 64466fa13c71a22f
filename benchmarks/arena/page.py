"""The tables of docs/evaluation.md, made from the file of results alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from harness.tables import table

from arena.cells import Cell, Column, Key, Place, Results
from arena.measuring import COST
from arena.methods import METHODS, Method
from arena.task import Group, Kind, Suite
from lrp_fx.evaluate import Bootstrap

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
DEFAULTS: dict[Kind, str] = {
    "dense": "epsilon",
    "convolutional": "epsilon_gamma 0.1",
    "attention": "attn_lrp",
}
"""What ``LRPFx(model)`` chooses, by the kind of network; without convolutions its γ is ε."""
DEFAULT = "default"
"""The name of the tables that compare the default with other methods, over all suites."""


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
        taking_part.sort(key=lambda method: _place(fields, results, method))
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


def _place(fields: Sequence[Field], results: Results, method: Method) -> tuple[int, float]:
    """The order of the rows: those of most tasks first, then those of the largest mean."""
    tasks = {
        field.place for field in fields if (cell := field.cell(results, method)) and cell.values
    }
    return -len(tasks), -_merit(fields, results, method)


def _merit(fields: Sequence[Field], results: Results, method: Method) -> float:
    """The mean over the columns in which a method has a figure."""
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


def _default(field: Field, results: Results) -> Method:
    name = DEFAULTS[results.facts[field.place].kind]
    return next(each for each in METHODS if (each.tool, each.name) == ("lrp_fx", name))


def _unfiltered(field: Field, results: Results) -> dict[Method, tuple[float, ...]]:
    """The values of the maps of the logit, by their methods."""
    maps = [method for method in METHODS if method.group == "maps"]
    cells = {method: field.cell(results, method) for method in maps}
    return {method: cell.values for method, cell in cells.items() if cell and cell.values}


def _differences(fields: Sequence[Field], results: Results) -> list[str]:
    """Each map of the logit minus the default's, sample by sample, with bootstrap intervals."""
    default = _default(fields[0], results)
    values = {field: _unfiltered(field, results) for field in fields}
    references = {field: found.pop(default) for field, found in values.items()}
    methods = {method for found in values.values() for method in found}
    if not methods:
        return []
    rows = [
        [
            _name(method),
            *(
                _difference(field, values[field][method], reference)
                if method in values[field]
                else "–"
                for field, reference in references.items()
            ),
        ]
        for method in sorted(methods, key=lambda method: -_merit(fields, results, method))
    ]
    head = ["", *(_headed(field) for field in fields)]
    title = f"**{fields[0].column.title}, minus {_name(default)}**"
    return ["", title, "", *table(head, rows, " " + "r" * len(fields))]


def _difference(field: Field, values: Sequence[float], reference: Sequence[float]) -> str:
    found = Bootstrap().difference(values, reference)
    digits = field.column.digits
    text = f"{found.mean:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    better = found.high < 0 if field.column.higher is False else found.low > 0
    return f"**{text}**".replace("-", "−") if better else text.replace("-", "−")


def beside_the_default(suites: Mapping[str, Suite], results: Results) -> list[str]:
    """Of each paired measure: the default beside the best map of the logit, and minus all others."""
    fields = [
        Field(place, measure, column, facts.title)
        for name, suite in suites.items()
        for place in (Place(name, task) for task in suite.tasks)
        if (facts := results.facts.get(place))
        for measure, column in facts.measures.items()
        if column.paired
    ]
    fields = [field for field in fields if _default(field, results) in _unfiltered(field, results)]
    if not fields:
        return ["Not measured yet."]
    head = ("network", "", "the default", "the best map of the logit", "best − default", "")
    lines = table(head, [_verdict(field, results) for field in fields], "  r r ")
    together: dict[tuple[str, Kind], list[Field]] = {}
    for field in fields:
        kind = results.facts[field.place].kind
        together.setdefault((field.measure, kind), []).append(field)
    for each in together.values():
        lines += _differences(each, results)
    return lines


def _verdict(field: Field, results: Results) -> tuple[str, ...]:
    values, default = _unfiltered(field, results), _default(field, results)
    mine = values[default]
    signed = {method: _signed(field, each) for method, each in values.items()}
    best = max(signed, key=lambda method: statistics.fmean(signed[method]))
    cell = _shown(field, Cell(mine), False)
    measure = _headed(replace(field, title=field.column.title))
    named = (field.title, measure, f"{default.name}: {cell}")
    if best is default:
        return (*named, "", "", "first")
    level = tied(signed[best], signed[default], 0.5 * 10**-field.column.digits)
    shown = f"{_name(best)}: {_shown(field, Cell(values[best]), False)}"
    gap = _difference(field, values[best], mine).strip("*")
    return (*named, shown, gap, "tied" if level else "behind")


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


def tables(
    chosen: Mapping[str, Suite], suites: Mapping[str, Suite], results: Results
) -> dict[str, list[str]]:
    """The tables of the chosen suites, and that of the defaults over all suites."""
    found = {name: lines_of(name, suite, results) for name, suite in chosen.items()}
    return {DEFAULT: beside_the_default(suites, results), **found}
