"""The command ``lrp-fx explain``: maps of photographs, arrays and tables."""

from __future__ import annotations

from pathlib import Path

from lrp_fx.cli.maps import Maps, explain_all
from lrp_fx.cli.options import (
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


def explain(
    inputs: Inputs,
    model: ModelOptions,
    rules: RuleOptions,
    talk: TalkOptions,
    composite: Composites = None,
    target: Target = PREDICTED,
    single: Single = False,
    save: Save = None,
    out: Out = Path("explanations"),
) -> None:
    """Explain what a model sees in photographs, arrays and tables.

    The first map explains the logit of the class.
    The second one explains what speaks for it and against other classes (start 'against_rest').
    A table says what was predicted, and where the relevance went.
    The folder gets a figure for each input, and finally summary.json and summary.csv.

    Exit code: 0 all well, 1 some inputs failed, 2 wrong usage, 130 interrupted.

    Examples:
      lrp-fx explain cat.jpg
      lrp-fx explain photos/ --target "tiger cat" --save png --save npy
      lrp-fx explain cat.jpg --composite blog --start softmax --top-k 0.05
      lrp-fx explain cat.jpg --composite epsilon_plus --bias distribute
      lrp-fx explain x.npy --model my_models.py:make --categories names.txt
    """
    maps = Maps(tuple(composite or ()), target, tuple(dict.fromkeys(save or ["png"])), out, single)
    explain_all("explain", inputs, model, rules, Talk(talk), maps)
