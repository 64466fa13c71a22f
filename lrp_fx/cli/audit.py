"""The command ``lrp-fx audit``: where the relevance goes, node by node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from lrp_fx.cli.account import Account, account_of, note_on
from lrp_fx.cli.explained import input_of
from lrp_fx.cli.files import make_folder
from lrp_fx.cli.inputs import IN_FOLDERS, Sample, find_images
from lrp_fx.cli.methods import ALL_CLASSES, lrp_of
from lrp_fx.cli.models import check_categories, open_model
from lrp_fx.cli.names import Names
from lrp_fx.cli.options import (
    PREDICTED,
    Composite,
    Inputs,
    ModelOptions,
    RuleOptions,
    Single,
    TalkOptions,
    Target,
)
from lrp_fx.cli.runs import Run
from lrp_fx.cli.settings import settings_of
from lrp_fx.cli.talk import Talk, shown
from lrp_fx.cli.targets import resolve_target
from lrp_fx.errors import NonFiniteError
from lrp_fx.visualize import ledger_figure, save

Figures = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for a figure of each ledger.", show_default="no figures"),
]


def audit(
    inputs: Inputs,
    model: ModelOptions,
    rules: RuleOptions,
    talk: TalkOptions,
    composite: Composite = None,
    target: Target = PREDICTED,
    single: Single = False,
    out: Figures = None,
) -> None:
    """Print the ledger of each input: what every node received, passed on, and took, by cause.

    The ledger closes if the figures add up at every node. One that does not counts as a failure.

    Exit code: 0 all well, 1 some inputs failed or a ledger does not close.
    2 wrong usage, 130 interrupted.

    Examples:
      lrp-fx audit cat.jpg
      lrp-fx audit cat.jpg --composite epsilon_plus --bias distribute --quiet
      lrp-fx audit x.npy --model my_models.py:make --json
    """
    voice = Talk(talk)
    run = Run("audit", voice)
    with voice.usage():
        files = run.readable(find_images(inputs, IN_FOLDERS))
        loaded = open_model(model, voice)
        wanted = resolve_target(target, loaded.categories)
        lrp = lrp_of(loaded, composite, rules)
        if out is not None:
            make_folder(out, "figures")
    names = None
    if out is not None:
        more = ["audit", "single"] if single else ["audit"]
        listed = [composite] if composite else []
        names = Names(out, settings_of(model, rules, out, listed, target, *more))
    accounts: list[Account] = []

    def work(sample: Sample) -> dict[str, Any]:
        x = input_of(loaded, sample)
        with torch.no_grad():
            scores = lrp.explained_output(x)
        check_categories(loaded.categories, scores)
        chosen = wanted
        if rules.start == ALL_CLASSES:
            chosen = None
        elif wanted is None and scores.ndim == 2 and scores.shape[1] > 1:
            chosen = int(scores[0].argmax())
        relevance = lrp.attribute(x, chosen)
        ledger = lrp.audit(x, chosen)
        account = account_of(ledger, relevance, "pixels" if x.ndim == 4 else "values")
        accounts.append(account)
        closes = ledger.closes()
        closing = "the ledger closes" if closes else "the ledger does not close"
        voice.result(f"{sample.label}: {closing}; {account.sentence}")
        voice.show(ledger)
        written = []
        if out is not None and names is not None:
            written.append(
                save(ledger_figure(ledger), out / f"{names.of(sample.file, sample.row)}.png")
            )
            voice.say(f"written: {shown(written[0])}")
        if not closes:
            raise NonFiniteError(f"the ledger does not close: its gap is {ledger.gap[0]:.3g}")
        return {
            "input": os.fsdecode(sample.file),
            "row": sample.row,
            "target": chosen,
            "closes": closes,
            "relevance": account.to_dict(),
            "ledger": ledger.to_dict(),
            "files": [os.fsdecode(path) for path in written],
        }

    run.over(files, work, single=single)
    note = note_on(accounts)
    if note:
        voice.say(f"\n{note}")
    run.finish("ledgers do not close, or could not be made")
