"""The figure of a plan: which operation gets which rule, along the way of the relevance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrp_fx._common import drawable, own_style
from lrp_fx.attribution import Plan
from lrp_fx.errors import InputError
from lrp_fx.visualize.canvas import FAINT, INK, SMALL, Words, sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#666666"),
    *("#8c6bb1", "#41ab5d", "#a6761d", "#1f1f1f"),
)
"""The first eight are the palette of Okabe and Ito (2008), distinct with any colour vision."""
WIDTH, ROW, PER_COLUMN = 420, 17, 45
LONGEST = 30


@own_style()
def plan_figure(plan: Plan) -> Figure:
    """A plan, from the output (top left) to the inputs: a line for each operation.

    The square before a line has the colour of the rule.

    Args:
        plan: what ``lrp.plan()`` returns.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: if it is not a plan.
        OptionError: if matplotlib is missing.
    """
    if not isinstance(plan, Plan):
        raise InputError(f"plan_figure needs a plan, lrp.plan(), not {type(plan).__name__}")
    lines = [
        (step.path or step.node.name, str(step.rule), "" if step.top_k is None else str(step.top_k))
        for step in plan.steps
        if step.operation is not None
    ]
    rules = list(dict.fromkeys(rule for _, rule, _ in lines))
    columns = max(1, -(-len(lines) // PER_COLUMN))
    high = max(1, min(len(lines), PER_COLUMN)) * ROW
    title = f"plan: {len(lines)} operations, {len(rules)} rules"
    made = sheet(1, columns, WIDTH, high, Words(title=title), colors=None)
    for column, axes in enumerate(made.panels[0]):
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(high, 0)
        for row, (path, rule, top_k) in enumerate(
            lines[column * PER_COLUMN : (column + 1) * PER_COLUMN]
        ):
            y = (row + 0.5) * ROW
            color = COLORS[rules.index(rule) % len(COLORS)]
            axes.plot([7], [y], marker="s", markersize=8, color=color)
            name = path if len(path) <= LONGEST else f"…{path[1 - LONGEST :]}"
            rule_text = f"{rule}, {top_k}" if top_k else rule
            for x, text, ink in ((18, name, INK), (232, _shortened(rule_text), FAINT)):
                axes.text(
                    x,
                    y,
                    drawable(text),
                    va="center_baseline",
                    size=SMALL,
                    color=ink,
                    parse_math=False,
                )
    return made.figure


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
