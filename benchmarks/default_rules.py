"""Is there a better default for convolutions? Candidates beside it, on networks to choose on and others.

    python benchmarks/default_rules.py --out docs/evaluation.md
    python benchmarks/default_rules.py --tasks lite0 digits      # the networks to choose on
    python benchmarks/default_rules.py --candidates "γ 0.15"     # some candidates

The candidates change one thing each: γ, γ over the depth, the rule of the first layer. Depth is the
number of linear operations before one, as a share of those before and behind it. The measures are
those by which the arena judges the default. Results are kept as those of the arena are, and the same
call goes on where the last one ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from arena.cells import Key, Place, Results
from arena.letters import SUITE as LETTERS
from arena.measuring import facts_of, measure
from arena.methods import Method, always, flat_first, lrp
from arena.page import standard_error
from arena.real import MORE, PHOTOGRAPHS, SMALL
from arena.task import Task
from harness.contestants import quietly
from harness.tables import options, put, say, table

from lrp_fx.composites import Composite, EpsilonGamma, Matcher
from lrp_fx.evaluate import Bootstrap
from lrp_fx.rules import GeneralizedGamma

DEFAULT = "γ 0.1"
TASKS: dict[str, Callable[[bool], Task]] = {
    **PHOTOGRAPHS.tasks,
    "digits": SMALL.tasks["digits"],
    **MORE.tasks,
    "fashion": SMALL.tasks["fashion"],
    **LETTERS.tasks,
}
CHOSEN_BY = ("lite0", "digits")
"""The networks on which a candidate may be chosen; the others judge it."""


def deeper_than(share: float) -> Matcher:
    """Match linear operations with more than a share of the others before them."""

    def test(place: object) -> bool:
        before, behind = getattr(place, "from_input", None), getattr(place, "from_output", None)
        return None not in (before, behind) and before > share * (before + behind)

    return Matcher(f"deeper than {share:g}", test)


def by_depth(*gammas: float) -> Composite:
    """γ of the first part of the depth, of the next, and so on; ε as in the default."""
    at_last, convolutions, dense = EpsilonGamma(gammas[0]).assignments
    matcher, _ = convolutions
    parts = [
        (matcher & deeper_than(place / len(gammas)), GeneralizedGamma(gamma))
        for place, gamma in enumerate(gammas)
    ]
    return Composite([at_last, *reversed(parts), convolutions, dense], strict=False)


CANDIDATES: dict[str, Composite] = {
    DEFAULT: EpsilonGamma(0.1),
    "γ 0.15": EpsilonGamma(0.15),
    "γ 0.25": EpsilonGamma(0.25),
    "γ 0.25, 0.1 by halves": by_depth(0.25, 0.1),
    "γ 0.1, 0.25 by halves": by_depth(0.1, 0.25),
    "γ 0.1, flat first": flat_first(EpsilonGamma(0.1)),
}


def judging(task: Task) -> Iterator[str]:
    """What the arena judges the default by."""
    return (name for name, each in task.measures.items() if each.paired)


def rows(results: Results) -> Iterator[list[str]]:
    """One for each network and measure: the default, and each candidate minus it."""
    for label in TASKS:
        place = Place("default", label)
        facts = results.facts.get(place)
        for measured, column in facts.measures.items() if facts else ():
            values = {
                name: cell.values
                for name in CANDIDATES
                if (cell := results.cells.get(Key(place, "lrp_fx", name, measured))) and cell.values
            }
            own = values.get(DEFAULT)
            if facts is None or own is None or not column.paired:
                continue
            mean = sum(own) / len(own)
            gaps = [
                Bootstrap().difference(values[name], own) if name in values else None
                for name in CANDIDATES
                if name != DEFAULT
            ]
            better = [
                gap and (f"**{gap.text('+')}**" if gap.low > 0 else gap.text("+")) for gap in gaps
            ]
            use = "choosing" if label in CHOSEN_BY else "judging"
            own_text = f"{mean:.3f} ± {standard_error(own):.3f}".replace("-", "−")
            yield [facts.title, use, column.title, own_text, *(each or "–" for each in better)]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--measures", nargs="+", help="only these, by their names in the tables")
    parser.add_argument("--results", type=Path, default=Path(".arena/default.jsonl"))
    parser.add_argument("--only-tables", action="store_true", help="measure nothing")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    quietly()
    results = Results.read(settings.results)
    for label in () if settings.only_tables else settings.tasks:
        try:
            task = TASKS[label](False)
        except FileNotFoundError as error:
            say(f"{label}: left out: {error}")
            continue
        place = Place("default", label)
        results.describe(place, facts_of(task))
        say(f"{label}: {task.facts}")
        for name in settings.candidates:
            method = Method(name, "lrp_fx", lrp(always(CANDIDATES[name])))
            wanted = [
                each
                for each in settings.measures or judging(task)
                if Key(place, method.tool, name, each) not in results.cells
            ]
            for key, cell in measure(
                place, task, method, [m for m in wanted if m in task.measures]
            ):
                results.add(key, cell)
    head = ("network", "for", "measure", f"default, {DEFAULT}")
    names = [name for name in CANDIDATES if name != DEFAULT]
    lines = table([*head, *names], list(rows(results)), "   r" + "r" * len(names))
    put(settings.out, Path(__file__).stem, {"": lines})


if __name__ == "__main__":
    main()
