"""The figure of a rule search; needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lrp_fx._drawing import own_style

if TYPE_CHECKING:
    from lrp_fx.evaluate.found import SearchResult

SIZE = (11.0, 4.5)  # inches


@own_style()
def search_figure(result: SearchResult) -> Figure:
    """Left all trials on the samples of the search, right the candidates on the held-out ones.

    The line is the front. Bars are bootstrap intervals.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    on_front = {each.candidate.name for each in result.front}
    scored = set(result.held_out.methods)
    for label, color, names in (
        ("trials", "lightgray", {t.candidate.name for t in result.trials} - scored),
        ("presets", "tab:orange", scored - on_front),
        ("front", "tab:blue", on_front),
    ):
        trials = [each for each in result.trials if each.candidate.name in names]
        costs = [each.cost for each in trials]
        left.scatter(costs, [each.score for each in trials], color=color, label=label, zorder=2)
    left.plot(
        [each.cost for each in result.front],
        [each.score for each in result.front],
        drawstyle="steps-post",
        color="tab:blue",
    )
    left.legend()
    table = result.held_out.table()
    for name in result.held_out.methods:
        estimate, cost = table[name, result.metric.name], result.trial(name).cost
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
    arrow = "↑" if result.metric.higher_is_better else "↓"
    left.set_ylabel(f"{result.metric.name} {arrow}")
    for axes in (left, right):
        axes.set_xlabel("cost, in input gradients")
    return figure
