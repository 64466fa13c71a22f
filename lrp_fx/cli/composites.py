"""The command ``lrp-fx composites``: which rules there are by name."""

from __future__ import annotations

import re

from rich.markup import escape
from rich.table import Table

from lrp_fx.cli.options import BLOG, TalkOptions
from lrp_fx.cli.talk import Talk
from lrp_fx.composites import PRESETS, compat


def composites(talk: TalkOptions) -> None:
    """List the composites (which operation gets which rule) that --composite knows.

    Examples:
      lrp-fx composites
      lrp-fx composites --json
    """
    voice = Talk(talk)
    known = {name: factory.__doc__ for name, factory in PRESETS.items()}
    known[BLOG] = compat.blog.__doc__
    lines = {
        name: plain_words((text or "").strip().partition("\n")[0]) for name, text in known.items()
    }
    table = Table("composite", "what it does", box=None)
    for name, line in lines.items():
        if talk.quiet:
            voice.result(name)
        table.add_row(name, escape(line))
    voice.show(table)
    voice.document({"composites": [{"name": name, "what": line} for name, line in lines.items()]})


def plain_words(docstring: str) -> str:
    """The text without the roles of Sphinx: ``Flat`` for ``:class:`~lrp_fx.rules.Flat```."""
    without_roles = re.sub(
        r":\w+:`~?([^`]+)`", lambda m: m[1].rpartition(".")[2] if "~" in m[0] else m[1], docstring
    )
    return without_roles.replace("``", "").replace('start="softmax"', "--start softmax")
