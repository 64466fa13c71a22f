"""The figure of a rule search; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from lrp_fx._common import own_style
from lrp_fx.evaluate.summary import Summary
from lrp_fx.evaluate.trials import Trial

SIZE = (11.0, 4.5)  # inches


@own_style()
def search_figure(trials: Sequence[Trial], front: Sequence[Trial], held_out: Summary) -> Figure:
    """Left all trials on the samples of the search, right the candidates on the held-out ones.

    The line is the front. Bars are bootstrap intervals.

    Args:
        trials: all trials.
        front: those that no other one beats in both score and cost, the cheapest first.
        held_out: the means of the candidates on the held-out samples.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    (metric,) = held_out.metrics
    costs = {each.candidate.name: each.cost for each in trials}
    on_front, scored = {each.candidate.name for each in front}, set(held_out.seconds)
    for label, color, names in (
        ("trials", "lightgray", costs.keys() - scored),
        ("presets", "tab:orange", scored - on_front),
        ("front", "tab:blue", on_front),
    ):
        group = [each for each in trials if each.candidate.name in names]
        left.scatter(
            [each.cost for each in group],
            [each.score for each in group],
            color=color,
            label=label,
            zorder=2,
        )
    left.plot(
        [each.cost for each in front],
        [each.score for each in front],
        drawstyle="steps-post",
        color="tab:blue",
    )
    left.legend()
    for name in held_out.seconds:
        estimate, cost = held_out[name, metric.name], costs[name]
        ends = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
        color = "tab:blue" if name in on_front else "tab:orange"
        right.errorbar(cost, estimate.mean, yerr=ends, fmt="o", color=color, capsize=3)
        right.annotate(
            name,
            (cost, estimate.mean),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
            parse_math=False,
        )
    left.set_title("samples of the search", loc="left")
    right.set_title("held-out samples", loc="left")
    arrow = "↑" if metric.higher_is_better else "↓"
    left.set_ylabel(f"{metric.name} {arrow}")
    for axes in (left, right):
        axes.set_xlabel("cost, in input gradients")
    return figure
