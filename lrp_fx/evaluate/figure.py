"""The figure of a report; needs matplotlib."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from lrp_fx._common import own_style
from lrp_fx._common.figure import ShownFigure
from lrp_fx.evaluate.summary import Summary

WIDTH, BAR, PANEL = 8.0, 0.3, 0.9  # inches: the figure, one bar, the space around the bars
LINE = 0.16  # inches for a line of notes


@own_style()
def report_figure(table: Summary) -> Figure:
    """Bars of the means with their bootstrap intervals, a panel for each metric.

    The arrow in a title says which direction is better. The notes below state all settings.
    """
    methods = list(table.seconds)
    notes = [line for note in table.notes for line in _wrapped(note)]
    bars = len(table.metrics) * (PANEL + BAR * len(methods))
    height = bars + LINE * (len(notes) + 1)
    figure = ShownFigure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(len(table.metrics), squeeze=False)[:, 0]
    for axes, metric in zip(panels, table.metrics, strict=True):
        estimates = [table[method, metric.name] for method in methods]
        means = [each.mean for each in estimates]
        ends = [
            [each.mean - each.low for each in estimates],
            [each.high - each.mean for each in estimates],
        ]
        axes.barh(methods, means, xerr=ends, color="tab:blue", alpha=0.7, capsize=3)
        axes.axvline(0, color="black", linewidth=0.8)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.invert_yaxis()
        axes.set_title(f"{metric.name} {'↑' if metric.higher_is_better else '↓'}", loc="left")
    figure.supxlabel("\n".join(notes), fontsize=7, ha="left", x=0.01, parse_math=False)
    return figure


def _wrapped(text: str, width: int = 130) -> list[str]:
    return textwrap.wrap(text, width) or [""]
