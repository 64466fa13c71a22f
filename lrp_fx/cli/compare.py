"""The command ``lrp-fx compare``: maps of several composites side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from lrp_fx.cli.account import account_of, percent
from lrp_fx.cli.explained import Explained
from lrp_fx.cli.maps import Maps, explain_all
from lrp_fx.cli.methods import Method
from lrp_fx.cli.models import device_of_model
from lrp_fx.cli.options import (
    BLOG,
    PREDICTED,
    Composites,
    Inputs,
    ModelOptions,
    Out,
    RuleOptions,
    Save,
    Single,
    TalkOptions,
    Target,
)
from lrp_fx.cli.talk import Talk
from lrp_fx.composites import PRESETS
from lrp_fx.zoo import LoadedModel

USUAL = ("epsilon_gamma", "epsilon_plus", "epsilon")
ALL = "all"


def compare(
    inputs: Inputs,
    model: ModelOptions,
    rules: RuleOptions,
    talk: TalkOptions,
    composite: Composites = None,
    target: Target = PREDICTED,
    single: Single = False,
    save: Save = None,
    out: Out = Path("comparison"),
) -> None:
    """Compare the maps of several composites: one figure for each input, with all of them.

    Without --composite these are epsilon_gamma, epsilon_plus and epsilon; 'all' means every one.
    A table says how much each brings to the input, and how far its map agrees with the first one.

    Exit code: 0 all well, 1 some inputs failed, 2 wrong usage, 130 interrupted.

    Examples:
      lrp-fx compare cat.jpg
      lrp-fx compare cat.jpg --composite epsilon_plus --composite blog
      lrp-fx compare photos/ --composite all --out comparison
    """
    names = list(composite or USUAL)
    if ALL in names:
        names = [*PRESETS, BLOG]
    maps = Maps(tuple(names), target, tuple(dict.fromkeys(save or ["png"])), out, single)
    explain_all("compare", inputs, model, rules, Talk(talk), maps, compared)


def compared(
    loaded: LoadedModel, methods: Sequence[Method], explained: Explained
) -> tuple[Table, dict[str, Any]]:
    """How the maps differ, as a table and for the summary.

    Args:
        loaded: the model.
        methods: of the maps.
        explained: the sample with its maps.
    """
    x = explained.explanation.inputs.to(device_of_model(loaded.model))
    first = next(iter(explained.maps.values()))
    table = Table("composite", "at the input", "agreement with the first", box=None)
    table.columns[1].justify = table.columns[2].justify = "right"
    rows = []
    for method in methods:
        relevance = explained.maps.get(method.title)
        if relevance is None:
            continue
        ledger = method.lrp.audit(x, explained.target if method.takes_target else None)
        account = account_of(ledger, relevance, explained.account.input)
        pair = torch.stack([first.flatten(), relevance.flatten()]).double()
        agreement = float(torch.corrcoef(pair)[0, 1])
        share = "-" if account.share is None else percent(account.share)
        table.add_row(method.title, share, f"{agreement:.3f}")
        rows.append(
            {"composite": method.title, "agreement": agreement, "relevance": account.to_dict()}
        )
    return table, {"compared": rows}
